//! Journal rounds: which sectors say what a round changed, and where in the journal they go.
//!
//! A sector holds at most one bitmap record, and beside it the entries of every chunk which the record's blocks
//! touch, unless they were durable before the round; so each sector is right by itself, whichever
//! others survive (FORMAT.md, "Journal"). Entries that no block needs go into sectors of their own.

use std::ops::Range;

use crate::format::geometry::{Blocks, Geometry, Region};
use crate::format::journal::SectorBuilder;
use crate::format::units::{SECTOR, index};

use super::canary::{Canary, planted};
use super::dirty::Changes;
use super::extents::Layer;
use super::index_set::EntrySet;

/// Pages of the journal are filled with zeros this far ahead, in bytes: a write into a hole makes the
/// flush behind it about twice as slow.
const FILL_STEP: u64 = 64 << 10;

/// The most disk sectors that one bitmap record covers; far below what its field holds.
const MAX_RECORD_SECTORS: u64 = 1 << 31;

/// Bytes that table records may take in a sector with a bitmap record of 16 bytes.
const MIXED_ROOM: u64 = SECTOR - 16;

/// How far the journal is used.
#[derive(Debug)]
pub(super) struct Position {
    region: Region,
    /// Bytes in use by records of this lap.
    used: u64,
    /// Bytes that may hold a record of any lap, of earlier sessions too.
    reached: u64,
    /// Bytes that were written at least once in this session, so that they are no holes.
    filled: u64,
    /// Bytes that may be used; less than the region in tests.
    limit: u64,
}

impl Position {
    /// The position in a journal that holds no record any more that counts.
    pub(super) fn new(region: Region) -> Self {
        let limit = super::limits_for_tests::journal_sectors().map_or(u64::MAX, |n| n * SECTOR);
        Self {
            region,
            used: 0,
            reached: 0,
            filled: 0,
            limit: limit.min(region.len),
        }
    }

    /// Records of an earlier session may stand in the first `bytes`.
    pub(super) fn found_records(&mut self, bytes: u64) {
        self.reached = self.reached.max(bytes);
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
        debug_assert!(end <= self.limit);
        if end > self.filled {
            self.filled = end.next_multiple_of(FILL_STEP).min(self.region.len);
            sectors.resize(index(self.filled - start), 0);
        }
        self.used = end;
        self.reached = self.reached.max(end);
        self.region.start.get() + start
    }

    /// What `place` took is not used after all.
    pub(super) fn take_back(&mut self, offset: u64) {
        self.used = offset - self.region.start.get();
    }

    /// Table and bitmap are in place and durable: the records do not count any more.
    pub(super) fn restart(&mut self) {
        self.used = 0;
    }

    /// Where in the metadata file a record may stand.
    pub(super) fn dirty_range(&self) -> Range<u64> {
        self.region.start.get()..self.region.start.get() + self.reached
    }
}

/// The sectors that record `changes`; `None` where one block's entries do not fit into a sector, or all of it
/// not into `room` bytes.
pub(super) fn record(layer: &Layer, changes: &Changes, room: u64) -> Option<Vec<u8>> {
    let mut out = Sectors {
        layer,
        room,
        bytes: Vec::new(),
        rest: changes.entries.clone(),
    };
    if let Some(blocks) = &layer.geometry.blocks {
        for run in changes.blocks.runs() {
            let mut run = run.start..run.end.min(blocks.count);
            while !run.is_empty() {
                let part = run.start..mixed_end(&layer.geometry, blocks, changes, &run)?;
                run.start = part.end;
                out.push_mixed(blocks, changes, &part)?;
            }
        }
    }
    out.push_rest()?;
    Some(out.bytes)
}

/// How far blocks from `run.start` on fit into one sector with their entries; `None`: not even one.
fn mixed_end(
    geometry: &Geometry,
    blocks: &Blocks,
    changes: &Changes,
    run: &Range<u64>,
) -> Option<u64> {
    let fits = |end: u64| {
        let entries = entries_of(geometry, blocks, &(run.start..end));
        let bytes: u64 = changes
            .entries
            .runs_within(&entries)
            .map(|r| record_len(&r))
            .sum();
        bytes <= MIXED_ROOM
    };
    let most = (MAX_RECORD_SECTORS * SECTOR / blocks.block_size).max(1);
    let last = run.end.min(run.start + most);
    if fits(last) {
        return Some(last);
    }
    let (mut good, mut bad) = (run.start, last);
    while bad - good > 1 {
        let middle = good.midpoint(bad);
        if fits(middle) {
            good = middle
        } else {
            bad = middle
        }
    }
    (good > run.start).then_some(good)
}

/// The entries of the chunks that `run`'s blocks touch.
fn entries_of(geometry: &Geometry, blocks: &Blocks, run: &Range<u64>) -> Range<u64> {
    let bytes = blocks.span(run.start).start..blocks.span(run.end - 1).end;
    geometry
        .chunks
        .map_or(0..0, |chunks| chunks.index_range(bytes.start, bytes.end))
}

/// Bytes of the table record for a run of entries.
fn record_len(run: &Range<u64>) -> u64 {
    12 + 4 * (run.end - run.start)
}

struct Sectors<'a> {
    layer: &'a Layer,
    room: u64,
    bytes: Vec<u8>,
    /// Entries that stand in no sector yet.
    rest: EntrySet,
}

impl Sectors<'_> {
    /// One sector with a bitmap record for `part` and the entries it needs.
    fn push_mixed(&mut self, blocks: &Blocks, changes: &Changes, part: &Range<u64>) -> Option<()> {
        let mut sector = SectorBuilder::new();
        let entries = entries_of(&self.layer.geometry, blocks, part);
        for run in changes.entries.runs_within(&entries) {
            if planted(Canary::EntryInFirstSectorOnly) && !self.rest.intersects(&run) {
                continue;
            }
            assert!(
                self.put(&mut sector, &run),
                "the entries were counted before"
            );
            self.rest.take(&run);
        }
        let (first, end) = (blocks.span(part.start).start, blocks.span(part.end - 1).end);
        let count = u32::try_from((end - first) / SECTOR).expect("cut to less before");
        assert!(
            sector.push_bitmap(first / SECTOR, count),
            "room was kept for it"
        );
        self.close(sector)
    }

    /// Sectors for the entries that no block needs.
    fn push_rest(&mut self) -> Option<()> {
        let mut sector = SectorBuilder::new();
        for mut run in std::mem::take(&mut self.rest).runs() {
            while !run.is_empty() {
                let room = sector.room(false) as u64;
                if room == 0 {
                    self.close(std::mem::take(&mut sector))?;
                    continue;
                }
                let part = run.start..run.end.min(run.start + room);
                assert!(self.put(&mut sector, &part), "there is room for it");
                run.start = part.end;
            }
        }
        if sector.is_empty() {
            Some(())
        } else {
            self.close(sector)
        }
    }

    fn put(&self, sector: &mut SectorBuilder, run: &Range<u64>) -> bool {
        let table = self
            .layer
            .table
            .as_ref()
            .expect("entries are dirty only where there is a table");
        let raw: Vec<u32> = run.clone().map(|entry| table.raw(entry)).collect();
        let first = u32::try_from(run.start).expect("an entry's number fits its record");
        sector.push_table(first, &raw)
    }

    fn close(&mut self, sector: SectorBuilder) -> Option<()> {
        self.bytes.extend_from_slice(&sector.finish());
        (self.bytes.len() as u64 <= self.room).then_some(())
    }
}
