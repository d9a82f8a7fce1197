//! The bitmap in memory: which blocks the data region holds (FORMAT.md, "Bitmap").
//!
//! Bits are words that several threads may read while one sets them. In version 1 a bit only ever
//! goes from 0 to 1, so a writer that sees an old word merely takes the longer way. (A second queue
//! that reads would have to see every bit that was set before its request was submitted.)

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::format::geometry::Blocks;
use crate::format::units::{MetaOffset, SECTOR, index};
use crate::host::Buffer;

use super::buffer::allocate;
use super::error::Result;

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS_PER_SECTOR: usize = 64;

/// One bit a block; 1: the data region holds the block.
pub(crate) struct Bitmap {
    /// How the base image is cut into blocks.
    pub(crate) blocks: Blocks,
    words: Box<[AtomicU64]>,
}

impl Bitmap {
    /// Bytes of its stored form, a whole number of sectors.
    pub(crate) fn stored_len(blocks: &Blocks) -> u64 {
        blocks.count.div_ceil(8 * SECTOR) * SECTOR
    }

    /// The bitmap of `blocks` whose stored form is `bytes`.
    pub(crate) fn from_bytes(blocks: Blocks, bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        debug_assert!(rest.is_empty());
        let words = words
            .iter()
            .map(|word| AtomicU64::new(u64::from_le_bytes(*word)))
            .collect();
        Self { blocks, words }
    }

    /// Some sectors of its stored form, and where they go.
    pub(crate) fn part(&self, sectors: &Range<u64>) -> Result<(MetaOffset, Buffer)> {
        let mut buffer = allocate((sectors.end - sectors.start) * SECTOR)?;
        let words = &self.words[index(sectors.start) * WORDS_PER_SECTOR..];
        for (bytes, word) in buffer.bytes_mut().chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        Ok((self.blocks.bitmap.start + sectors.start * SECTOR, buffer))
    }

    /// How many sectors its stored form has.
    pub(crate) fn sectors(&self) -> u64 {
        (self.words.len() / WORDS_PER_SECTOR) as u64
    }

    /// The blocks that `range` of the disk touches.
    #[inline]
    pub(crate) fn touched(&self, range: &Range<u64>) -> Range<u64> {
        self.blocks.index_range(range.start, range.end)
    }

    /// `range`, widened to whole blocks; what lies above the base is not widened.
    pub(crate) fn widened(&self, range: &Range<u64>) -> Range<u64> {
        match self.touched(range) {
            blocks if blocks.is_empty() => range.clone(),
            blocks => {
                let end = self.blocks.span(blocks.end - 1).end.max(range.end);
                self.blocks.span(blocks.start).start..end
            }
        }
    }

    /// Sets the bits of `blocks`.
    pub(crate) fn set(&self, blocks: Range<u64>) {
        for (word, mask) in masks(&blocks) {
            self.words[word].fetch_or(mask, Relaxed);
        }
    }

    /// True if the bits of all `blocks` are set.
    pub(crate) fn all_set(&self, blocks: &Range<u64>) -> bool {
        masks(blocks).all(|(word, mask)| self.words[word].load(Relaxed) & mask == mask)
    }

    /// The bit of one block.
    pub(crate) fn test(&self, block: u64) -> bool {
        self.words[index(block / WORD_BITS)].load(Relaxed) >> (block % WORD_BITS) & 1 != 0
    }

    /// The end of the run of equal bits that begins at `blocks.start`.
    pub(crate) fn run_end(&self, blocks: &Range<u64>) -> u64 {
        let flip = if self.test(blocks.start) { u64::MAX } else { 0 };
        for (word, mask) in masks(blocks) {
            let other = (self.words[word].load(Relaxed) ^ flip) & mask;
            if other != 0 {
                return word as u64 * WORD_BITS + u64::from(other.trailing_zeros());
            }
        }
        blocks.end
    }

