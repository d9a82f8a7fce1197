//! The bitmap in memory: which blocks the data region holds (FORMAT.md, "Bitmap").
//!
//! Bits are kept as words that several threads may read while one sets them. In version 1 a bit only
//! ever goes from 0 to 1, so a reader that sees an old word is merely sent the longer way.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::format::units::index;

const WORD_BITS: u64 = u64::BITS as u64;
const WORDS_PER_SECTOR: usize = 64;

/// One bit a block; 1: the data region holds the block.
pub struct Bitmap {
    words: Box<[AtomicU64]>,
}

impl Bitmap {
    /// The bitmap whose stored form is `bytes`, a whole number of sectors.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let (words, rest) = bytes.as_chunks::<8>();
        debug_assert!(rest.is_empty());
        Self {
            words: words
                .iter()
                .map(|w| AtomicU64::new(u64::from_le_bytes(*w)))
                .collect(),
        }
    }

    /// The stored form of `sectors` of the bitmap.
    pub fn write_sectors(&self, sectors: Range<u64>, out: &mut [u8]) {
        let words = &self.words[words_of(sectors)];
        for (bytes, word) in out.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
    }

    /// How many sectors its stored form has.
    pub fn sectors(&self) -> u64 {
        (self.words.len() / WORDS_PER_SECTOR) as u64
    }

    /// Sets the bits of `blocks`.
    pub fn set(&self, blocks: Range<u64>) {
        for (word, mask) in masks(&blocks) {
            self.words[word].fetch_or(mask, Relaxed);
        }
    }

    /// True if the bits of all `blocks` are set.
    pub fn all_set(&self, blocks: &Range<u64>) -> bool {
        masks(blocks).all(|(word, mask)| self.words[word].load(Relaxed) & mask == mask)
    }

    /// The bit of one block.
    pub fn test(&self, block: u64) -> bool {
        self.words[index(block / WORD_BITS)].load(Relaxed) >> (block % WORD_BITS) & 1 != 0
    }

    /// The end of the run of equal bits that begins at `blocks.start`.
    pub fn run_end(&self, blocks: &Range<u64>) -> u64 {
        let flip = if self.test(blocks.start) { u64::MAX } else { 0 };
        for (word, mask) in masks(blocks) {
            let other = (self.words[word].load(Relaxed) ^ flip) & mask;
            if other != 0 {
                return word as u64 * WORD_BITS + u64::from(other.trailing_zeros());
            }
        }
        blocks.end
    }

    /// The runs of unset bits within `blocks`.
    pub fn missing(&self, blocks: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut rest = blocks;
        std::iter::from_fn(move || {
            if !rest.is_empty() && self.test(rest.start) {
                rest.start = self.run_end(&rest);
            }
            if rest.is_empty() {
                return None;
            }
            let run = rest.start..self.run_end(&rest);
            rest.start = run.end;
            Some(run)
        })
    }

    /// How many of the first `blocks` bits are set.
    pub fn count(&self, blocks: u64) -> u64 {
        let count = |(word, mask): (usize, u64)| self.words[word].load(Relaxed) & mask;
        masks(&(0..blocks))
            .map(|m| u64::from(count(m).count_ones()))
            .sum()
    }
}

fn words_of(sectors: Range<u64>) -> Range<usize> {
    index(sectors.start) * WORDS_PER_SECTOR..index(sectors.end) * WORDS_PER_SECTOR
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

    fn bitmap(sectors: usize) -> Bitmap {
        Bitmap::from_bytes(&vec![0; sectors * 512])
    }

    #[test]
    fn a_run_is_set_and_found_again_across_words() {
        let map = bitmap(1);
        map.set(60..200);
        assert!(map.all_set(&(60..200)));
        assert!(!map.all_set(&(59..200)) && !map.all_set(&(60..201)));
        assert_eq!(
            (map.run_end(&(0..4096)), map.run_end(&(60..4096))),
            (60, 200)
        );
        assert_eq!(map.run_end(&(60..100)), 100);
        assert_eq!(map.count(4096), 140);
    }

    #[test]
    fn missing_blocks_come_as_runs() {
        let map = bitmap(1);
        map.set(3..5);
        map.set(64..128);
        let missing: Vec<_> = map.missing(0..130).collect();
        assert_eq!(missing, [0..3, 5..64, 128..130]);
        assert_eq!(map.missing(64..128).count(), 0);
        assert_eq!(map.missing(7..7).count(), 0);
    }

    #[test]
    fn the_stored_form_is_little_endian_bit_order() {
        let map = bitmap(2);
        map.set(9..10);
        map.set(4096..4097);
        let mut bytes = [0; 1024];
        map.write_sectors(0..2, &mut bytes);
        assert_eq!((bytes[1], bytes[512]), (2, 1));
        assert_eq!(Bitmap::from_bytes(&bytes).count(8192), 2);
    }
}
