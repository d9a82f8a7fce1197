//! The allocator: which chunks of the data region are free, and which are about to be taken.
//!
//! The life of a chunk number (DESIGN.md, "Chunks"):
//!
//! ```text
//!   free ──take──▶ pending ──first write into it completed──▶ published (it stands in the table)
//!     ▲               │
//!     └── last writer gone, none completed ──┘
//! ```
//!
//! While it is pending only the writers know it, and are counted: a read finds its part of the disk
//! unallocated, a commit does not see it, and when the last writer leaves without having published it,
//! it is free again. A published chunk is never given back in version 1.
//!
//! Which free chunks may hold old content: all that lie below [`Allocator::clean_from`] (the length
//! that the file had after open; of a device all), and those that a failed write gave back.

use std::collections::BTreeMap;
use std::ops::Range;

use super::canary::{Canary, planted};

/// A chunk on its way into the table.
#[derive(Clone, Copy, Debug)]
struct Pending {
    number: u32,
    writers: u32,
}

/// A chunk number that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The number.
    pub number: u32,
    /// It was given back before, or lies below everything that is known to be zero.
    pub may_hold_old_content: bool,
}

/// The free and the pending chunks of an image.
#[derive(Debug, Default)]
pub struct Allocator {
    /// Free numbers below `next`, as start → end; all may hold old content.
    holes: BTreeMap<u32, u32>,
    /// From here on all numbers are free.
    next: u32,
    /// Free chunks from this number on were never written.
    clean_from: u32,
    pending: BTreeMap<u64, Pending>,
}

impl Allocator {
    /// The allocator of an image whose table names `numbers` (in any order, none twice), and whose
    /// storage is known to be zero from chunk `clean_from` on.
    pub fn new(mut numbers: Vec<u32>, clean_from: u32) -> Self {
        numbers.sort_unstable();
        let mut holes = BTreeMap::new();
        let mut next = 0;
        for number in numbers {
            if number > next {
                holes.insert(next, number);
            }
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
    pub fn take(&mut self) -> Option<Taken> {
        if let Some((start, end)) = self.holes.pop_first() {
            if start + 1 < end {
                self.holes.insert(start + 1, end);
            }
            return Some(Taken {
                number: start,
                may_hold_old_content: true,
            });
        }
        let number = self.next;
        self.next = number
            .checked_add(1)
            .filter(|n| *n <= crate::format::table::MAX_NUMBER)?;
        Some(Taken {
            number,
            may_hold_old_content: number < self.clean_from,
        })
    }

    /// Gives back a number that was taken and never published.
    pub fn give_back(&mut self, number: u32) {
        let after = self.holes.remove(&(number + 1)).unwrap_or(number + 1);
        let before = self
            .holes
            .range_mut(..number)
            .next_back()
            .filter(|(_, end)| **end == number);
        match before {
            Some((_, end)) => *end = after,
            None => drop(self.holes.insert(number, after)),
        }
    }

    /// The disk's chunk `index` will be chunk `number`, zeroed as far as it must be; the caller is its
    /// first writer.
    pub fn begin(&mut self, index: u64, number: u32) {
        let before = self.pending.insert(index, Pending { number, writers: 1 });
        assert!(before.is_none(), "chunk {index} is pending twice");
    }

    /// Counts one more writer of a pending chunk, and says which number it has.
    pub fn join(&mut self, index: u64) -> Option<u32> {
        let pending = self.pending.get_mut(&index)?;
        pending.writers += 1;
        Some(pending.number)
    }

    /// The chunk is in the table from now on.
    pub fn publish(&mut self, index: u64) -> bool {
        self.pending.remove(&index).is_some()
    }

    /// A writer of chunk `index` leaves; where it was the last, and nobody published the chunk, the
    /// chunk is free again.
    pub fn leave(&mut self, index: u64) {
        let Some(pending) = self.pending.get_mut(&index) else {
            return;
        };
        pending.writers -= 1;
        if pending.writers == 0 || planted(Canary::SharedChunkFreedByOne) {
            let number = pending.number;
            self.pending.remove(&index);
            self.give_back(number);
        }
    }

    /// How many chunks are pending.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The free numbers below the highest one that was ever taken.
    pub fn holes(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        self.holes.iter().map(|(start, end)| *start..*end)
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
        assert_eq!(allocator.holes().collect::<Vec<_>>(), [2..6, 7..8]);
    }

    #[test]
    fn a_shared_pending_chunk_is_freed_by_the_last_writer_only() {
        let mut allocator = Allocator::default();
        let taken = allocator.take().unwrap();
        allocator.begin(9, taken.number);
        assert_eq!(allocator.join(9), Some(0));
        allocator.leave(9);
        assert_eq!(allocator.holes().count(), 0);
        allocator.leave(9);
        assert_eq!(allocator.holes().collect::<Vec<_>>(), [0..1]);
    }

    #[test]
    fn a_published_chunk_stays_taken() {
        let mut allocator = Allocator::default();
        allocator.begin(9, allocator.next);
        allocator.take();
        assert!(allocator.publish(9));
        allocator.leave(9);
        assert_eq!(allocator.holes().count(), 0);
    }
}
