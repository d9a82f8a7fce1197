//! Counters: what happened to an image since it was opened.

use std::cell::Cell;

/// A counter.
#[derive(Debug, Default)]
pub struct Counter(Cell<u64>);

impl Counter {
    /// Counts `n` more.
    pub fn add(&self, n: u64) {
        self.0.set(self.0.get() + n);
    }

    /// The count.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Stats {
    /// Answers of the host that nobody waited for.
    pub stray_answers: Counter,
    /// Rounds committed by the journal.
    pub journal_rounds: Counter,
    /// Rounds committed in place.
    pub in_place_rounds: Counter,
    /// Flushes that reached the host.
    pub host_flushes: Counter,
    /// Bytes copied from the base to fill blocks that the guest wrote in part.
    pub copied_on_write: Counter,
    /// Bytes fetched from the base.
    pub fetched: Counter,
    /// Copies dropped because a write was working on the same blocks.
    pub dropped_copies: Counter,
    /// Chunks that were zeroed before use.
    pub zeroed_chunks: Counter,
}
