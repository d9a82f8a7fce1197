//! A host whose disks are [`SimFile`]s and whose clock jumps from event to event.
//!
//! An operation has two moments, each after a random delay: it *takes effect* (a write changes the
//! view, a read looks at it), and it is *reported*. So operations overtake each other, and a crash
//! finds some that were never begun, some half done, and some done that nobody was told of. A flush
//! covers what was reported before it was submitted, and holds once it is reported.
//!
//! A crash can be planned: after so many events, or flushes, the host dies inside `poll`. What is
//! in flight then takes effect wholly, in part or not at all, the disks suffer the power cut or the
//! kill, and from then on nothing is reported, and no memory touched, until [`SimHost::revive`].
//!
//! The host checks its guest as well: it panics at an operation on a closed file, a write through a
//! read-only open or to a base, a range that is not whole sectors, a close with operations under
//! way.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::time::Duration;

use slotmap::SlotMap;

use super::disk::SimFile;
use super::index;
use super::knobs::{Crash, Knobs, When};
use super::prng::Prng;
use super::trace::Trace;
use crate::host::{
    Access, FileId, Host, HostError, OpKind, OpenRequest, OpenedFile, Operation, Severity, Token,
};

mod crash;
mod flight;
#[cfg(test)]
mod tests;

use flight::{Flight, FlightKey};

/// A file to put on the simulated disk.
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// Its name.
    pub name: String,
    /// Its durable content.
    pub bytes: Vec<u8>,
    /// A device keeps its length.
    pub is_device: bool,
    /// Nobody may open it for writing: a base.
    pub protected: bool,
}

/// What the host has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Operations submitted.
    pub operations: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Events: operations that took effect, and reports.
    pub events: u64,
    /// Operations reported as failed, for whatever reason.
    pub errors: u64,
    /// Flushes among them.
    pub failed_flushes: u64,
}

struct NamedFile {
    name: String,
    file: SimFile,
    protected: bool,
    readers: u32,
    writers: u32,
    /// A device grows up to this many bytes.
    limit: u64,
}

struct OpenFile {
    file: usize,
    access: Access,
    in_flight: u32,
}

/// A simulated host.
pub struct SimHost {
    world: RefCell<World>,
    trace: Rc<Trace>,
}

struct World {
    rng: Prng,
    knobs: Knobs,
    trace: Rc<Trace>,
    now_us: u64,
    files: Vec<NamedFile>,
    opened: Vec<Option<OpenFile>>,
    flights: SlotMap<FlightKey, Flight>,
    /// When what happens; the sequence number decides between events of one time.
    queue: BinaryHeap<Reverse<(u64, u64, FlightKey)>>,
    sequence: u64,
    planned: Option<(When, Crash)>,
    dead: Option<Crash>,
    stats: Stats,
    scratch: Vec<u8>,
}

impl SimHost {
    /// A host without files.
    pub fn new(rng: Prng, knobs: Knobs, trace: Rc<Trace>) -> Self {
        let world = World {
            rng,
            knobs,
            trace: Rc::clone(&trace),
            now_us: 0,
            files: Vec::new(),
            opened: Vec::new(),
            flights: SlotMap::with_key(),
            queue: BinaryHeap::new(),
            sequence: 0,
            planned: None,
            dead: None,
            stats: Stats::default(),
            scratch: Vec::new(),
        };
        Self {
            world: RefCell::new(world),
            trace,
        }
    }

    /// Puts a file on the disk. A device can grow to twice its length.
    pub fn add_file(&self, spec: FileSpec) {
        let FileSpec {
            name,
            bytes,
            is_device,
            protected,
        } = spec;
        let limit = 2 * bytes.len() as u64;
        let file = SimFile::new(bytes, is_device);
        let named = NamedFile {
            name,
            file,
            protected,
            readers: 0,
            writers: 0,
            limit,
        };
        self.world.borrow_mut().files.push(named);
    }

    /// From now on nobody may open this file for writing.
    pub fn protect(&self, name: &str) {
        let mut world = self.world.borrow_mut();
        let file = world.find(name).expect("a file that exists");
        world.files[file].protected = true;
    }

    /// Looks at a file, if there is one of this name.
    pub fn look<T>(&self, name: &str, look: impl FnOnce(&SimFile) -> T) -> Option<T> {
        let world = self.world.borrow();
        world.find(name).map(|file| look(&world.files[file].file))
    }