    /// The first run of unset bits within `blocks`, or the first `most` of it.
    pub(crate) fn next_missing(&self, blocks: &Range<u64>, most: u64) -> Option<Range<u64>> {
        let present = !blocks.is_empty() && self.test(blocks.start);
        let start = if present {
            self.run_end(blocks)
        } else {
            blocks.start
        };
        let window = start..blocks.end.min(start.saturating_add(most));
        (!window.is_empty()).then(|| start..self.run_end(&window))
    }

    /// The runs of unset bits within `blocks`.
    pub(crate) fn missing(&self, blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut rest = blocks;
        std::iter::from_fn(move || {
            let run = self.next_missing(&rest, u64::MAX)?;
            rest.start = run.end;
            Some(run)
        })
    }

    /// How many blocks are present.
    pub(crate) fn count(&self) -> u64 {
        let count = |(word, mask): (usize, u64)| self.words[word].load(Relaxed) & mask;
        masks(&(0..self.blocks.count))
            .map(|m| u64::from(count(m).count_ones()))
            .sum()
    }
}

/// The words that `bits` touch, each with a mask of the bits within it.
pub(super) fn masks(bits: &Range<u64>) -> impl Iterator<Item = (usize, u64)> + use<> {
    let Range { start, end } = *bits;
    let words = if start < end {
        start / WORD_BITS..(end - 1) / WORD_BITS + 1
    } else {
        0..0
    };
    words.map(move |word| {
        let first = word * WORD_BITS;
        let from = u64::MAX << start.saturating_sub(first);
        let to = u64::MAX >> (first + WORD_BITS).saturating_sub(end);
        (index(word), from & to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::geometry::Region;

    fn bitmap(count: u64) -> Bitmap {
        let bitmap = Region {
            start: MetaOffset::new(8192),
            len: 4096,
        };
        let blocks = Blocks {
            block_size: 1024,
            base_size: count * 1024 - 512,
            count,
            bitmap,
        };
        Bitmap::from_bytes(blocks, &vec![0; index(Bitmap::stored_len(&blocks))])
    }

    #[test]
    fn a_run_is_set_and_found_again_across_words() {
        let map = bitmap(4096);
        map.set(60..200);
        assert!(map.all_set(&(60..200)));
        assert!(!map.all_set(&(59..200)) && !map.all_set(&(60..201)));
        assert_eq!(
            (map.run_end(&(0..4096)), map.run_end(&(60..4096))),
            (60, 200)
        );
        assert_eq!(map.run_end(&(60..100)), 100);
        assert_eq!(map.count(), 140);
    }

    #[test]
    fn missing_blocks_come_as_runs() {
        let map = bitmap(4096);
        map.set(3..5);
        map.set(64..128);
        let missing: Vec<_> = map.missing(0..130).collect();
        assert_eq!(missing, [0..3, 5..64, 128..130]);
        assert_eq!(map.missing(64..128).count(), 0);
        assert_eq!(map.missing(7..7).count(), 0);
    }

    #[test]
    fn the_stored_form_is_little_endian_bit_order() {
        let map = bitmap(5000);
        map.set(9..10);
        map.set(4096..4097);
        let (at, mut bytes) = map.part(&(0..2)).unwrap();
        assert_eq!(at, MetaOffset::new(8192));
        assert_eq!((bytes.bytes_mut()[1], bytes.bytes_mut()[512]), (2, 1));
        assert_eq!(Bitmap::from_bytes(map.blocks, bytes.bytes_mut()).count(), 2);
        assert_eq!(map.part(&(1..2)).unwrap().0, MetaOffset::new(8192 + 512));
    }

    #[test]
    fn widening_stops_at_the_end_of_the_base() {
        let map = bitmap(4);
        assert_eq!(map.widened(&(1536..2560)), 1024..3072);
        assert_eq!(map.widened(&(3072..3584)), 3072..3584);
        assert_eq!(map.widened(&(3500..9000)), 3072..9000);
        assert_eq!(map.widened(&(4096..9000)), 4096..9000);
    }
}
