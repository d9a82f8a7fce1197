//! Exploring: all runs of one plan, and every crash in any of them.
//!
//! What comes of it is a [`Summary`]: what the disk read where the plan sets out from a crash, and
//! the *edges*: which disks a crash can leave, and what the guest may then read. The same state is
//! met over and over again in different runs, so two things are remembered: a crash with the same
//! disk and the same promises is enumerated once; a run that comes to a state in which another run
//! has been is cut there. A state is all that the guest was told, in order; which operations have
//! ended, in whatever order; the disk, and what is under way on it. The library's own memory cannot
//! be looked at; that a cut loses nothing is checked by doing without on small programs (see
//! [`Cuts`]).

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::choice::Choices;
use super::content::Content;
use super::crash::{Crash, Places, Start, each_start};
use super::guest::Guest;
use super::host::{Event, ModelHost, Watch};
use super::intern::Interner;
use super::mix::{Set, hash};
use super::oracle::{Allowed, Oracle};
use super::run::{Plan, run};

/// Whether a run is cut where another has been.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cuts {
    /// It is.
    Seen,
    /// Every run goes to its end.
    Never,
}

/// What different explorations have in common.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) starts: Interner<Start>,
    pub(crate) places: Interner<Places>,
    pub(crate) promises: Interner<Vec<Allowed>>,
    pub(crate) figures: Figures,
}

/// What was counted.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Figures {
    /// Runs from start to end, or to a cut.
    pub(crate) runs: u64,
    /// Moments at which power cuts and kills were enumerated.
    pub(crate) moments: u64,
    /// Disks that those left, counted as often as they came.
    pub(crate) crashes: u64,
}

/// What happened, in order.
pub(crate) type Events = Rc<[Event]>;

/// A disk that a crash can leave, and what it may read.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Edge {
    pub(crate) start: u32,
    pub(crate) places: u32,
    pub(crate) promises: u32,
}

/// All that can come of a plan, in the order in which it was found.
#[derive(Default)]
pub(crate) struct Summary {
    /// What the disk read after its recovery.
    pub(crate) reads: Vec<(Vec<Content>, Events)>,
    pub(crate) edges: Vec<(Edge, Crash, Events)>,
    /// The first thing that was wrong.
    pub(crate) wrong: Option<(String, Events)>,
}

/// Plays all runs of a plan.
pub(crate) fn explore(plan: &Plan<'_>, cuts: Cuts, known: &Rc<RefCell<Known>>) -> Summary {
    let found = Rc::new(RefCell::new(Found::default()));
    let mut choices = Choices::default();
    loop {
        let guest = plan.guest();
        let host = ModelHost::new(plan.disk.clone(), choices, plan.faults);
        host.watched_by(Rc::new(Watcher {
            guest: Rc::clone(&guest),
            known: Rc::clone(known),
            found: Rc::clone(&found),
            cuts,
        }));
        known.borrow_mut().figures.runs += 1;
        play(plan, &host, &guest, &found);
        choices = host.choices.take();
        if found.borrow().summary.wrong.is_some() || !choices.next_run() {
            break;
        }
    }
    found.take().summary
}

/// Plays one run, and takes down what came of it.
fn play(plan: &Plan<'_>, host: &Rc<ModelHost>, guest: &Guest, found: &RefCell<Found>) {
    let outcome = catch_unwind(AssertUnwindSafe(|| run(plan, host, guest)));
    let summary = &mut found.borrow_mut().summary;
    let events = host.events.borrow();
    match outcome {
        Err(_) => guest.complain("the library panicked".to_owned()),
        Ok(Some((contents, at))) => {
            if !summary.reads.iter().any(|(known, _)| *known == contents) {
                summary.reads.push((contents, events[..at].into()));
            }
        }
        Ok(None) => {}
    }
    summary.wrong = guest.wrong().map(|wrong| (wrong, events.as_slice().into()));
}

#[derive(Default)]
struct Found {
    summary: Summary,
    edges: Set<Edge>,
    /// Where runs have been.
    states: Set<u64>,
    /// When crashes were enumerated.
    moments: Set<u64>,
}

struct Watcher {
    guest: Rc<Guest>,
    known: Rc<RefCell<Known>>,
    found: Rc<RefCell<Found>>,
    cuts: Cuts,
}

impl Watch for Watcher {
    fn look(&self, host: &ModelHost) -> bool {
        let go_on = self.take_down(host);
        if !go_on {
            self.guest.leave();
        }
        go_on
    }

    fn failed(&self, flush: bool) {
        self.guest.host_failed(flush);
    }
}

impl Watcher {
    /// Takes down what a crash could leave now. False: another run has been here.
    fn take_down(&self, host: &ModelHost) -> bool {
        if self.guest.wrong().is_some() {
            return false;
        }
        if !host.choices.borrow().is_fresh() {
            // An earlier run went through here, and looked.
            return true;
        }
        let disk = host.disk.borrow().fingerprint();
        let promises = self.guest.oracle(|oracle| oracle.fingerprint());
        let found = &mut *self.found.borrow_mut();
        if found.moments.insert(hash(&(disk, promises))) {
            self.enumerate_crashes(host, found);
        }
        let state = (
            disk,
            host.disk.borrow().history(),
            host.open_files(),
            self.guest.told(),
        );
        self.cuts == Cuts::Never || found.states.insert(hash(&state))
    }

    fn enumerate_crashes(&self, host: &ModelHost, found: &mut Found) {
        let known = &mut *self.known.borrow_mut();
        known.figures.moments += 1;
        let disk = &*host.disk.borrow();
        let what = Places::of(disk);
        let places = known.places.number(&what);
        let promises = self.guest.oracle(Oracle::after_crash);
        let promises = known.promises.number(&promises);
        for crash in [Crash::PowerCut, Crash::Kill] {
            each_start(disk, &what, crash, &mut |start| {
                known.figures.crashes += 1;
                let start = known.starts.number(&start);
                let edge = Edge {
                    start,
                    places,
                    promises,
                };
                if found.edges.insert(edge) {
                    let events = host.events.borrow().as_slice().into();
                    found.summary.edges.push((edge, crash, events));
                }
            });
        }
    }
}
