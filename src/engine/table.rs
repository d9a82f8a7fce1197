//! The table in memory: where each chunk of a compact image lies (FORMAT.md, "Table").
//!
//! Only published entries stand here; a chunk that is still being filled for the first time is known
//! to the [allocator](super::allocator) alone, so neither a read nor a commit can see it.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::format::table::Entry;
use crate::format::units::index as at;

const ENTRIES_PER_SECTOR: usize = 128;

/// One entry a chunk of the virtual disk.
pub struct Table {
    /// A whole number of sectors: what stands behind the last chunk's entry is kept as it was found.
    entries: Box<[AtomicU32]>,
}

impl Table {
    /// The table whose stored form is `bytes`, a whole number of sectors.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (entries, rest) = bytes.as_chunks::<4>();
        debug_assert!(rest.is_empty());
        let clean = |raw: &[u8; 4]| match Entry::from_raw(u32::from_le_bytes(*raw)).number() {
            Some(number) => number,
            None => Entry::UNALLOCATED.raw(),
        };
        Self {
            entries: entries.iter().map(|e| AtomicU32::new(clean(e))).collect(),
        }
    }

    /// The stored form of `sectors` of the table.
    pub fn write_sectors(&self, sectors: Range<u64>, out: &mut [u8]) {
        let from = at(sectors.start) * ENTRIES_PER_SECTOR;
        let to = at(sectors.end) * ENTRIES_PER_SECTOR;
        for (bytes, entry) in out.chunks_exact_mut(4).zip(&self.entries[from..to]) {
            bytes.copy_from_slice(&entry.load(Relaxed).to_le_bytes());
        }
    }

    /// How many sectors its stored form has.
    pub fn sectors(&self) -> u64 {
        (self.entries.len() / ENTRIES_PER_SECTOR) as u64
    }

    /// The number of the chunk that holds the disk's chunk `index`, if it is allocated.
    pub fn get(&self, index: u64) -> Option<u32> {
        Entry::from_raw(self.entries[at(index)].load(Relaxed)).number()
    }

    /// The stored form of one entry.
    pub fn raw(&self, index: u64) -> u32 {
        self.entries[at(index)].load(Relaxed)
    }

    /// Empties all entries from `index` on.
    pub fn clear_from(&self, index: u64) {
        for entry in &self.entries[at(index)..] {
            entry.store(Entry::UNALLOCATED.raw(), Relaxed);
        }
    }

    /// Says that chunk `number` holds the disk's chunk `index`.
    pub fn set(&self, index: u64, number: u32) {
        self.entries[at(index)].store(number, Relaxed);
    }
}
