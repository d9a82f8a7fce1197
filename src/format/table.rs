//! The table of a compact image: entry i maps chunk i of the guest's disk to a chunk of the data.
//!
//! A stored entry is a little-endian u32. Its low 31 bits are the chunk's number; bit 31 is a mark
//! of the first implementation's memory ("not yet in the journal") that got into files, so it is
//! masked off. All 31 bits set is no number, with the mark or without: the chunk is unallocated.
//!
//! No two entries may hold one number, or a write to one guest chunk would change another. As a
//! journal may repair a table, this is checked after the replay, by [`check_entries`].
//! Source: FORMAT.md, "Table (compact images)".

use super::error::FormatError;
use super::geometry::Chunks;
use super::units::{DataOffset, PAGE, round_up};

/// Bytes of one entry.
pub const ENTRY_LEN: u64 = 4;

const NUMBER_MASK: u32 = 0x7FFF_FFFF;

/// The highest chunk number.
pub const MAX_NUMBER: u32 = NUMBER_MASK - 1;

/// Bytes of the table of `entries` entries, rounded up to a page.
pub const fn table_len(entries: u64) -> u64 {
    round_up(entries * ENTRY_LEN, PAGE)
}

/// One entry, as it is stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry(u32);

impl Entry {
    /// The entry of a chunk that has no place in the data yet.
    pub const UNALLOCATED: Self = Self(0xFFFF_FFFF);

    /// The entry that a file or a journal record holds as `raw`.
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw)
    }

    /// The entry that names chunk `number` of the data.
    ///
    /// # Panics
    /// Where `number` is above [`MAX_NUMBER`].
    pub const fn from_number(number: u32) -> Self {
        assert!(
            number <= MAX_NUMBER,
            "a chunk number has 31 bits, not all of them set"
        );
        Self(number)
    }

    /// What is stored.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// The number of the chunk in the data, or `None` where it is unallocated.
    pub const fn number(self) -> Option<u32> {
        match self.0 & NUMBER_MASK {
            NUMBER_MASK => None,
            number => Some(number),
        }
    }
}

/// The entries that `bytes` holds; an incomplete one at the end is not looked at.
pub fn decode(bytes: &[u8]) -> impl ExactSizeIterator<Item = Entry> + Clone {
    let (entries, _) = bytes.as_chunks::<4>();
    entries.iter().map(|raw| Entry(u32::from_le_bytes(*raw)))
}

/// Writes `entries` to the start of `bytes`.
///
/// # Panics
/// Where `bytes` is too small for them.
pub fn encode(entries: impl IntoIterator<Item = Entry>, bytes: &mut [u8]) {
    let (slots, _) = bytes.as_chunks_mut::<4>();
    for (index, entry) in entries.into_iter().enumerate() {
        slots[index] = entry.0.to_le_bytes();
    }
}

/// Checks a whole table, after the replay: no chunk has two owners, and each has a place.
///
/// `entries` gives the numbers of all entries in order (`None`: unallocated); `chunks` and
/// `data_start` are those of the image's geometry. Takes one bit of memory for each number up to
/// the highest, of which only the pages that are touched become real.
///
/// # Errors
/// [`FormatError::SameChunk`] names both entries, [`FormatError::ChunkPlace`] the one whose chunk
/// would end beyond what a file can hold.
pub fn check_entries(
    entries: impl Iterator<Item = Option<u32>> + Clone,
    chunks: &Chunks,
    data_start: DataOffset,
) -> Result<(), FormatError> {
    let again = entries.clone();
    let highest = entries
        .clone()
        .enumerate()
        .max_by_key(|&(_, number)| number);
    let Some((entry, Some(highest))) = highest else {
        return Ok(());
    };
    if chunks.offset_of(highest, data_start).is_none() {
        return Err(FormatError::ChunkPlace {
            entry,
            number: highest,
        });
    }
    let mut seen = vec![0u64; highest as usize / 64 + 1];
    for (second, number) in entries.enumerate() {
        let Some(number) = number else { continue };
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if seen[word] & bit != 0 {
            let first = again.clone().position(|other| other == Some(number));
            let first = first.expect("an earlier entry set the bit");
            return Err(FormatError::SameChunk {
                first,
                second,
                number,
            });
        }
        seen[word] |= bit;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
