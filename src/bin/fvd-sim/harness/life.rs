//! One seed from its first step to its verdict: sessions, crashes, recoveries.
//!
//! ```text
//!   build ─▶ open ─▶ steps ─▶ close ─▶ open ─▶ … ─▶ close ─▶ look read-only ─▶ verdict
//!              ▲       │ crash
//!              └─ look ┴──▶ revive ─▶ (look read-only) ─▶ open, perhaps crashing again
//! ```
//!
//! After a crash the image must open by itself and show, in every sector, something that the oracle
//! allows. Where a fault was injected into that open it may fail, and must succeed without.

use std::rc::Rc;
use std::time::Duration;

use fvd::Image;
use fvd::host::sim::{Crash, Oracle, Prng, SimHost, Trace, When};

use super::guest::{Guest, Tally};
use super::inspect;
use super::scenario::{Scenario, Trouble};
use super::world::build;

mod change;
mod foreign;
mod opening;

use change::Changes;

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Options {
    /// So many steps, whatever the seed draws.
    pub(crate) steps: Option<u64>,
    /// Every request becomes a task.
    pub(crate) no_fast_path: bool,
    /// Events go to the standard error output.
    pub(crate) trace: bool,
}

/// What a seed went through without a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) kind: String,
    pub(crate) tally: Tally,
    pub(crate) power_cuts: u64,
    pub(crate) kills: u64,
    pub(crate) sessions: u64,
    /// Tells this run from every other.
    pub(crate) hash: u64,
}

/// Runs a seed.
///
/// # Errors
/// What went wrong, with the step in which it was noticed.
pub(crate) fn live(seed: u64, options: &Options) -> Result<Report, String> {
    let mut rng = Prng::new(seed);
    let scenario = Scenario::draw(&mut rng);
    let trace = Rc::new(Trace::new(options.trace));
    trace.note(&[seed], format_args!("{scenario:?}"));
    let host = Rc::new(SimHost::new(rng.fork(), scenario.knobs, Rc::clone(&trace)));
    let initial = build(&scenario.layout, &host, scenario.knobs, &mut rng.fork())?;
    let oracle = Oracle::new(&initial.content, initial.next_write);
    let guest_rng = rng.fork();
    let mut guest = Guest::new(
        Rc::clone(&host),
        Rc::clone(&trace),
        scenario.mix,
        oracle,
        guest_rng,
    );
    let layout = &scenario.layout;
    guest.knows(
        layout.write_through,
        layout.chunk_size.unwrap_or(layout.block_size) / 512,
    );
    let first_write = initial.next_write;
    let steps = options.steps.unwrap_or(scenario.steps);
    let fast_path = !options.no_fast_path;
    let counts = Counts::default();
    let (step, bytes, changes) = (0, Vec::new(), Changes::default());
    let mut life = Life {
        scenario,
        host,
        guest,
        rng,
        trace,
        counts,
        fast_path,
        first_write,
        changes,
        step,
        bytes,
    };
    life.run(steps)
        .map_err(|what| format!("step {}: {what}", life.step))?;
    Ok(life.report())
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    power_cuts: u64,
    kills: u64,
    sessions: u64,
}

struct Life {
    scenario: Scenario,
    host: Rc<SimHost>,
    guest: Guest,
    rng: Prng,
    trace: Rc<Trace>,
    counts: Counts,
    fast_path: bool,
    /// Writes from this number on are the guest's.
    first_write: u64,
    changes: Changes,
    step: u64,
    /// What a look has read.
    bytes: Vec<u8>,
}

/// How an attempt to do something with the image went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    Done,
    /// The host died.
    Died,
    /// An injected fault made it fail.
    Failed,
}

impl Life {
    fn run(&mut self, steps: u64) -> Result<(), String> {
        self.reopen(None)?;
        while self.step < steps {
            self.step += 1;
            self.take_step()?;
            self.guest.verdict()?;
            if self.host.dead().is_some() {
                self.recover()?;
            }
        }
        self.finish()
    }

    fn report(&self) -> Report {
        let Counts {
            power_cuts,
            kills,
            sessions,
        } = self.counts;
        let (kind, tally) = (self.scenario.layout.kind(), self.guest.tally());
        Report {
            kind,
            tally,
            power_cuts,
            kills,
            sessions,
            hash: self.trace.hash(),
        }
    }

