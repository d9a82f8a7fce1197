//! The search: a program on an image, every crash in it, every crash in the recovery from those.
//!
//! A crash leaves a start, and what its unknowns can be, and what the guest may read. From each
//! start the image is opened once in every possible way (for the search remembers it): it must
//! open, and for each sector of the guest's disk that gives a content in terms of the unknowns.
//! What the unknowns can be here, and what may be read here, then decides whether it is right. The
//! same exploration shows which starts a second crash leaves, and those are visited in the same
//! way, until nothing new comes. After the recovery from a first crash the guest uses the image
//! again, with a write that touches all chunks, a flush and a close, and crashes then count too.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;

use super::content::{Content, Meaning};
use super::crash::{Crash, Places};
use super::disk::Disk;
use super::explore::{Cuts, Edge, Events, Figures, Known, Summary, explore};
use super::guest::Request;
use super::host::Faults;
use super::mix::{Map, Set};
use super::oracle::{Allowed, Oracle, admits};
use super::run::{Plan, Task, Timing};
use super::story::Story;

/// A promise that was broken: the whole tale of it.
pub(crate) type Broken = String;

/// What the guest does with an image that was recovered: it makes the recovered content binding,
/// and takes every chunk that is free, for little of it.
const USE: [Request; 6] = [
    Request::Flush,
    Request::Write(4..5),
    Request::Write(12..13),
    Request::Write(20..21),
    Request::Flush,
    Request::Close,
];

/// Writes after a recovery have numbers from here on.
const WRITES_AFTER_CRASH: u32 = 100;

/// What is done with a crashed image.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Step {
    /// It is opened, and used.
    Use,
    /// It is opened.
    Open,
    /// It is opened, and an operation may fail.
    Fail(Faults),
    /// The story's attributes are changed.
    Update,
}

/// A search over one story.
pub(crate) struct Search {
    story: Story,
    disk: Disk,
    contents: Vec<Content>,
    known: Rc<RefCell<Known>>,
    /// What comes of each start.
    summaries: Map<(u32, Step), Rc<Summary>>,
    /// Starts that were visited, with what their unknowns could be and what was promised.
    visited: Set<(Edge, Step)>,
    /// What places of a start are, given those of the start before it.
    places: Map<(u32, u32), u32>,
    /// What promises at a start are, given promises and places of the start before it.
    promises: Map<(u32, u32, u32), u32>,
    pub(crate) programs: u64,
}

/// A start to visit.
struct Visit {
    edge: Edge,
    step: Step,
    /// Where it came from; `None`: from the program.
    from: Option<usize>,
    /// What happened there, until it crashed.
    events: Events,
    crash: Crash,
}

impl Search {
    /// A search over the programs of `story`.
    pub(crate) fn new(story: Story) -> Self {
        let (disk, contents) = story.begin();
        Self {
            story,
            disk,
            contents,
            known: Rc::default(),
            summaries: Map::default(),
            visited: Set::default(),
            places: Map::default(),
            promises: Map::default(),
            programs: 0,
        }
    }

    /// Plays a program in every way, with every crash.
    pub(crate) fn check(
        &mut self,
        program: &[Request],
        faults: Faults,
        cuts: Cuts,
    ) -> Result<(), Broken> {
        self.programs += 1;
        let plan = Plan {
            disk: &self.disk,
            oracle: Oracle::known(&self.contents),
            task: Task::Use {
                program,
                timing: Timing::AnyTime,
                first_write: 1,
            },
            faults,
            options: self.story.open.clone(),
            crashed: None,
        };
        let summary = explore(&plan, cuts, &self.known);
        let program: Vec<_> = program.iter().map(Request::to_string).collect();
        let title = format!(
            "{}: [{}], faults: {faults:?}",
            self.story.create,
            program.join(", ")
        );
        if let Some((wrong, events)) = &summary.wrong {
            return Err(format!("{title}\n{}=> {wrong}\n", told(events)));
        }
        self.visit_all(&summary)
            .map_err(|tale| format!("{title}\n{tale}"))
    }

    /// Visits everything that crashes lead to.
    fn visit_all(&mut self, summary: &Summary) -> Result<(), Broken> {
        let mut visits = Vec::new();
        for (edge, crash, events) in &summary.edges {
            for step in self.first_steps() {
                if self.visited.insert((*edge, step)) {
                    let (edge, crash, events) = (*edge, *crash, Rc::clone(events));
                    visits.push(Visit {
                        edge,
                        step,
                        from: None,
                        events,
                        crash,
                    });
                }
            }
        }
        let mut at = 0;
        while at < visits.len() {
            let Visit { edge, step, .. } = visits[at];
            let summary = self.summary(edge.start, step);
            self.judge(&summary, edge)
                .map_err(|wrong| self.tale(&visits, at, &wrong))?;
            let step = match step {
                Step::Use | Step::Open => Step::Open,
                Step::Update | Step::Fail(_) => Step::Use,
            };
            for (next, crash, events) in &summary.edges {
                let edge = self.resolve(*next, edge);
                if !self.visited.contains(&(edge, Step::Use)) && self.visited.insert((edge, step)) {
                    let (crash, events) = (*crash, Rc::clone(events));
                    visits.push(Visit {
                        edge,
                        step,
                        from: Some(at),
                        events,
                        crash,
                    });
                }
            }
            at += 1;
        }
        Ok(())
    }

    /// What is done with an image that crashed in the program.
    fn first_steps(&self) -> Vec<Step> {
        let mut steps = vec![Step::Use];
        if self.story.recovery_fails {
            steps.extend([Step::Fail(Faults::Io), Step::Fail(Faults::Flush)]);
        }
        if !self.story.update.is_empty() {
            steps.push(Step::Update);
        }
        steps
    }

