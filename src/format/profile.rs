//! The prefetch profile: what a guest read from the base first, in the order it read it.
//!
//! An array of packed entries: i64 byte offset in the base, u32 length in units that the header
//! gives. It is a hint: an entry that makes no sense is skipped, not an error of the image.
//! Source: FORMAT.md, "Prefetch profile".

use std::ops::Range;

use super::error::FormatError;

/// Bytes of one entry.
pub const ENTRY_LEN: usize = 12;

/// One region that was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProfileEntry {
    /// Its first byte in the base.
    pub offset: u64,
    /// Its length, in units of `unit_of_PrefetchProfileEntry_len`.
    pub len_units: u32,
}

impl ProfileEntry {
    /// The entry as stored. A negative offset becomes one that no base reaches, which
    /// [`Self::range`] refuses.
    pub fn decode(bytes: &[u8; ENTRY_LEN]) -> Self {
        let [a, b, c, d, e, f, g, h, len @ ..] = *bytes;
        let offset = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self {
            offset,
            len_units: u32::from_le_bytes(len),
        }
    }

    /// What is stored.
    pub fn encode(&self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.len_units.to_le_bytes());
        bytes
    }

    /// The bytes of the base that the entry names, in a base of `base_size` bytes (at most 2^60)
    /// and with lengths in `unit` bytes. The last unit may reach beyond the end of the base, and
    /// is cut off there.
    ///
    /// # Errors
    /// An empty region, or one that does not lie within the base.
    pub fn range(&self, unit: u32, base_size: u64) -> Result<Range<u64>, FormatError> {
        let unit = u64::from(unit);
        let len = u64::from(self.len_units) * unit;
        let end = self.offset.saturating_add(len);
        let last_unit = end.saturating_sub(unit);
        if len == 0 || self.offset >= base_size || last_unit >= base_size {
            let offset = self.offset.cast_signed();
            return Err(FormatError::ProfileEntry {
                offset,
                len_units: self.len_units,
            });
        }
        Ok(self.offset..end.min(base_size))
    }
}

/// The entries that `bytes` holds; an incomplete one at the end is not looked at.
pub fn decode(bytes: &[u8]) -> impl ExactSizeIterator<Item = ProfileEntry> {
    let (entries, _) = bytes.as_chunks();
    entries.iter().map(ProfileEntry::decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_an_offset_and_a_length() {
        let entry = ProfileEntry {
            offset: 0x0102_0304,
            len_units: 5,
        };
        assert_eq!(entry.encode(), [4, 3, 2, 1, 0, 0, 0, 0, 5, 0, 0, 0]);
        let mut bytes = entry.encode().to_vec();
        bytes.extend([9; 13]);
        let read: Vec<_> = decode(&bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], entry);
    }

    #[test]
    fn the_last_unit_is_cut_off_at_the_end_of_the_base() {
        let range = |offset, len_units| ProfileEntry { offset, len_units }.range(4096, 10_240).ok();
        assert_eq!(range(0, 2), Some(0..8192));
        assert_eq!(range(8192, 1), Some(8192..10_240));
        assert_eq!(range(512, 3), Some(512..10_240));
        assert_eq!(range(8192, 2), None, "a whole unit beyond the end");
        assert_eq!(range(10_240, 1), None);
        assert_eq!(range(0, 0), None);
        assert_eq!(range(u64::MAX, 1), None);
    }

    #[test]
    fn a_refused_entry_is_named() {
        let entry = ProfileEntry {
            offset: (-512i64).cast_unsigned(),
            len_units: 1,
        };
        let error = entry.range(4096, 1 << 20).unwrap_err();
        assert_eq!(
            error,
            FormatError::ProfileEntry {
                offset: -512,
                len_units: 1
            }
        );
    }

    proptest! {
        #[test]
        fn entries_round_trip_and_ranges_stay_in_the_base(
            offset: u64, len_units: u32, unit: u32, base_size in 0u64..=1 << 60
        ) {
            let entry = ProfileEntry { offset, len_units };
            prop_assert_eq!(ProfileEntry::decode(&entry.encode()), entry);
            if let Ok(range) = entry.range(unit, base_size) {
                prop_assert!(range.start == offset && range.start < range.end);
                prop_assert!(range.end <= base_size);
            }
        }
    }
}
