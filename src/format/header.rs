//! The header: what an image says about itself.
//!
//! [`Header`] holds the fields in the types that they mean; the packed bytes are in raw.rs.
//! Decoding checks what can be seen in one field alone (sign, text); how fields fit together is
//! [`Geometry::from_header`](super::Geometry::from_header)'s to say.
//!
//! A header in use is changed one 512-byte sector at a time, because a crash leaves a sector whole
//! or unchanged, but can leave any mixture of several. Most changes fall into one sector
//! ([`changed_sectors`]); only the long texts span some. A name that reaches beyond its field's
//! first sector ([`first_sector_room`]) is first marked: its first byte becomes [`HALF_CHANGED`].
//! Then come the later sectors, and the first one last. A reader that meets the mark knows that
//! the name is neither the old nor the new one, and refuses ([`FormatError::HalfChanged`]); the
//! update that was cut reads with [`Header::decode_to_repeat`].
//!
//! Source: FORMAT.md, "Header"; DESIGN.md, "Header".

use std::ops::Range;

use super::error::FormatError;
use super::units::SECTOR_LEN;

mod raw;

pub(super) use raw::check_new_name;
pub use raw::{Field, span};

/// The first byte of a name that is being changed in several sectors.
pub const HALF_CHANGED: u8 = 0x01;

/// What a half changed name reads as for the update that repeats the change: the mark, and
/// nothing of the mixture behind it. It is written as the mark again, so that a header which
/// holds it can be changed elsewhere before the name is.
pub const HALF_CHANGED_NAME: &str = "\u{1}";

/// Whether guest writes go to the base image too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WriteUpdatesBase {
    /// They do not (the text "no", or none).
    #[default]
    No,
    /// Before the write completes ("writethrough").
    Writethrough,
    /// In the background, before a flush completes ("writeback").
    Writeback,
    /// To the base, and to the image where the block is present ("writenocache").
    Writenocache,
}

impl WriteUpdatesBase {
    /// All the texts, as options and the header have them.
    pub const NAMES: [&str; 4] = ["no", "writethrough", "writeback", "writenocache"];

    /// The value that `text` stands for.
    pub fn from_name(text: &str) -> Option<Self> {
        let all = [
            Self::No,
            Self::Writethrough,
            Self::Writeback,
            Self::Writenocache,
        ];
        let index = Self::NAMES.iter().position(|name| *name == text)?;
        Some(all[index])
    }

    /// The text.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The fields of the header (FORMAT.md, "Header"); magic and version are not kept. Sizes and
/// offsets are bytes, at most `i64::MAX`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// The base image is not needed (any more).
    pub all_data_in_fvd_img: bool,
    /// Bytes of the disk that the guest sees.
    pub virtual_disk_size: u64,
    /// Bytes of all metadata regions, at least.
    pub metadata_size: u64,
    /// Name of the base image, empty if none; up to 1023 bytes.
    pub base_img: String,
    /// Format of the base image, empty if not given; up to 15 bytes.
    pub base_img_fmt: String,
    /// Bytes of the disk that the base stands behind.
    pub base_img_size: u64,
    /// Where the bitmap starts.
    pub bitmap_offset: u64,
    /// Bytes of the bitmap.
    pub bitmap_size: u64,
    /// Bytes that one bit of the bitmap stands for.
    pub block_size: u32,
    /// Whether what a guest reads from the base is stored.
    pub copy_on_read: bool,
    /// Bytes read from the base but not stored yet, above which copy-on-read holds back.
    pub max_outstanding_copy_on_read_data: u64,
    /// Name of the separate data file, empty if none; up to 1023 bytes.
    pub data_file: String,
    /// Format of the data file, empty if not given; up to 15 bytes.
    pub data_file_fmt: String,
    /// Seconds from open to whole-image prefetching; 0 and below disable it.
    pub prefetch_start_delay: i32,
    /// Where the prefetch profile starts; 0: none.
    pub prefetch_profile_offset: u64,
    /// Valid entries of the prefetch profile.
    pub prefetch_profile_entries: u64,
    /// How many steps of prefetching are under way at once.
    pub num_prefetch_slots: u32,
    /// Bytes of one step.
    pub bytes_per_prefetch: u32,
    /// Milliseconds over which read throughput is measured.
    pub prefetch_read_throughput_measure_time: u32,
    /// Milliseconds over which write throughput is measured.
    pub prefetch_write_throughput_measure_time: u32,
    /// Weight of the past in the moving average, in percent.
    pub prefetch_perf_calc_alpha: u32,
    /// KiB/s of reading below which prefetching may pause.
    pub prefetch_min_read_throughput: u32,
    /// KiB/s of writing below which prefetching may pause.
    pub prefetch_min_write_throughput: u32,
    /// KiB/s that reading never exceeds.
    pub prefetch_max_read_throughput: u32,
    /// KiB/s that writing never exceeds.
    pub prefetch_max_write_throughput: u32,
    /// The longest pause, in milliseconds.
    pub prefetch_throttle_time: u32,
    /// Whether the data region is handed out chunk by chunk, through the table.
    pub compact_image: bool,
    /// Where the table starts.
    pub table_offset: u64,
    /// Bytes of a chunk.
    pub chunk_size: u64,
    /// Bytes by which the storage grows.
    pub storage_grow_unit: u64,
    /// What makes a device larger; up to 2047 bytes.
    pub add_storage_cmd: String,
    /// Where the journal starts.
    pub journal_offset: u64,
    /// Bytes of the journal; 0: none.
    pub journal_size: u64,
    /// Whether table and bitmap in their places are complete.
    pub clean_shutdown: bool,
    /// Whether the data region must read zeros where nothing was written.
    pub need_zero_init: bool,
    /// Whether what the guest reads from the base first is recorded.
    pub generate_prefetch_profile: bool,
    /// Bytes that a profile entry's length counts in (`unit_of_PrefetchProfileEntry_len`).
    pub unit_of_prefetch_profile_entry_len: u32,
    /// Seconds from open to prefetching by the profile; below 0 disables it.
    pub profile_directed_prefetch_start_delay: i32,
    /// Whether guest writes go to the base too.
    pub write_updates_base_img: WriteUpdatesBase,
}

