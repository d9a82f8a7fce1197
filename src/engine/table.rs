//! The table in memory: where each chunk of a compact image lies (FORMAT.md, "Table").
//!
//! Only published entries stand here; a chunk that is still being filled for the first time is
//! known to the [allocator](super::allocator) alone, so neither a read nor a commit can see it. An
//! *entry* counts chunks of the guest's disk, a *number* chunks of the data region.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::format::geometry::Chunks;
use crate::format::table::{ENTRY_LEN, Entry};
use crate::format::units::{DataOffset, MetaOffset, SECTOR, index};
use crate::host::Buffer;

use super::buffer::{allocate, steps};
use super::error::Result;
use super::file::File;

const ENTRIES_PER_SECTOR: u64 = SECTOR / ENTRY_LEN;

/// Bytes that are filled at once.
const FILL_STEP: u64 = 1 << 20;

/// One entry a chunk of the virtual disk.
pub(crate) struct Table {
    /// How the disk is cut into chunks.
    pub(crate) chunks: Chunks,
    data_start: DataOffset,
    /// A whole number of sectors; the mark of the first implementation is taken off.
    entries: Box<[AtomicU32]>,
}

impl Table {
    /// Bytes of its stored form, a whole number of sectors.
    pub(crate) fn stored_len(chunks: &Chunks) -> u64 {
        entry_sectors(chunks.entries) * SECTOR
    }

    /// The table of `chunks` whose stored form is `bytes`.
    pub(crate) fn from_bytes(chunks: Chunks, data_start: DataOffset, bytes: &[u8]) -> Self {
        let clean = |entry: Entry| match entry.number() {
            Some(number) => Entry::from_number(number),
            None => Entry::UNALLOCATED,
        };
        let entries = crate::format::table::decode(bytes);
        let entries = entries
            .map(|entry| AtomicU32::new(clean(entry).raw()))
            .collect();
        Self {
            chunks,
            data_start,
            entries,
        }
    }

    /// Some sectors of its stored form, and where they go.
    pub(crate) fn part(&self, sectors: &Range<u64>) -> Result<(MetaOffset, Buffer)> {
        let mut buffer = allocate((sectors.end - sectors.start) * SECTOR)?;
        let entries = &self.entries[index(sectors.start * ENTRIES_PER_SECTOR)..];
        for (bytes, entry) in buffer.bytes_mut().chunks_exact_mut(4).zip(entries) {
            bytes.copy_from_slice(&entry.load(Relaxed).to_le_bytes());
        }
        Ok((self.chunks.table.start + sectors.start * SECTOR, buffer))
    }

    /// How many sectors its stored form has.
    pub(crate) fn sectors(&self) -> u64 {
        self.entries.len() as u64 / ENTRIES_PER_SECTOR
    }

    /// The number of the chunk that `entry` names, if it is allocated.
    pub(crate) fn get(&self, entry: u64) -> Option<u32> {
        Entry::from_raw(self.raw(entry)).number()
    }

    /// The stored form of one entry.
    pub(crate) fn raw(&self, entry: u64) -> u32 {
        self.entries[index(entry)].load(Relaxed)
    }

    /// Says that chunk `number` holds what `entry` stands for.
    pub(crate) fn set(&self, entry: u64, number: u32) {
        self.entries[index(entry)].store(Entry::from_number(number).raw(), Relaxed);
    }

    /// Empties what stands behind the last entry.
    pub(crate) fn clear_rest(&self) {
        for entry in &self.entries[index(self.chunks.entries)..] {
            entry.store(Entry::UNALLOCATED.raw(), Relaxed);
        }
    }

