//! The journal as a place: how far it is used, and where the next sectors go.
//!
//! Laps: a checkpoint makes every record superfluous, and the next one goes to the first sector
//! again. Records of earlier laps stay behind it, and a replay applies them too; that is harmless,
//! because a bit is only ever set and an entry is assigned once, and both are in place already.

use std::ops::Range;

use crate::format::geometry::Region;
use crate::format::units::{SECTOR, index};

/// Pages of the journal are filled with zeros this far ahead, in bytes: a write into a hole makes
/// the flush behind it about twice as slow.
const FILL_STEP: u64 = 64 << 10;

/// A journal in use. All places in it are bytes from its start.
#[derive(Debug)]
pub(super) struct Journal {
    region: Region,
    /// Up to where this lap's records reach.
    used: u64,
    /// Up to where records of any lap may stand, of earlier sessions too.
    reached: u64,
    /// Up to where this session has written, so that there are no holes.
    filled: u64,
    /// Up to where it may be used; less than all of it in tests.
    limit: u64,
}

impl Journal {
    /// A journal in which no record counts any more, although some may stand in its first `reached`
    /// bytes. Of its sectors only `limit` are used.
    pub(super) fn new(region: Region, reached: u64, limit: Option<u64>) -> Self {
        let limit = limit.map_or(region.len, |sectors| {
            region.len.min(sectors.saturating_mul(SECTOR))
        });
        Self {
            region,
            used: 0,
            reached,
            filled: 0,
            limit,
        }
    }

    /// Bytes left in this lap.
    pub(super) fn room(&self) -> u64 {
        self.limit - self.used
    }

    /// Takes room for `sectors`, fills them up with zeros to the next step where that has not been
    /// done, and says where in the metadata file they go.
    pub(super) fn place(&mut self, sectors: &mut Vec<u8>) -> u64 {
        let start = self.used;
        let end = start + sectors.len() as u64;
        assert!(end <= self.limit, "only what fits is recorded");
        if end > self.filled {
            self.filled = end.next_multiple_of(FILL_STEP).min(self.region.len);
            sectors.resize(index(self.filled - start), 0);
        }
        self.used = end;
        self.reached = self.reached.max(end);
        self.region.start.get() + start
    }

    /// What `place` took at `offset` of the metadata file is not used after all.
    pub(super) fn take_back(&mut self, offset: u64) {
        self.used = offset - self.region.start.get();
        self.filled = self.filled.min(self.used);
    }

    /// Table and bitmap are in place and durable: the records do not count any more.
    pub(super) fn restart(&mut self) {
        self.used = 0;
    }

    /// Where in the metadata file a record may stand.
    pub(super) fn reached(&self) -> Range<u64> {
        let start = self.region.start.get();
        start..start + self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::units::MetaOffset;

    #[test]
    fn laps_fill_ahead_once_and_remember_how_far_they_reached() {
        let region = Region {
            start: MetaOffset::new(10_000),
            len: 80 << 10,
        };
        let mut journal = Journal::new(region, 1024, None);
        let mut sectors = vec![1; 512];
        assert_eq!(
            (journal.place(&mut sectors), sectors.len()),
            (10_000, 64 << 10)
        );
        let mut sectors = vec![1; 64 << 10];
        assert_eq!(
            (journal.place(&mut sectors), sectors.len()),
            (10_512, (80 << 10) - 512)
        );
        assert_eq!(journal.room(), (80 << 10) - 512 - (64 << 10));
        journal.restart();
        let mut sectors = vec![1; 512];
        assert_eq!((journal.place(&mut sectors), sectors.len()), (10_000, 512));
        assert_eq!(journal.reached(), 10_000..10_512 + (64 << 10));
    }
}
