//! Dirty state: which bits and entries memory has and the disk has not.
//!
//! - *guest-dirty*: set by a write of the guest; the next flush must commit it.
//! - *copy-dirty*: set by a copy from the base. Losing it costs a copy, so it needs no commit of
//!   its own; but the guest's next write there makes it guest-dirty, or that write would be lost
//!   with the copy.
//! - *stale*: committed by the journal, so the disk's bitmap and table do not show it yet; a
//!   checkpoint brings them up to date.

use std::ops::Range;

use super::index_set::{BlockSet, EntrySet};

/// Blocks that became present, entries that were set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Block numbers.
    pub(crate) blocks: BlockSet,
    /// Entry numbers.
    pub(crate) entries: EntrySet,
}

impl Changes {
    /// True if nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.entries.is_empty()
    }

    /// Adds all of `other`.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.blocks.merge(&other.blocks);
        self.entries.merge(&other.entries);
    }
}

/// Who stored something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The guest: a flush must make it durable.
    Guest,
    /// A copy from the base: it may be lost.
    Copy,
}

/// What is not on disk as memory has it.
#[derive(Debug, Default)]
pub(crate) struct Dirty {
    /// Must be committed.
    pub(crate) guest: Changes,
    /// May be lost.
    pub(crate) copied: Changes,
    /// Committed, but not in place.
    pub(crate) stale: Changes,
}

impl Dirty {
    /// These blocks became present.
    pub(crate) fn add_blocks(&mut self, by: Writer, blocks: &Range<u64>) {
        self.by(by).blocks.insert(blocks);
    }

    /// This entry was set.
    pub(crate) fn add_entry(&mut self, by: Writer, entry: u64) {
        self.by(by).entries.insert(&(entry..entry + 1));
    }

    /// The guest wrote here: what was copy-dirty is guest-dirty from now on.
    pub(crate) fn adopt(&mut self, blocks: &Range<u64>, entries: &Range<u64>) {
        for run in self.copied.blocks.take(blocks) {
            self.guest.blocks.insert(&run);
        }
        for run in self.copied.entries.take(entries) {
            self.guest.entries.insert(&run);
        }
    }

    fn by(&mut self, by: Writer) -> &mut Changes {
        match by {
            Writer::Guest => &mut self.guest,
            Writer::Copy => &mut self.copied,
        }
    }
}
