//! Journal sectors: what says that bits and entries changed.
//!
//! A sector holds at most one bitmap record, and beside it the entries of every chunk which the
//! record's blocks touch, unless they were durable before the round; so each sector is right by
//! itself, whichever others survive (FORMAT.md, "Journal"). Entries that no block needs go into
//! sectors of their own.

use std::ops::Range;

use crate::format::journal::{MIXED_ROOM, SectorBuilder, table_record_len};
use crate::format::units::SECTOR;

use super::bitmap::Bitmap;
use super::canary::{Canary, planted};
use super::dirty::Changes;
use super::index_set::EntrySet;
use super::layer::Layer;

/// The most disk sectors that one bitmap record covers; far below what its field holds.
const MOST_SECTORS: u64 = 1 << 31;

/// The most entries, durable ones too, that the blocks of one record may need.
const MOST_ENTRIES: u64 = 4096;

/// The sectors that record `changes`; `None` where one block's entries do not fit into a sector, or
/// all of it not into `room` bytes.
pub(super) fn record(layer: &Layer, changes: &Changes, room: u64) -> Option<Vec<u8>> {
    let rest = changes.entries.clone();
    let mut recorder = Recorder {
        layer,
        changes,
        room,
        bytes: Vec::new(),
        rest,
    };
    if let Some(bitmap) = &layer.bitmap {
        for run in changes.blocks.runs() {
            let mut left = run.start..run.end.min(bitmap.blocks.count);
            while !left.is_empty() {
                let part = left.start..recorder.fitting_end(bitmap, &left)?;
                left.start = part.end;
                recorder.push_mixed(bitmap, &part)?;
            }
        }
    }
    recorder.push_rest()?;
    Some(recorder.bytes)
}

struct Recorder<'a> {
    layer: &'a Layer,
    changes: &'a Changes,
    room: u64,
    bytes: Vec<u8>,
    /// Entries that stand in no sector yet.
    rest: EntrySet,
}

impl Recorder<'_> {
    /// How far blocks from the start of `run` on fit into one sector with their entries; `None`:
    /// not even the first.
    fn fitting_end(&self, bitmap: &Bitmap, run: &Range<u64>) -> Option<u64> {
        let fits = |end: u64| {
            let entries = self.entries_of(bitmap, &(run.start..end));
            let runs = self.changes.entries.runs_within(&entries);
            runs.map(|run| table_record_len(run.end - run.start))
                .sum::<u64>()
                <= MIXED_ROOM
        };
        let last = run.end.min(run.start + self.most_blocks(bitmap));
        if fits(last) {
            return Some(last);
        }
        let (mut good, mut bad) = (run.start, last);
        while bad - good > 1 {
            let middle = good.midpoint(bad);
            *(if fits(middle) { &mut good } else { &mut bad }) = middle;
        }
        (good > run.start).then_some(good)
    }

    /// How many blocks one record is tried for: what its field holds, and no more chunks than can
    /// be looked through at once.
    fn most_blocks(&self, bitmap: &Bitmap) -> u64 {
        let chunks = self
            .layer
            .table
            .as_ref()
            .map(|table| table.chunks.chunk_size);
        let bytes = chunks.map_or(u64::MAX, |chunk_size| {
            chunk_size.saturating_mul(MOST_ENTRIES)
        });
        (bytes.min(MOST_SECTORS * SECTOR) / bitmap.blocks.block_size).max(1)
    }

    /// The entries of the chunks that a run of blocks touches.
    fn entries_of(&self, bitmap: &Bitmap, run: &Range<u64>) -> Range<u64> {
        let start = bitmap.blocks.span(run.start).start;
        self.layer
            .entries_of(&(start..bitmap.blocks.span(run.end - 1).end))
    }

    /// One sector with a bitmap record for `part` and the entries it needs.
    fn push_mixed(&mut self, bitmap: &Bitmap, part: &Range<u64>) -> Option<()> {
        let mut sector = SectorBuilder::new();
        for run in self
            .changes
            .entries
            .runs_within(&self.entries_of(bitmap, part))
        {
            if planted(Canary::EntryInFirstSectorOnly) && !self.rest.intersects(&run) {
                continue;
            }
            self.put(&mut sector, &run);
            self.rest.take(&run);
        }
        let (start, end) = (
            bitmap.blocks.span(part.start).start,
            bitmap.blocks.span(part.end - 1).end,
        );
        let sectors = u32::try_from((end - start) / SECTOR).expect("cut to less before");
        assert!(
            sector.push_bitmap(start / SECTOR, sectors),
            "room was kept for it"
        );
        self.close(sector)
    }

    /// Sectors for the entries that no block needs.
    fn push_rest(&mut self) -> Option<()> {
        let mut sector = SectorBuilder::new();
        for run in std::mem::take(&mut self.rest).runs() {
            let mut left = run;
            while !left.is_empty() {
                let room = sector.room(false) as u64;
                if room == 0 {
                    self.close(std::mem::take(&mut sector))?;
                    continue;
                }
                let part = left.start..left.end.min(left.start + room);
                self.put(&mut sector, &part);
                left.start = part.end;
            }
        }
        if sector.is_empty() {
            Some(())
        } else {
            self.close(sector)
        }
    }

    fn put(&self, sector: &mut SectorBuilder, run: &Range<u64>) {
        let table = self
            .layer
            .table
            .as_ref()
            .expect("entries are dirty only where there is a table");
        let raw: Vec<u32> = run.clone().map(|entry| table.raw(entry)).collect();
        let first = u32::try_from(run.start).expect("an entry's number fits its record");
        assert!(
            sector.push_table(first, &raw),
            "its length was counted before"
        );
    }

    fn close(&mut self, sector: SectorBuilder) -> Option<()> {
        self.bytes.extend_from_slice(&sector.finish());
        (self.bytes.len() as u64 <= self.room).then_some(())
    }
}