    fn take_step(&mut self) -> Result<(), String> {
        let (mix, trouble) = (self.scenario.mix, self.scenario.trouble);
        if self.rng.chance(trouble.crash) {
            self.plan_crash();
        } else if self.rng.chance(trouble.reopen) || self.lost_session() {
            return self.restart();
        } else if self.rng.chance(mix.cancel) {
            self.guest.cancel_one();
        } else if self.guest.waiting() == 0
            || (self.guest.waiting() < mix.parallelism && self.rng.chance(mix.submit))
        {
            if self.guest.submit() && self.rng.chance(trouble.crash_at_commit) {
                let plan = (self.draw_when(12), self.draw_crash());
                self.host.plan_crash(Some(plan));
            }
        } else {
            let timeout = self
                .rng
                .chance(50)
                .then(|| Duration::from_micros(self.rng.below(50)));
            let going_on = self.guest.poll(timeout);
            if !going_on && self.guest.waiting() > 0 && self.host.dead().is_none() {
                let tasks = self.guest.with_image(Image::tasks);
                return Err(format!(
                    "{} requests are stuck: {tasks:?}",
                    self.guest.waiting()
                ));
            }
        }
        Ok(())
    }

    /// After a failed flush the guest sees errors for a while, and then gives up the session.
    fn lost_session(&mut self) -> bool {
        self.guest.flush_failed() && self.rng.chance(100)
    }

    fn draw_crash(&mut self) -> Crash {
        if self.rng.chance(self.scenario.trouble.kill) {
            Crash::Kill
        } else {
            Crash::PowerCut
        }
    }

    /// In some of the next `events` events, or at one of the next flushes.
    fn draw_when(&mut self, events: u64) -> When {
        match self.rng.chance(500) {
            true => When::Events(self.rng.skewed(events)),
            false => When::Flushes(self.rng.skewed(3)),
        }
    }

    /// A crash now, or in a while.
    fn plan_crash(&mut self) {
        let crash = self.draw_crash();
        if self.rng.chance(200) {
            self.host.crash(crash);
        } else {
            self.host
                .plan_crash(Some((When::Events(self.rng.skewed(200)), crash)));
        }
    }

    /// Ends the session in good order, and begins another.
    fn restart(&mut self) -> Result<(), String> {
        match self.close()? {
            Attempt::Done if self.rng.chance(300) => {
                self.host.crash(Crash::PowerCut);
                self.recover()
            }
            Attempt::Done => self.reopen(None),
            Attempt::Failed => self.reopen(Some(Crash::Kill)),
            Attempt::Died => self.recover(),
        }
    }

    /// Closes the image. `Failed`: not everything was written, for a reason that the host knows.
    fn close(&mut self) -> Result<Attempt, String> {
        if self.rng.chance(500) {
            self.guest.with_image(Image::drain);
        }
        if self.host.dead().is_some() {
            return Ok(Attempt::Died);
        }
        if self.rng.chance(self.scenario.trouble.drop) {
            return self.drop_image();
        }
        let before = self.before_close();
        let image = self.guest.take_image().expect("a session has an image");
        let result = image.close();
        self.guest.verdict()?;
        if self.host.dead().is_some() {
            return Ok(Attempt::Died);
        }
        let (failed, lost) = (self.guest.host_failed(), self.guest.flush_failed());
        let text = format_args!("closed: {result:?}");
        self.trace.note(&[u64::from(result.is_ok())], text);
        self.nothing_is_under_way()?;
        match result {
            Ok(()) if lost => Err("a close succeeded after a flush failed".into()),
            Ok(()) => {
                self.guest.oracle.borrow_mut().closed();
                inspect::closed(&self.host)?;
                self.meddle(before);
                Ok(Attempt::Done)
            }
            Err(_) if failed => {
                self.guest.oracle.borrow_mut().crashed();
                Ok(Attempt::Failed)
            }
            Err(error) => Err(format!("a close failed for no reason: {error}")),
        }
    }

    /// Lets go of the image without closing it: for the next session that is like a kill.
    fn drop_image(&mut self) -> Result<Attempt, String> {
        drop(self.guest.take_image());
        self.guest.verdict()?;
        if self.host.dead().is_some() {
            return Ok(Attempt::Died);
        }
        self.guest.flush_failed();
        self.nothing_is_under_way()?;
        self.guest.oracle.borrow_mut().crashed();
        Ok(Attempt::Failed)
    }

    fn nothing_is_under_way(&self) -> Result<(), String> {
        match (
            self.guest.waiting(),
            self.host.in_flight(),
            self.host.open_files(),
        ) {
            (0, 0, 0) => Ok(()),
            (requests, operations, files) => Err(format!(
                "a closed image left {requests} requests, {operations} operations, {files} files"
            )),
        }
    }

    /// Closes for good, and looks once more.
    fn finish(&mut self) -> Result<(), String> {
        self.scenario.knobs = self.knobs(false);
        self.scenario.trouble = Trouble::default();
        self.host.set_knobs(self.scenario.knobs);
        self.host.plan_crash(None);
        loop {
            match self.close()? {
                Attempt::Done => break,
                Attempt::Failed => self.reopen(Some(Crash::Kill))?,
                Attempt::Died => self.recover()?,
            }
        }
        match self.look_read_only(None)? {
            Attempt::Done => inspect::nothing_is_left(&self.host),
            other => Err(format!("the last look: {other:?}")),
        }
    }
}
