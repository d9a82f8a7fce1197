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

use fvd::host::Host;
use fvd::host::sim::{Crash, Faults, Knobs, Oracle, Prng, SimHost, Trace};
use fvd::{Image, OpenOptions};

use super::guest::{Guest, Tally};
use super::inspect;
use super::scenario::Scenario;
use super::world::{IMAGE, build};

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
    let mut guest = Guest::new(Rc::clone(&host), Rc::clone(&trace), scenario.mix, oracle, guest_rng);
    let layout = &scenario.layout;
    guest.knows(layout.write_through, layout.chunk_size.unwrap_or(layout.block_size) / 512);
    let first_write = initial.next_write;
    let steps = options.steps.unwrap_or(scenario.steps);
    let fast_path = !options.no_fast_path;
    let counts = Counts::default();
    let (step, bytes) = (0, Vec::new());
    let mut life =
        Life { scenario, host, guest, rng, trace, counts, fast_path, first_write, step, bytes };
    life.run(steps).map_err(|what| format!("step {}: {what}", life.step))?;
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
        let Counts { power_cuts, kills, sessions } = self.counts;
        let (kind, tally) = (self.scenario.layout.kind(), self.guest.tally());
        Report { kind, tally, power_cuts, kills, sessions, hash: self.trace.hash() }
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
                let crash = self.draw_crash();
                self.host.plan_crash(Some((self.rng.skewed(12), crash)));
            }
        } else {
            let timeout = self.rng.chance(50).then(|| Duration::from_micros(self.rng.below(50)));
            let going_on = self.guest.poll(timeout);
            if !going_on && self.guest.waiting() > 0 && self.host.dead().is_none() {
                let tasks = self.guest.with_image(Image::tasks);
                return Err(format!("{} requests are stuck: {tasks:?}", self.guest.waiting()));
            }
        }
        Ok(())
    }

    /// After a failed flush the guest sees errors for a while, and then gives up the session.
    fn lost_session(&mut self) -> bool {
        self.guest.flush_failed() && self.rng.chance(100)
    }

    fn draw_crash(&mut self) -> Crash {
        if self.rng.chance(self.scenario.trouble.kill) { Crash::Kill } else { Crash::PowerCut }
    }

    /// A crash now, or in a while.
    fn plan_crash(&mut self) {
        let crash = self.draw_crash();
        if self.rng.chance(200) {
            self.host.crash(crash);
        } else {
            self.host.plan_crash(Some((self.rng.skewed(200), crash)));
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
        let image = self.guest.take_image().expect("a session has an image");
        let result = image.close();
        self.guest.verdict()?;
        if self.host.dead().is_some() {
            return Ok(Attempt::Died);
        }
        let (failed, lost) = (self.guest.host_failed(), self.guest.flush_failed());
        self.trace.note(&[u64::from(result.is_ok())], format_args!("closed: {result:?}"));
        if self.guest.waiting() > 0 || self.host.in_flight() > 0 {
            return Err("the image was closed with requests or operations under way".into());
        }
        match result {
            Ok(()) if lost => Err("a close succeeded after a flush failed".into()),
            Ok(()) => {
                self.guest.oracle.borrow_mut().closed();
                inspect::closed(&self.host)?;
                Ok(Attempt::Done)
            }
            Err(_) if failed => {
                self.guest.oracle.borrow_mut().crashed();
                Ok(Attempt::Failed)
            }
            Err(error) => Err(format!("a close failed for no reason: {error}")),
        }
    }

    /// The host died: everything under way is over. Opens the image again.
    fn recover(&mut self) -> Result<(), String> {
        if let Some(image) = self.guest.take_image() {
            // SAFETY: a dead host touches no memory.
            unsafe { image.abandon() };
        }
        self.guest.flush_failed();
        self.guest.forget_requests();
        self.guest.oracle.borrow_mut().crashed();
        let crash = self.revive(Crash::Kill);
        self.reopen(Some(crash))
    }

    /// Starts the machine again. Returns the worse of `before` and how it died.
    fn revive(&mut self, before: Crash) -> Crash {
        let died = self.host.dead().expect("only a dead host is revived");
        match died {
            Crash::PowerCut => self.counts.power_cuts += 1,
            Crash::Kill => self.counts.kills += 1,
        }
        self.host.revive();
        if before == Crash::PowerCut { before } else { died }
    }

    /// Opens the image, after a crash or a clean close (`None`), however often that is cut short.
    fn reopen(&mut self, mut after: Option<Crash>) -> Result<(), String> {
        for attempt in 0.. {
            let calm = attempt >= 5;
            if !calm && self.rng.chance(self.scenario.trouble.crash_again) {
                let crash = self.draw_crash();
                self.host.plan_crash(Some((self.rng.skewed(100), crash)));
            }
            let faults = !calm && self.rng.chance(300);
            match self.try_to_open(after, faults)? {
                Attempt::Done => break,
                Attempt::Died => {
                    self.give_up_session();
                    after = Some(self.revive(after.unwrap_or(Crash::Kill)));
                }
                Attempt::Failed => {
                    self.give_up_session();
                    after = Some(after.unwrap_or(Crash::Kill));
                }
            }
        }
        self.host.set_knobs(self.scenario.knobs);
        self.counts.sessions += 1;
        Ok(())
    }

    /// An open, or the look at the disk after it, came to nothing.
    fn give_up_session(&mut self) {
        if let Some(image) = self.guest.take_image() {
            // SAFETY: either the host is dead, or nothing is under way after a look.
            unsafe { image.abandon() };
        }
        self.guest.oracle.borrow_mut().crashed();
    }

    fn knobs(&self, faults: bool) -> Knobs {
        let Knobs { faults: drawn, .. } = self.scenario.knobs;
        Knobs { faults: if faults { drawn } else { Faults::default() }, ..self.scenario.knobs }
    }

    fn try_to_open(&mut self, after: Option<Crash>, faults: bool) -> Result<Attempt, String> {
        if self.rng.chance(self.scenario.trouble.look) {
            let looked = self.look_read_only(after)?;
            if looked != Attempt::Done {
                return Ok(looked);
            }
        }
        self.host.set_knobs(self.knobs(faults));
        let before = self.host.stats();
        let opened = self.open(false);
        let stats = self.host.stats();
        self.host.set_knobs(self.knobs(false));
        if stats.failed_flushes > before.failed_flushes {
            self.guest.oracle.borrow_mut().host_flush_failed();
        }
        match opened {
            Ok(image) if stats.failed_flushes > before.failed_flushes => {
                drop(image);
                Err("an open succeeded though a flush failed".into())
            }
            Ok(image) => {
                inspect::recovery_was_bounded(&image, stats.bytes - before.bytes)?;
                inspect::space_is_free_again(&image)?;
                self.guest.begin(image);
                self.look(after)
            }
            Err(_) if self.host.dead().is_some() => Ok(Attempt::Died),
            Err(_) if stats.errors > before.errors => Ok(Attempt::Failed),
            Err(error) => Err(format!("the image does not open by itself: {error}")),
        }
    }

    fn open(&self, read_only: bool) -> Result<Image, fvd::Error> {
        let host: Rc<dyn Host> = self.host.clone();
        let write_through = self.scenario.layout.write_through;
        let fast_path = self.fast_path;
        let journal_limit = self.scenario.layout.journal_limit;
        let options = OpenOptions {
            read_only,
            write_through,
            fast_path,
            journal_limit,
            ..OpenOptions::default()
        };
        Image::open(&host, IMAGE, &options)
    }

    /// Somebody looks at the image before it is recovered.
    fn look_read_only(&mut self, after: Option<Crash>) -> Result<Attempt, String> {
        self.host.set_knobs(self.knobs(false));
        match self.open(true) {
            Ok(image) => self.guest.begin(image),
            Err(_) if self.host.dead().is_some() => return Ok(Attempt::Died),
            Err(error) => return Err(format!("the image does not open read-only: {error}")),
        }
        let looked = self.look(after)?;
        if looked == Attempt::Done {
            let image = self.guest.take_image().expect("it was looked at");
            if let Err(error) = image.close()
                && self.host.dead().is_none()
            {
                return Err(format!("closing a read-only image failed: {error}"));
            }
        }
        Ok(if self.host.dead().is_some() { Attempt::Died } else { looked })
    }

    /// Reads the whole disk, and compares.
    fn look(&mut self, after: Option<Crash>) -> Result<Attempt, String> {
        let size = self.guest.with_image(Image::virtual_size).expect("an image is open");
        let piece = self.rng.pick(&[64 << 10, 256 << 10, 1 << 20]);
        let mut offset = 0;
        while offset < size {
            let len = usize::try_from(piece.min(size - offset)).expect("a small piece");
            self.bytes.resize(len.max(self.bytes.len()), 0);
            let bytes = &mut self.bytes[..len];
            let read = self.guest.oracle.borrow_mut().begin_read();
            let result = self.guest.with_image(|image| image.read_at(offset, bytes));
            if self.host.dead().is_some() {
                return Ok(Attempt::Died);
            }
            if let Some(Err(error)) = result {
                return Err(format!("a look at the disk failed: {error}"));
            }
            let mut oracle = self.guest.oracle.borrow_mut();
            let judged = match after {
                Some(crash) => oracle.observe(crash, offset / 512, bytes),
                None => oracle.check_read(read, offset / 512, bytes),
            };
            judged.map_err(|violation| violation.to_string())?;
            oracle.end_read(read);
            offset += len as u64;
        }
        self.guest.with_image(|image| inspect::map(image, self.first_write)).unwrap_or(Ok(()))?;
        Ok(Attempt::Done)
    }

    /// Closes for good, and looks once more.
    fn finish(&mut self) -> Result<(), String> {
        self.scenario.knobs = self.knobs(false);
        self.scenario.trouble.crash_again = 0;
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
