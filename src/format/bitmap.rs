//! The bitmap: one bit a block, set once the block's content is in the data region.
//!
//! Bit (b mod 8) of byte (b div 8) is block b. Bits go from 0 to 1 and never back, so applying a
//! journal record twice, or a stale one, changes nothing. Bits past the last block mean nothing.
//! Source: FORMAT.md, "Bitmap" and "Creation rules".

use std::ops::Range;

use super::units::{PAGE, round_up};

/// Bytes of the bitmap of `blocks` blocks, rounded up to a page.
pub const fn bitmap_len(blocks: u64) -> u64 {
    round_up(blocks.div_ceil(8), PAGE)
}

/// Whether bit `bit` of `bytes` is set.
///
/// # Panics
/// Where the bit lies outside `bytes`.
pub fn test(bytes: &[u8], bit: u64) -> bool {
    bytes[byte_of(bit)] >> (bit % 8) & 1 != 0
}

/// Sets the bits `bits` of `bytes`; an empty range sets none.
///
/// # Panics
/// Where the range is not empty and reaches outside `bytes`.
pub fn set_bits(bytes: &mut [u8], bits: &Range<u64>) {
    if bits.is_empty() {
        return;
    }
    let (first, last) = (byte_of(bits.start), byte_of(bits.end - 1));
    let from_start = 0xFF << (bits.start % 8);
    let to_end = 0xFF >> (7 - (bits.end - 1) % 8);
    if first == last {
        bytes[first] |= from_start & to_end;
    } else {
        bytes[first] |= from_start;
        bytes[first + 1..last].fill(0xFF);
        bytes[last] |= to_end;
    }
}

fn byte_of(bit: u64) -> usize {
    usize::try_from(bit / 8).expect("a bitmap is at most 1 GiB")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_bitmap_is_whole_pages() {
        assert_eq!(bitmap_len(0), 0);
        assert_eq!(bitmap_len(1), 4096);
        assert_eq!(bitmap_len(8 * 4096), 4096);
        assert_eq!(bitmap_len(8 * 4096 + 1), 8192);
    }

    #[test]
    fn block_9_is_bit_1_of_byte_1() {
        let mut bytes = [0; 2];
        set_bits(&mut bytes, &(9..10));
        assert_eq!(bytes, [0, 2]);
        set_bits(&mut bytes, &(3..3));
        assert_eq!(bytes, [0, 2]);
    }

    proptest! {
        #[test]
        fn exactly_the_bits_of_the_range_are_set(start in 0u64..80, len in 0u64..48) {
            let mut bytes = [0; 16];
            set_bits(&mut bytes, &(start..start + len));
            for bit in 0..128 {
                prop_assert_eq!(test(&bytes, bit), (start..start + len).contains(&bit));
            }
        }
    }
}