    /// What each entry names, in order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Option<u32>> + Clone + '_ {
        (0..self.chunks.entries).map(|entry| self.get(entry))
    }

    /// The entries of the chunks that `range` of the disk touches.
    #[inline]
    pub(crate) fn touched(&self, range: &Range<u64>) -> Range<u64> {
        self.chunks.index_range(range.start, range.end)
    }

    /// Where chunk `number` lies in the data file; `None`: nowhere in a file.
    pub(crate) fn place_of(&self, number: u32) -> Option<DataOffset> {
        self.chunks.offset_of(number, self.data_start)
    }

    /// Cuts `range` of the disk into runs that are in one piece in the data file, each with its
    /// place there (`None`: unallocated). `number_of` says which chunk holds an entry.
    pub(crate) fn runs<'a>(
        &'a self,
        range: Range<u64>,
        number_of: impl Fn(u64) -> Option<u32> + 'a,
    ) -> impl Iterator<Item = (Range<u64>, Option<DataOffset>)> + 'a {
        let chunk_size = self.chunks.chunk_size;
        let mut rest = range;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let first = rest.start / chunk_size;
            let number = number_of(first);
            let mut next = first + 1;
            while next * chunk_size < rest.end && follows(number, next - first, number_of(next)) {
                next += 1;
            }
            let run = rest.start..rest.end.min(next * chunk_size);
            rest.start = run.end;
            let chunk = number.map(|n| self.place_of(n).expect("checked before it was used"));
            let place = chunk.map(|chunk| chunk + run.start % chunk_size);
            Some((run, place))
        })
    }
}

/// How many sectors store so many entries.
pub(crate) const fn entry_sectors(entries: u64) -> u64 {
    entries.div_ceil(ENTRIES_PER_SECTOR)
}

/// Says in `range` of the metadata file that no chunk is allocated.
pub(crate) async fn write_unallocated(file: &File, range: Range<u64>) -> Result<()> {
    for step in steps(range, FILL_STEP) {
        let mut bytes = allocate(step.end - step.start)?;
        let none = Entry::UNALLOCATED.raw().to_le_bytes();
        bytes.bytes_mut().as_chunks_mut().0.fill(none);
        file.write(step.start, bytes).await?;
    }
    Ok(())
}

/// True if `number`, `distance` entries behind `first`, goes on where that run is.
fn follows(first: Option<u32>, distance: u64, number: Option<u32>) -> bool {
    match (first, number) {
        (Some(first), Some(number)) => u64::from(first) + distance == u64::from(number),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::geometry::Region;

    fn table(numbers: &[Option<u32>]) -> Table {
        let table = Region {
            start: MetaOffset::new(8192),
            len: 4096,
        };
        let entries = numbers.len() as u64;
        let chunks = Chunks {
            chunk_size: 4096,
            entries,
            table,
            grow_unit: 4096,
        };
        let data_start = DataOffset::new(100);
        let table = Table::from_bytes(chunks, data_start, &[0xFF; 512]);
        for (entry, number) in (0..).zip(numbers) {
            number.iter().for_each(|number| table.set(entry, *number));
        }
        table
    }

    #[test]
    fn runs_go_on_as_long_as_chunks_are_neighbours() {
        let table = table(&[Some(5), Some(6), Some(8), None, None, Some(0)]);
        let runs: Vec<_> = table.runs(1024..24576, |entry| table.get(entry)).collect();
        let at = |chunk: u64, skip: u64| Some(DataOffset::new(100 + chunk * 4096 + skip));
        assert_eq!(
            runs,
            [
                (1024..8192, at(5, 1024)),
                (8192..12288, at(8, 0)),
                (12288..20480, None),
                (20480..24576, at(0, 0)),
            ]
        );
    }

    #[test]
    fn the_mark_of_old_images_is_taken_off() {
        let mut bytes = [0xFF; 512];
        bytes[..4].copy_from_slice(&0x8000_0007_u32.to_le_bytes());
        bytes[4..8].copy_from_slice(&0x7FFF_FFFF_u32.to_le_bytes());
        let chunks = table(&[None; 2]).chunks;
        let table = Table::from_bytes(chunks, DataOffset::new(0), &bytes);
        assert_eq!(table.numbers().collect::<Vec<_>>(), [Some(7), None]);
        assert_eq!((table.raw(0), table.raw(1)), (7, 0xFFFF_FFFF));
    }
}
