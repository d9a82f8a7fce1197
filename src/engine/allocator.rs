//! The allocator: which chunks of the data region are free, and which are about to be taken.
//!
//! The life of a chunk number (DESIGN.md, "Chunks"):
//!
//! ```text
//!   free ──take──▶ reserved ──begin──▶ pending ──publish──▶ published (it stands in the table)
//!     ▲                │                  │
//!     └── give_back ───┴── last leave ────┘
//! ```
//!
//! A reserved chunk's place is made to exist, and to read zeros. While it is pending only its
//! writers know it, and are counted: a read finds its part of the disk unallocated, a commit does
//! not see it. The first write into it that completes publishes it; when the last writer leaves and
//! none has, it is free again. A published chunk is never given back in version 1.
//!
//! Which free chunks may hold old content: all that lay within the storage when the image was
//! opened, and those that were given back.

use crate::format::table::MAX_NUMBER;
use std::collections::BTreeMap;

use super::canary::{Canary, planted};
use super::range_set::RangeSet;

/// A chunk on its way into the table.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u32,
    writers: u32,
}

/// A chunk number that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// The number.
    pub(crate) number: u32,
    /// It was given back before, or lies below everything that is known to be zero.
    pub(crate) may_hold_old_content: bool,
}

/// The free and the pending chunks of an image.
#[derive(Debug, Default)]
pub(crate) struct Allocator {
    /// Free numbers below `next`; all may hold old content.
    holes: RangeSet,
    /// From here on all numbers are free.
    next: u32,
    /// Free chunks from this number on read zeros, if they are not holes.
    clean_from: u32,
    pending: BTreeMap<u64, Pending>,
}

impl Allocator {
    /// The allocator of an image whose table names `numbers` (in any order, none twice), and whose
    /// storage reads zeros from chunk `clean_from` on.
    pub(crate) fn new(mut numbers: Vec<u32>, clean_from: u32) -> Self {
        numbers.sort_unstable();
        let mut holes = RangeSet::default();
        let mut next = 0;
        for number in numbers {
            holes.insert(&(u64::from(next)..u64::from(number)));
            next = number + 1;
        }
        Self {
            holes,
            next,
            clean_from,
            pending: BTreeMap::new(),
        }
    }

    /// Takes the lowest free number; `None` where numbers have run out.
    pub(crate) fn take(&mut self) -> Option<Taken> {
        if let Some(number) = self.holes.pop_first() {
            let number = u32::try_from(number).expect("it was a number before it was free");
            return Some(Taken {
                number,
                may_hold_old_content: true,
            });
        }
        let number = self.next;
        self.next = number.checked_add(1).filter(|next| *next <= MAX_NUMBER)?;
        Some(Taken {
            number,
            may_hold_old_content: number < self.clean_from,
        })
    }

    /// Gives back a number that was taken and never published.
    pub(crate) fn give_back(&mut self, number: u32) {
        self.holes
            .insert(&(u64::from(number)..u64::from(number) + 1));
    }

    /// From this number on no chunk was ever written, and all read zeros.
    pub(crate) fn untouched_from(&self) -> u32 {
        self.next.max(self.clean_from)
    }

    /// The chunk of `entry` will be chunk `number`, zeroed as far as it must be; the caller is its
    /// first writer.
    pub(crate) fn begin(&mut self, entry: u64, number: u32) {
        let before = self.pending.insert(entry, Pending { number, writers: 1 });
        assert!(before.is_none(), "chunk {entry} is pending twice");
    }

    /// Counts one more writer of a pending chunk, and says which number it has.
    pub(crate) fn join(&mut self, entry: u64) -> Option<u32> {
        let pending = self.pending.get_mut(&entry)?;
        pending.writers += 1;
        Some(pending.number)
    }

    /// The chunk is in the table from now on.
    pub(crate) fn publish(&mut self, entry: u64) -> bool {
        self.pending.remove(&entry).is_some()
    }

    /// A writer of `entry` leaves; where it was the last, and nobody published the chunk, the
    /// chunk is free again, and its number returned.
    pub(crate) fn leave(&mut self, entry: u64) -> Option<u32> {
        let pending = self.pending.get_mut(&entry)?;
        pending.writers -= 1;
        if pending.writers > 0 && !planted(Canary::SharedChunkFreedByOne) {
            return None;
        }
        let number = pending.number;
        self.pending.remove(&entry);
        self.give_back(number);
        Some(number)
    }

    /// How many chunks are pending.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many numbers below the highest one that was ever taken are free.
    pub(crate) fn holes(&self) -> u64 {
        self.holes.iter().map(|hole| hole.end - hole.start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_taken_first_and_may_hold_old_content() {
        let mut allocator = Allocator::new(vec![4, 1], 6);
        let taken: Vec<_> = (0..6).map(|_| allocator.take().unwrap()).collect();
        assert_eq!(
            taken.iter().map(|t| t.number).collect::<Vec<_>>(),
            [0, 2, 3, 5, 6, 7]
        );
        let old: Vec<_> = taken.iter().map(|t| t.may_hold_old_content).collect();
        assert_eq!(old, [true, true, true, true, false, false]);
    }

    #[test]
    fn numbers_given_back_join_their_neighbours() {
        let mut allocator = Allocator::new((0..8).collect(), 0);
        for number in [3, 5, 4, 2, 7] {
            allocator.give_back(number);
        }
        assert_eq!(allocator.holes.iter().collect::<Vec<_>>(), [2..6, 7..8]);
    }

    #[test]
    fn a_shared_pending_chunk_is_freed_by_the_last_writer_only() {
        let mut allocator = Allocator::default();
        let taken = allocator.take().unwrap();
        allocator.begin(9, taken.number);
        assert_eq!(allocator.join(9), Some(0));
        assert_eq!((allocator.leave(9), allocator.holes()), (None, 0));
        assert_eq!((allocator.leave(9), allocator.holes()), (Some(0), 1));
    }

    #[test]
    fn a_published_chunk_stays_taken() {
        let mut allocator = Allocator::default();
        allocator.begin(9, allocator.next);
        allocator.take();
        assert!(allocator.publish(9));
        assert_eq!((allocator.leave(9), allocator.holes()), (None, 0));
    }
}
