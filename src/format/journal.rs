//! The journal: sectors of records, each written whole and complete in itself.
//!
//! ```text
//! | table update | ... | table update | bitmap update | 0 ... 0 |     one sector, 512 bytes
//! table update:  type, first entry, n: u32; then n entries: u32          12 + 4n bytes
//! bitmap update: type, count of disk sectors: u32; first disk sector: u64     16 bytes
//! ```
//!
//! What one sector holds happens or does not happen, never half of it: that is why a write that
//! allocates chunks *and* makes blocks present puts both into one sector. Nothing ties sectors
//! together, neither order nor checksum: a replay applies all sectors of the region, stale ones
//! too, because a bit only ever goes from 0 to 1 and an entry is assigned once.
//!
//! The first implementation cannot read on behind a bitmap record, so [`SectorBuilder`] puts it
//! last; [`records`] reads on all the same. A reader trusts nothing: a record that makes no sense
//! is a [`Warning`] and changes nothing, not even in part. Source: FORMAT.md, "Journal".

use std::ops::Range;

use super::geometry::Geometry;
use super::units::{SECTOR, SECTOR_LEN, round_up};

/// The most table entries that fit into a sector without a bitmap record.
pub const MAX_ENTRIES_TABLE_ONLY: usize = (SECTOR_LEN - TABLE_HEAD) / ENTRY;

/// The most table entries that fit into a sector that also holds a bitmap record.
pub const MAX_ENTRIES_MIXED: usize = (SECTOR_LEN - TABLE_HEAD - BITMAP_RECORD) / ENTRY;

/// Bytes that table updates may take in a sector that also holds a bitmap record.
pub const MIXED_ROOM: u64 = SECTOR - BITMAP_RECORD as u64;

/// Bytes of a table update of `entries` entries.
pub const fn table_record_len(entries: u64) -> u64 {
    TABLE_HEAD as u64 + entries * ENTRY as u64
}

const BITMAP_TYPE: u32 = 0x3F2A_B8ED;
const TABLE_TYPE: u32 = 0xB4E6_F7AC;
const BITMAP_RECORD: usize = 16;
const TABLE_HEAD: usize = 12;
const ENTRY: usize = 4;

/// One record, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// The blocks that these disk sectors touch, below the end of the base, are present.
    Bitmap {
        /// The first sector of the guest's disk.
        first_sector: u64,
        /// How many sectors; they need not be aligned to blocks, and may reach beyond the base.
        sectors: u32,
    },
    /// Entries of the table.
    Table {
        /// The index of the first one.
        first_entry: u32,
        /// Their raw values: the dirty bit is to be masked off, 0xFFFFFFFF to be skipped, as
        /// [`Entry`](super::table::Entry) does.
        entries: Vec<u32>,
    },
}

/// Why a record, or the rest of a sector, was not applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Warning {
    /// Neither a known record nor the end: the rest of the sector is skipped.
    #[error("unknown record type {kind:#010x} at byte {at} of the sector")]
    UnknownType {
        /// Where in the sector, in bytes.
        at: usize,
        /// The type found there.
        kind: u32,
    },
    /// A record that does not fit into its sector: the rest of the sector is skipped.
    #[error("a record at byte {at} reaches beyond the end of its sector")]
    PastSectorEnd {
        /// Where in the sector, in bytes.
        at: usize,
    },
    /// A bitmap update beyond the end of the disk: it is skipped.
    #[error("a bitmap update of {sectors} sectors from sector {first_sector} leaves the disk")]
    SectorsOutOfRange {
        /// The record's first disk sector.
        first_sector: u64,
        /// Its count of disk sectors.
        sectors: u32,
    },
    /// A table update beyond the end of the table: it is skipped.
    #[error("a table update of {count} entries from entry {first_entry} leaves the table")]
    EntriesOutOfRange {
        /// The record's first entry.
        first_entry: u32,
        /// Its count of entries.
        count: usize,
    },
}

impl Record {
    /// What this record means for the image that `geometry` describes.
    ///
    /// Of an image whose bitmap is not in force any more, a bitmap update means nothing: it gives
    /// an empty range. It may reach beyond the disk by less than a block, as the range of a write
    /// that was widened to whole blocks does.
    ///
    /// # Errors
    /// A range that leaves the disk or the table; the whole record is then to be skipped.
    pub fn change(&self, geometry: &Geometry) -> Result<Change<'_>, Warning> {
        match *self {
            Self::Bitmap {
                first_sector,
                sectors,
            } => {
                let out = Warning::SectorsOutOfRange {
                    first_sector,
                    sectors,
                };
                let Some(blocks) = &geometry.blocks else {
                    return Ok(Change::Present(0..0));
                };
                let disk = round_up(geometry.virtual_size, blocks.block_size) / SECTOR;
                match first_sector.checked_add(sectors.into()) {
                    Some(end) if end <= disk => Ok(Change::Present(
                        blocks.index_range(first_sector * SECTOR, end * SECTOR),
                    )),
                    _ => Err(out),
                }
            }
            Self::Table {
                first_entry,
                ref entries,
            } => {
                let end = u64::from(first_entry) + entries.len() as u64;
                match &geometry.chunks {
                    Some(chunks) if end <= chunks.entries => Ok(Change::Entries {
                        first: first_entry,
                        raw: entries,
                    }),
                    _ => Err(Warning::EntriesOutOfRange {
                        first_entry,
                        count: entries.len(),
                    }),
                }
            }
        }
    }
}

