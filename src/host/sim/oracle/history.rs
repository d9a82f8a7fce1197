//! The last things that happened, to be told when the contract is broken.

use std::collections::VecDeque;
use std::fmt;

use super::{Ending, WriteId};
use crate::host::sim::knobs::Crash;

/// How many events are remembered, and how many of them are told.
const REMEMBERED: usize = 4096;
const TOLD: usize = 16;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Submitted(WriteId),
    Ended(WriteId, Ending),
    /// A flush that was submitted at that moment ended well.
    Flushed(u64),
    HostFlushFailed,
    Crashed,
    Observed(Crash),
}

#[derive(Debug)]
struct Event {
    time: u64,
    first: u64,
    count: u64,
    what: What,
}

/// The last events on the disk, oldest first.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Event>);

impl History {
    /// Takes note of what happened to sectors `first..first + count`.
    pub(super) fn note(&mut self, time: u64, first: u64, count: u64, what: What) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Event {
            time,
            first,
            count,
            what,
        });
    }

    /// The last events that touched `sector`, a line each.
    pub(super) fn of(&self, sector: u64) -> String {
        let touches = |e: &&Event| (e.first..e.first + e.count).contains(&sector);
        let last = self.0.iter().rev().filter(touches).take(TOLD);
        let mut lines: Vec<String> = last.map(Event::to_string).collect();
        lines.reverse();
        lines.join("\n")
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  at {}: ", self.time)?;
        match self.what {
            What::Submitted(WriteId(id)) => write!(f, "write {id} submitted")?,
            What::Ended(WriteId(id), ending) => write!(f, "write {id} ended: {ending:?}")?,
            What::Flushed(from) => write!(f, "a flush submitted at {from} ended well")?,
            What::HostFlushFailed => write!(f, "a flush of the host failed")?,
            What::Crashed => write!(f, "the session ended without a word")?,
            What::Observed(crash) => write!(f, "looked at after: {crash:?}")?,
        }
        write!(f, " (sectors {}+{})", self.first, self.count)
    }
}