    /// All that can come of a start.
    fn summary(&mut self, start: u32, step: Step) -> Rc<Summary> {
        if let Some(summary) = self.summaries.get(&(start, step)) {
            return Rc::clone(summary);
        }
        let from = self.known.borrow().starts.value(start);
        let (timing, first_write) = (Timing::InTurn, WRITES_AFTER_CRASH);
        let plan = Plan {
            disk: &from.disk(&self.disk),
            oracle: Oracle::inheriting(self.contents.len()),
            task: match step {
                Step::Use => Task::Use {
                    program: &USE,
                    timing,
                    first_write,
                },
                Step::Open | Step::Fail(_) => Task::Use {
                    program: &[],
                    timing,
                    first_write,
                },
                Step::Update => Task::Update(&self.story.update),
            },
            faults: if let Step::Fail(faults) = step {
                faults
            } else {
                Faults::None
            },
            options: self.story.open.clone(),
            crashed: Some(!from.is_stuck()),
        };
        let summary = Rc::new(explore(&plan, Cuts::Seen, &self.known));
        self.summaries.insert((start, step), Rc::clone(&summary));
        summary
    }

    /// Compares what was read after a recovery with what may be read.
    fn judge(&self, summary: &Summary, edge: Edge) -> Result<(), Broken> {
        if let Some((wrong, events)) = &summary.wrong {
            return Err(format!("{}=> {wrong}\n", told(events)));
        }
        let known = self.known.borrow();
        let (places, promises) = (
            known.places.value(edge.places),
            known.promises.value(edge.promises),
        );
        for (contents, events) in &summary.reads {
            for (sector, (content, allowed)) in contents.iter().zip(&*promises).enumerate() {
                let content = substitute(*content, &places);
                if !admits(&allowed.contents, content) {
                    let may: Vec<_> = allowed.contents.iter().map(Content::to_string).collect();
                    let may = may.join(" or ");
                    let wrong = format!("sector {sector} reads {content}; it may read {may}");
                    return Err(format!("{}=> {wrong}\n", told(events)));
                }
            }
        }
        Ok(())
    }

    /// What `next`, a start that crashes of the recovery from `edge` lead to, is in terms that do
    /// not depend on `edge`.
    fn resolve(&mut self, next: Edge, edge: Edge) -> Edge {
        let known = &mut *self.known.borrow_mut();
        let key = (next.places, edge.places);
        let places = *self.places.entry(key).or_insert_with(|| {
            let (new, before) = (
                known.places.value(next.places),
                known.places.value(edge.places),
            );
            known.places.number(&Places {
                cached: substitute_all(&new.cached, &before),
                kept: substitute_all(&new.kept, &before),
            })
        });
        let key = (next.promises, edge.promises, edge.places);
        let promises = *self.promises.entry(key).or_insert_with(|| {
            let new = known.promises.value(next.promises);
            let promised = known.promises.value(edge.promises);
            let before = known.places.value(edge.places);
            let all = new.iter().zip(&*promised);
            let all = all.map(|(new, promised)| kept_promise(new, promised, &before));
            known.promises.number(&all.collect())
        });
        Edge {
            start: next.start,
            places,
            promises,
        }
    }

    /// Tells how a start came about, and what was wrong there.
    fn tale(&self, visits: &[Visit], at: usize, wrong: &str) -> String {
        let mut way = vec![at];
        while let Some(from) = visits[way[way.len() - 1]].from {
            way.push(from);
        }
        let mut tale = String::new();
        for visit in way.iter().rev().map(|at| &visits[*at]) {
            let known = self.known.borrow();
            let start = known.starts.value(visit.edge.start);
            tale.push_str(&told(&visit.events));
            let left = start.describe(&self.disk);
            let _ = writeln!(tale, "-- {:?}, which leaves: {left}", visit.crash);
        }
        tale + wrong
    }

    /// How many different disks crashes can leave, and in how many ways.
    pub(crate) fn disks(&self) -> (usize, usize) {
        (self.known.borrow().starts.len(), self.visited.len())
    }

    /// What was done so far, for a reader.
    pub(crate) fn figures(&self) -> String {
        let known = self.known.borrow();
        let Figures {
            runs,
            moments,
            crashes,
        } = known.figures;
        let (programs, starts, visited) = (self.programs, known.starts.len(), self.visited.len());
        format!(
            "{programs} programs in {runs} runs; at {moments} moments {crashes} crashes, which \
             leave {starts} different disks, visited in {visited} ways"
        )
    }
}

/// A content without unknowns of a start, given what they can be.
fn substitute(content: Content, places: &Places) -> Content {
    if !content.is_unknown() {
        return content;
    }
    match content.meaning() {
        Meaning::Cached { place } => places.cached[place as usize],
        Meaning::Kept { place } => places.kept[place as usize],
        Meaning::OneOf { place, of } => {
            Content::one_of(place, of.iter().map(|content| substitute(*content, places)))
        }
        Meaning::Bytes | Meaning::Pattern { .. } => content,
    }
}

fn substitute_all(contents: &[Content], places: &Places) -> Vec<Content> {
    contents.iter().map(|c| substitute(*c, places)).collect()
}

/// What a sector may read, where `promised` is what it may have inherited.
fn kept_promise(new: &Allowed, promised: &Allowed, places: &Places) -> Allowed {
    let mut contents = substitute_all(&new.contents, places);
    contents.extend(promised.contents.iter().filter(|_| new.inherits));
    contents.sort_unstable();
    contents.dedup();
    Allowed {
        inherits: false,
        contents,
    }
}

/// Events, one a line.
fn told(events: &Events) -> String {
    events.iter().fold(String::new(), |mut text, event| {
        let _ = writeln!(text, "   {event}");
        text
    })
}