    /// Changes a file that nobody has open, durably, as somebody else would who had it in between.
    pub fn poke(&self, name: &str, offset: u64, bytes: &[u8]) {
        self.change(name, |file| file.poke(offset, bytes));
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut SimFile)) {
        let mut world = self.world.borrow_mut();
        let file = world.find(name).expect("a file that exists");
        let named = &mut world.files[file];
        assert_eq!(named.readers + named.writers, 0, "{name} is open");
        change(&mut named.file);
    }

    /// Cuts a file that nobody has open down to `len` bytes, durably.
    pub fn shorten(&self, name: &str, len: u64) {
        self.change(name, |file| file.shorten(len));
    }

    /// Appends `bytes` to a file that nobody has open, durably.
    pub fn lengthen(&self, name: &str, bytes: &[u8]) {
        self.change(name, |file| file.extend(bytes));
    }

    /// Turns the knobs.
    pub fn set_knobs(&self, knobs: Knobs) {
        self.world.borrow_mut().knobs = knobs;
    }

    /// What it has counted.
    pub fn stats(&self) -> Stats {
        self.world.borrow().stats
    }

    /// Virtual time since the beginning, in microseconds.
    pub fn now_us(&self) -> u64 {
        self.world.borrow().now_us
    }

    /// How many operations are under way.
    pub fn in_flight(&self) -> usize {
        self.world.borrow().flights.len()
    }

    /// How many opens were not closed.
    pub fn open_files(&self) -> usize {
        self.world.borrow().opened.iter().flatten().count()
    }

    /// Plans a crash (`None`: no crash any more).
    pub fn plan_crash(&self, plan: Option<(When, Crash)>) {
        self.world.borrow_mut().planned = plan;
    }

    /// Crashes now.
    pub fn crash(&self, crash: Crash) {
        self.world.borrow_mut().die(crash);
    }

    /// How the host died, if it did.
    pub fn dead(&self) -> Option<Crash> {
        self.world.borrow().dead
    }

    /// Starts the machine, or the process, again: no file is open, no crash is planned.
    pub fn revive(&self) {
        self.world.borrow_mut().revive();
    }
}

// SAFETY: an operation that has been answered, or lost in a crash, is forgotten.
unsafe impl Host for SimHost {
    fn open(&self, request: &OpenRequest) -> Result<OpenedFile, HostError> {
        self.world.borrow_mut().open(request)
    }

    fn close(&self, file: FileId) {
        self.world.borrow_mut().close(file);
    }

    fn submit(&self, operation: Operation) {
        self.world.borrow_mut().submit(operation);
    }

    fn poll(&self, timeout: Option<Duration>, done: &mut dyn FnMut(Token, i64)) -> bool {
        let mut reports = Vec::new();
        let going_on = self.world.borrow_mut().advance(timeout, &mut reports);
        for (token, result) in &reports {
            done(*token, *result);
        }
        going_on || !reports.is_empty()
    }

    fn log(&self, severity: Severity, message: &str) {
        self.trace.note(
            &[severity as u64],
            format_args!("log: {severity:?}: {message}"),
        );
    }
}

impl World {
    fn find(&self, name: &str) -> Option<usize> {
        let plain = plain(name);
        self.files.iter().position(|file| file.name == plain)
    }

    fn open(&mut self, request: &OpenRequest) -> Result<OpenedFile, HostError> {
        let OpenRequest {
            role, name, access, ..
        } = request;
        self.trace.note(
            &[*access as u64],
            format_args!("open {name} {role:?} {access:?}"),
        );
        let refuse = |errno, why: &str| {
            Err(HostError {
                errno,
                message: format!("cannot open {name}: {why}"),
            })
        };
        if self.dead.is_some() {
            return refuse(libc::EIO, "the host is dead");
        }
        let Some(file) = self.find_or_create(name, *access) else {
            return refuse(libc::ENOENT, "no such file");
        };
        let named = &mut self.files[file];
        let writes = matches!(access, Access::ReadWrite | Access::Create);
        assert!(
            !(writes && named.protected),
            "{name} is a base, opened for writing"
        );
        let busy = match access {
            Access::ReadUnlocked => false,
            Access::ReadOnly => named.writers > 0,
            Access::ReadWrite | Access::Create => named.writers + named.readers > 0,
        };
        if busy {
            return refuse(libc::EBUSY, "another process has it open");
        }
        *named.lock_count(*access) += u32::from(*access != Access::ReadUnlocked);
        if *access == Access::Create && !named.file.is_device() {
            named.file.make_empty();
        }
        let (length, is_device) = (named.file.len(), named.file.is_device());
        self.opened.push(Some(OpenFile {
            file,
            access: *access,
            in_flight: 0,
        }));
        let id = u32::try_from(self.opened.len() - 1).expect("fewer than 2^32 opens");
        Ok(OpenedFile {
            id: FileId(id),
            length,
            is_device,
        })
    }

    fn find_or_create(&mut self, name: &str, access: Access) -> Option<usize> {
        let found = self.find(name);
        if found.is_some() || access != Access::Create {
            return found;
        }
        let name = plain(name);
        let file = SimFile::new(Vec::new(), false);
        self.files.push(NamedFile {
            name,
            file,
            protected: false,
            readers: 0,
            writers: 0,
            limit: 0,
        });
        Some(self.files.len() - 1)
    }