impl Header {
    /// Bytes of the header's region.
    pub const LEN: usize = 8192;

    /// Bytes of the fields at its start; the rest of the region is zero.
    pub const FIELDS_LEN: usize = 4336;

    /// What an image begins with.
    pub const MAGIC: u32 = 0x5143_F5A9;

    /// The version of the format.
    pub const VERSION: u32 = 1;

    /// Whether a file that begins with `bytes` wants to be an FVD image (of any version).
    pub fn looks_like(bytes: &[u8]) -> bool {
        bytes.starts_with(&Self::MAGIC.to_le_bytes())
    }

    /// Reads a header from the start of a file.
    ///
    /// # Errors
    /// Another magic or version; fewer than [`Self::FIELDS_LEN`] bytes; a negative size, offset or
    /// count; a text without NUL or not in UTF-8; a name that is half changed; an unknown
    /// `write_updates_base_img`.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        raw::decode(bytes, None)
    }

    /// [`Self::decode`] for the update that sets `name` (`BaseImg` or `DataFile`): where that name
    /// is half changed, it reads as [`HALF_CHANGED_NAME`]. The layout is then that of an image
    /// with such a name, as it was before and will be after.
    ///
    /// # Errors
    /// As for [`Self::decode`], but for the mark on that name.
    pub fn decode_to_repeat(bytes: &[u8], name: Field) -> Result<Self, FormatError> {
        raw::decode(bytes, Some(name))
    }

    /// The whole region of the header.
    ///
    /// # Errors
    /// A text that is too long for its field or holds a NUL; a name that begins with
    /// [`HALF_CHANGED`] and goes on; a size above `i64::MAX`.
    pub fn encode(&self) -> Result<Box<[u8; Self::LEN]>, FormatError> {
        raw::encode(self)
    }
}

/// The sectors of the header that `field` lies in, counted from 0.
pub fn sectors(field: Field) -> Range<usize> {
    let Range { start, end } = span(field);
    start / SECTOR_LEN..end.div_ceil(SECTOR_LEN)
}

/// How many bytes of `field`, a NUL included, lie in its first sector.
pub fn first_sector_room(field: Field) -> usize {
    let Range { start, end } = span(field);
    end.min((start / SECTOR_LEN + 1) * SECTOR_LEN) - start
}

/// The sectors, counted from 0, in which two headers differ.
pub fn changed_sectors<'a>(
    old: &'a [u8; Header::LEN],
    new: &'a [u8; Header::LEN],
) -> impl Iterator<Item = usize> + 'a {
    let pairs = old.chunks(SECTOR_LEN).zip(new.chunks(SECTOR_LEN));
    pairs
        .enumerate()
        .filter(|(_, (old, new))| old != new)
        .map(|(sector, _)| sector)
}

#[cfg(test)]
mod tests;
