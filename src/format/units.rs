//! Numbers with a type: where a byte is says whose byte it is.
//!
//! An offset in the data file and one in the metadata file are both "a number of bytes"; as types
//! of their own, none is taken for the other. Bytes of the guest's disk are plain numbers: they
//! come from outside, and go through a geometry to become either.
//!
//! Arithmetic is unchecked (it panics where overflow checks are on), because every number was
//! bounded when its header was checked: see [`limits`](super::limits).

use std::fmt;
use std::ops::{Add, Sub};

/// Bytes of a disk sector: the unit of guest requests, and what a crash leaves whole.
pub const SECTOR: u64 = 512;

/// [`SECTOR`], as the length of an array.
pub const SECTOR_LEN: usize = 512;

/// Bytes of a page: the unit in which metadata regions are sized.
pub const PAGE: u64 = 4096;

// A byte count of this library fits into memory's own unit.
const _: () = assert!(usize::BITS >= 64, "libfvd needs a 64-bit target");

/// `n` as an index into memory.
#[allow(
    clippy::cast_possible_truncation,
    reason = "usize has 64 bits, as asserted above"
)]
pub const fn index(n: u64) -> usize {
    n as usize
}

macro_rules! offset {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(u64);

        impl $name {
            /// The place `bytes` bytes from the start.
            pub const fn new(bytes: u64) -> Self {
                Self(bytes)
            }

            /// Bytes from the start.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl Add<u64> for $name {
            type Output = Self;

            fn add(self, bytes: u64) -> Self {
                Self(self.0 + bytes)
            }
        }

        impl Sub for $name {
            type Output = u64;

            fn sub(self, earlier: Self) -> u64 {
                self.0 - earlier.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

offset! {
    /// A byte of the data file (of the one file, where metadata and data share it).
    DataOffset
}
offset! {
    /// A byte of the metadata file.
    MetaOffset
}

/// The smallest multiple of `n` that is not below `x`; `n` is any number above 0.
///
/// For numbers within [`limits`](super::limits); see [`checked_round_up`] for others.
pub const fn round_up(x: u64, n: u64) -> u64 {
    x.div_ceil(n) * n
}

/// [`round_up`], or `None` where the multiple does not fit or `n` is 0.
pub const fn checked_round_up(x: u64, n: u64) -> Option<u64> {
    if n == 0 {
        None
    } else {
        x.div_ceil(n).checked_mul(n)
    }
}

/// A size as people write it: a whole number of bytes, or of K, M, G or T (1024 each, in upper or
/// lower case). `None` where the text is anything else, or the size does not fit.
///
/// ```
/// use fvd::format::units::parse_size;
/// assert_eq!(parse_size("64k"), Some(65536));
/// assert_eq!(parse_size("-1"), None);
/// ```
pub fn parse_size(text: &str) -> Option<u64> {
    let shift = match text.bytes().last()? {
        b'k' | b'K' => 10,
        b'm' | b'M' => 20,
        b'g' | b'G' => 30,
        b't' | b'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 {
        text
    } else {
        &text[..text.len() - 1]
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // u64's own parser would take a sign
    }
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_add_lengths_and_subtract_to_lengths() {
        let start = DataOffset::new(4096);
        assert_eq!(start + 512, DataOffset::new(4608));
        assert_eq!((start + 512) - start, 512);
        assert_eq!(start.to_string(), "4096");
    }

    #[test]
    fn rounding_takes_any_multiple() {
        assert_eq!(round_up(0, 7680), 0);
        assert_eq!(round_up(1, 7680), 7680);
        assert_eq!(round_up(7680, 7680), 7680);
        assert_eq!(checked_round_up(1 << 20, 7680), Some(1_052_160));
        assert_eq!(checked_round_up(u64::MAX, 512), None);
        assert_eq!(checked_round_up(1, 0), None);
    }

    #[test]
    fn sizes_as_people_write_them() {
        let good = [
            ("512", 512),
            ("0", 0),
            ("64k", 65536),
            ("3M", 3 << 20),
            ("10G", 10 << 30),
        ];
        for (text, bytes) in good {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        assert_eq!(parse_size("8388607T"), Some(8_388_607 << 40));
        for text in [
            "",
            "k",
            "+1",
            "-1",
            "1.5G",
            "1KB",
            "0x10",
            "1 ",
            "16777216T",
            "K1",
            "é",
        ] {
            assert_eq!(parse_size(text), None, "{text}");
        }
    }
}