    fn close(&mut self, id: FileId) {
        if self.dead.is_some() {
            return;
        }
        let opened = self.opened[index(u64::from(id.0))]
            .take()
            .expect("a close of an open file");
        assert_eq!(opened.in_flight, 0, "a close with operations under way");
        let named = &mut self.files[opened.file];
        *named.lock_count(opened.access) -= u32::from(opened.access != Access::ReadUnlocked);
        self.trace
            .note(&[u64::from(id.0)], format_args!("close {}", named.name));
    }

    fn submit(&mut self, operation: Operation) {
        if self.dead.is_some() {
            return;
        }
        let opened = self.opened[index(u64::from(operation.file.0))].as_mut();
        let opened = opened.expect("an operation on an open file");
        let flight = Flight::new(&operation, opened.file, &self.files[opened.file].file);
        flight.check(opened.access, &self.files[opened.file].name);
        opened.in_flight += 1;
        self.stats.operations += 1;
        self.stats.bytes += flight.bytes();
        flight.note(&self.trace, "submit", &self.files[opened.file].name);
        let key = self.flights.insert(flight);
        self.schedule(key, self.knobs.apply_us);
    }

    fn schedule(&mut self, key: FlightKey, within_us: u64) {
        let slow = if self.rng.chance(self.knobs.slow) {
            100
        } else {
            1
        };
        let at = self.now_us + self.rng.below(within_us * slow + 1);
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, key)));
    }

    /// Runs events until one has been reported (and perhaps a few more), or `timeout` is over.
    /// False: there is none left, or the host is dead.
    fn advance(&mut self, timeout: Option<Duration>, reports: &mut Vec<(Token, i64)>) -> bool {
        if self.dead.is_none() && self.rng.chance(self.knobs.idle_polls) {
            return true;
        }
        let wait_us = timeout.map(|t| u64::try_from(t.as_micros()).unwrap_or(u64::MAX));
        let until = wait_us.map_or(u64::MAX, |wait| self.now_us.saturating_add(wait));
        let answers = 1 + self.rng.below(self.knobs.batch + 1);
        while self.dead.is_none() && (reports.len() as u64) < answers {
            let Some(Reverse((at, _, key))) = self.queue.peek().copied() else {
                return false;
            };
            if at > until {
                self.now_us = until;
                return true;
            }
            self.queue.pop();
            self.now_us = self.now_us.max(at);
            self.event(key, reports);
        }
        self.dead.is_none()
    }

    fn event(&mut self, key: FlightKey, reports: &mut Vec<(Token, i64)>) {
        if let Some(crash) = self.crash_that_is_due(key) {
            return self.die(crash);
        }
        self.stats.events += 1;
        match self.flights[key].result {
            None => {
                self.apply(key);
                self.schedule(key, self.knobs.report_us);
            }
            Some(result) => reports.push(self.report(key, result)),
        }
    }

    /// The planned crash, if it comes instead of this event.
    fn crash_that_is_due(&mut self, key: FlightKey) -> Option<Crash> {
        let flight = &self.flights[key];
        let flushes = matches!(flight.kind, OpKind::Flush) && flight.result.is_none();
        let (when, crash) = self.planned.as_mut()?;
        let left = match when {
            When::Events(left) => left,
            When::Flushes(left) if flushes => left,
            When::Flushes(_) => return None,
        };
        let due = *left == 0;
        *left = left.saturating_sub(1);
        due.then_some(*crash)
    }

    /// Takes an operation off the list, and says what is reported.
    fn report(&mut self, key: FlightKey, result: i64) -> (Token, i64) {
        let flight = self
            .flights
            .remove(key)
            .expect("an operation is reported once");
        let opened = self.opened[index(u64::from(flight.handle.0))].as_mut();
        opened
            .expect("a file stays open while it is used")
            .in_flight -= 1;
        let named = &mut self.files[flight.file];
        if let Some(write) = flight.write {
            named.file.complete(write);
        }
        if matches!(flight.kind, OpKind::Flush) {
            let faults = self.knobs.faults;
            match result {
                0 => named.file.flush_end(flight.stamp),
                _ => named.file.flush_failed(
                    flight.stamp,
                    &mut self.rng,
                    faults.dropped,
                    faults.reverted,
                ),
            }
            self.stats.failed_flushes += u64::from(result < 0);
        }
        self.stats.errors += u64::from(result < 0);
        flight.note(&self.trace, "report", &named.name);
        (flight.token, result)
    }
}

/// A name without the steps that lead nowhere.
fn plain(name: &str) -> String {
    let steps = name.split('/').filter(|step| !["", "."].contains(step));
    steps.collect::<Vec<_>>().join("/")
}

impl NamedFile {
    fn lock_count(&mut self, access: Access) -> &mut u32 {
        match access {
            Access::ReadOnly | Access::ReadUnlocked => &mut self.readers,
            Access::ReadWrite | Access::Create => &mut self.writers,
        }
    }
}