/// What a record changes: all indexes are within bitmap and table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<'a> {
    /// These blocks are present.
    Present(Range<u64>),
    /// The entries from `first` on have these raw values.
    Entries {
        /// The index of the first entry.
        first: u32,
        /// Raw values, as in [`Record::Table`].
        raw: &'a [u32],
    },
}

/// The records of one sector, in order. After an error the sector ends.
pub fn records(sector: &[u8; SECTOR_LEN]) -> Records<'_> {
    Records { sector, at: 0 }
}

/// The iterator that [`records`] gives.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    sector: &'a [u8; SECTOR_LEN],
    at: usize,
}

impl Records<'_> {
    /// The u32 at byte `at`, if it lies in the sector.
    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.sector.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    }

    /// The record of type `kind` at `at`, and where it ends; `None` where it runs past the sector.
    fn record(&self, kind: u32, at: usize) -> Option<(Record, usize)> {
        if kind == BITMAP_TYPE {
            let sectors = self.word(at + 4)?;
            let (low, high) = (self.word(at + 8)?, self.word(at + 12)?);
            let first_sector = u64::from(high) << 32 | u64::from(low);
            return Some((
                Record::Bitmap {
                    first_sector,
                    sectors,
                },
                at + BITMAP_RECORD,
            ));
        }
        let (first_entry, count) = (self.word(at + 4)?, self.word(at + 8)? as usize);
        let start = at + TABLE_HEAD;
        let end = start.checked_add(count.checked_mul(ENTRY)?)?;
        let (words, _) = self.sector.get(start..end)?.as_chunks();
        let entries = words.iter().map(|raw| u32::from_le_bytes(*raw)).collect();
        Some((
            Record::Table {
                first_entry,
                entries,
            },
            end,
        ))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Warning>;

    fn next(&mut self) -> Option<Self::Item> {
        let at = self.at;
        let kind = self.word(at).filter(|&kind| kind != 0)?;
        self.at = SECTOR_LEN; // unless a record says where the next one is
        if kind != BITMAP_TYPE && kind != TABLE_TYPE {
            return Some(Err(Warning::UnknownType { at, kind }));
        }
        let Some((record, end)) = self.record(kind, at) else {
            return Some(Err(Warning::PastSectorEnd { at }));
        };
        self.at = end;
        Some(Ok(record))
    }
}

/// Builds one sector of the journal: table updates, then at most one bitmap update.
#[derive(Clone, Debug)]
pub struct SectorBuilder {
    sector: [u8; SECTOR_LEN],
    used: usize,
    closed: bool,
}

impl Default for SectorBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl SectorBuilder {
    /// A sector without any record.
    pub const fn new() -> Self {
        Self {
            sector: [0; SECTOR_LEN],
            used: 0,
            closed: false,
        }
    }

    /// Whether no record was added yet.
    pub const fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many entries one more table update may carry, keeping room for a bitmap update where
    /// `with_bitmap` says so.
    pub const fn room(&self, with_bitmap: bool) -> usize {
        let kept = TABLE_HEAD + if with_bitmap { BITMAP_RECORD } else { 0 };
        if self.closed {
            0
        } else {
            (SECTOR_LEN - self.used).saturating_sub(kept) / ENTRY
        }
    }

    /// Adds an update of the table's entries from `first_entry` on, given raw.
    /// False, and nothing added, where it does not fit or the bitmap update is already in.
    #[must_use = "a record that did not fit is not in the sector"]
    pub fn push_table(&mut self, first_entry: u32, entries: &[u32]) -> bool {
        let Ok(count) = u32::try_from(entries.len()) else {
            return false;
        };
        if self.closed || TABLE_HEAD + ENTRY * entries.len() > self.left() {
            return false;
        }
        for word in [TABLE_TYPE, first_entry, count].iter().chain(entries) {
            self.put(&word.to_le_bytes());
        }
        true
    }

    /// Adds the update of the bitmap for `sectors` disk sectors from `first_sector` on, and with
    /// it ends the sector. False, and nothing added, where it does not fit or one is already in.
    #[must_use = "a record that did not fit is not in the sector"]
    pub fn push_bitmap(&mut self, first_sector: u64, sectors: u32) -> bool {
        if self.closed || self.left() < BITMAP_RECORD {
            return false;
        }
        self.put(&BITMAP_TYPE.to_le_bytes());
        self.put(&sectors.to_le_bytes());
        self.put(&first_sector.to_le_bytes());
        self.closed = true;
        true
    }

    /// The sector, with zeros behind the last record.
    pub const fn finish(self) -> [u8; SECTOR_LEN] {
        self.sector
    }

    const fn left(&self) -> usize {
        SECTOR_LEN - self.used
    }

    fn put(&mut self, bytes: &[u8]) {
        self.sector[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }
}

#[cfg(test)]
mod tests;
