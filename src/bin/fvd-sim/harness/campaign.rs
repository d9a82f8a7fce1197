//! Many seeds, on all cores, until time is up or one fails.
//!
//! Each seed runs twice, with the fast path and without. A panic of the engine is a failure like
//! any other: its message is caught, and told with the seed.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::{Duration, Instant};

use super::life::{Options, Report, live};

thread_local! {
    /// The seed that this thread runs.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    /// What the first panic of this seed said, and where.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on a panic while a seed runs is kept for [`run_seed`] instead of printed. A second one
/// while the first unwinds ends the process, so it is printed, with the first and the seed.
pub(crate) fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let Some(seed) = SEED.get() else {
                return usual(info);
            };
            PANIC.with_borrow_mut(|first| match first {
                None => *first = Some(info.to_string()),
                Some(first) => eprintln!("seed {seed}: {first}\nand then: {info}"),
            });
        }));
    });
}

/// Runs one seed; a panic is an error.
///
/// # Errors
/// What went wrong.
pub(crate) fn run_seed(seed: u64, options: &Options) -> Result<Report, String> {
    SEED.set(Some(seed));
    PANIC.take();
    let run = AssertUnwindSafe(|| live(seed, options));
    let result = catch_unwind(run);
    SEED.set(None);
    result.unwrap_or_else(|_| {
        let message = PANIC
            .take()
            .unwrap_or_else(|| "a panic that said nothing".into());
        Err(message)
    })
}

/// What many seeds went through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) seeds: u64,
    pub(crate) operations: u64,
    pub(crate) cancels: u64,
    pub(crate) failed: u64,
    pub(crate) power_cuts: u64,
    pub(crate) kills: u64,
    pub(crate) sessions: u64,
    pub(crate) kinds: BTreeSet<String>,
}

impl Totals {
    fn add(&mut self, report: Report) {
        let Report {
            kind,
            tally,
            power_cuts,
            kills,
            sessions,
            ..
        } = report;
        self.operations += tally.reads + tally.writes + tally.flushes + tally.fetches;
        self.cancels += tally.cancels;
        self.failed += tally.failed;
        self.power_cuts += power_cuts;
        self.kills += kills;
        self.sessions += sessions;
        self.kinds.insert(kind);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seeds, kinds) = (self.seeds, self.kinds.len());
        write!(
            f,
            "{seeds} seeds (each with and without the fast path), {kinds} configurations: "
        )?;
        let Self {
            operations,
            cancels,
            failed,
            ..
        } = self;
        write!(
            f,
            "{operations} guest operations, {cancels} cancelled, {failed} failed; "
        )?;
        let Self {
            power_cuts,
            kills,
            sessions,
            ..
        } = self;
        write!(
            f,
            "{power_cuts} power cuts, {kills} kills, {sessions} sessions"
        )
    }
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) options: Options,
    pub(crate) what: String,
}

impl Failure {
    /// The arguments that repeat it.
    pub(crate) fn arguments(&self) -> String {
        let path = if self.options.no_fast_path {
            " --no-fast-path"
        } else {
            ""
        };
        let steps = self
            .options
            .steps
            .map_or(String::new(), |steps| format!(" --steps {steps}"));
        format!("--seed {}{path}{steps}", self.seed)
    }
}

/// Runs seed after seed from `first`, on `jobs` threads for `time`. `told` hears of the totals from
/// time to time. Ends at the first failure.
pub(crate) fn run(
    first: u64,
    jobs: usize,
    time: Duration,
    told: impl Fn(&Totals) + Sync,
) -> (Totals, Option<Failure>) {
    let (next, stop) = (AtomicU64::new(first), AtomicBool::new(false));
    let state: Mutex<(Totals, Option<Failure>)> = Mutex::default();
    let end = Instant::now() + time;
    let work = || {
        while !stop.load(Ordering::Relaxed) && Instant::now() < end {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            for no_fast_path in [false, true] {
                let options = Options {
                    no_fast_path,
                    ..Options::default()
                };
                let result = run_seed(seed, &options);
                let mut state = state.lock().expect("no panic while it is held");
                match result {
                    Ok(report) => state.0.add(report),
                    Err(what) => {
                        stop.store(true, Ordering::Relaxed);
                        state.1.get_or_insert(Failure {
                            seed,
                            options,
                            what,
                        });
                    }
                }
            }
            let mut state = state.lock().expect("no panic while it is held");
            state.0.seeds += 1;
            if state.0.seeds.is_multiple_of(1000) {
                told(&state.0);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(work);
        }
    });
    state.into_inner().expect("no panic while it was held")
}
