//! Counters: what happened to an image since it was opened.

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Answers of the host that nobody waited for.
    pub stray_answers: u64,
    /// Rounds committed by the journal.
    pub journal_rounds: u64,
    /// Rounds committed in place.
    pub in_place_rounds: u64,
    /// Flushes that reached the host after the image was open.
    pub host_flushes: u64,
    /// Bytes copied from the base image to fill blocks that the guest wrote in part.
    pub copied_on_write: u64,
    /// Bytes fetched from the base image.
    pub fetched: u64,
    /// Copies dropped because a write was working on the same blocks.
    pub dropped_copies: u64,
    /// Chunks that were zeroed before use.
    pub zeroed_chunks: u64,
}
