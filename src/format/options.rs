//! What can be asked for when an image is created.
//!
//! [`CreateOptions`] is the request in types; its text form is "name=value,name=value", where a
//! later value wins, and a doubled comma stands for a comma in a value. What the request means is
//! decided in create.rs: an option that has no use in an image (a chunk size where the image is
//! not compact) is ignored, as the first implementation did.
//! Source: FORMAT.md, "Create options".

use super::argument::{Argument, row, split};
use super::error::FormatError;
use super::limits::{MAX_CHUNK_SIZE, MAX_PROFILE_SIZE, MAX_VIRTUAL_SIZE as MAX_SIZE};
use super::units::round_up;

pub use super::argument::{OptionInfo, OptionKind};

/// How large the journal is to be, before it is rounded up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum JournalSize {
    /// 16 MiB.
    #[default]
    Default,
    /// No journal.
    Disabled,
    /// This many bytes, but at least what the table needs.
    Bytes(u64),
}

/// A request for a new image. [`Default`] is an image without base or table, whose size is still
/// to be given.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CreateOptions {
    /// Bytes of the disk; `None`: the size of the base image.
    pub size: Option<u64>,
    /// Whether to hand out the data region chunk by chunk, through a table.
    pub compact_image: bool,
    /// Bytes that one bit of the bitmap stands for; `None`: so that the bitmap has up to 4 MiB.
    pub block_size: Option<u64>,
    /// Bytes of a chunk; `None`: 1 MiB.
    pub chunk_size: Option<u64>,
    /// Bytes by which the storage grows; `None`: 100 MiB.
    pub storage_grow_unit: Option<u64>,
    /// What makes a device larger; empty: nothing.
    pub add_storage_cmd: String,
    /// The name of the base image.
    pub backing_file: Option<String>,
    /// The format of the base image; empty: not given.
    pub backing_fmt: String,
    /// The name of the separate data file; empty: none.
    pub data_file: String,
    /// The format of the data file; empty: not given.
    pub data_file_fmt: String,
    /// Whether to store what a guest reads from the base.
    pub copy_on_read: bool,
    /// Seconds from open to prefetching; `None`: -1, which disables it, as 0 does.
    pub prefetch_start_delay: Option<i32>,
    /// Bytes of zeros in the base that are worth marking as present; `None` or 0: do not look.
    pub detect_sparse_hole: Option<u64>,
    /// The size of the journal.
    pub journal_size: JournalSize,
    /// Bytes of the prefetch profile; `None`: 64 KiB if it is to be recorded, else 0.
    pub prefetch_profile_size: Option<u64>,
    /// Whether to record what the guest reads from the base first.
    pub generate_prefetch_profile: bool,
}

impl CreateOptions {
    /// Reads "name=value,name=value"; of several values of one name, the last holds.
    ///
    /// # Errors
    /// A name that is not in [`CREATE_OPTIONS`], or a value that the option does not take; the
    /// message lists what is allowed.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let mut options = Self::default();
        for item in split(text) {
            options.set(&item)?;
        }
        Ok(options)
    }

    /// Takes one more "name=value" in (here a comma is a comma).
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn set(&mut self, item: &str) -> Result<(), FormatError> {
        let argument = Argument::parse(item, CREATE_OPTIONS)?;
        match argument.name {
            "size" => self.size = Some(argument.size()?),
            "compact_image" => self.compact_image = argument.bool()?,
            "block_size" => self.block_size = Some(argument.size()?),
            "chunk_size" => self.chunk_size = Some(argument.size()?),
            "storage_grow_unit" => self.storage_grow_unit = Some(argument.size()?),
            "add_storage_cmd" => self.add_storage_cmd = argument.text(),
            "backing_file" => {
                self.backing_file = Some(argument.text()).filter(|name| !name.is_empty());
            }
            "backing_fmt" => self.backing_fmt = argument.text(),
            "data_file" => self.data_file = argument.text(),
            "data_file_fmt" => self.data_file_fmt = argument.text(),
            "copy_on_read" => self.copy_on_read = argument.bool()?,
            "prefetch_start_delay" => self.prefetch_start_delay = Some(argument.integer()?),
            "detect_sparse_hole" => self.detect_sparse_hole = Some(argument.size()?),
            "journal_size" => {
                self.journal_size = match argument.size_or_none()? {
                    None => JournalSize::Disabled,
                    Some(0) => JournalSize::Default,
                    Some(bytes) => JournalSize::Bytes(bytes),
                };
            }
            "prefetch_profile_size" => self.prefetch_profile_size = Some(argument.size()?),
            "generate_prefetch_profile" => self.generate_prefetch_profile = argument.bool()?,
            name => unreachable!("{name} is listed, but nobody reads it"),
        }
        Ok(())
    }

    /// Bytes of the regions in which the base is to be searched for zeros, for an image with
    /// blocks of `block_size` bytes; `None` where it is not to be searched. Only whole regions
    /// count. Source: FORMAT.md, "Creation rules".
    pub fn sparse_region(&self, block_size: u64) -> Option<u64> {
        let wanted = self.detect_sparse_hole.filter(|&bytes| bytes > 0)?;
        Some(round_up(wanted.max(block_size), block_size))
    }
}

/// What [`CreateOptions::parse`] takes.
pub const CREATE_OPTIONS: &[OptionInfo] = &[
    row(
        "size",
        bytes(0, MAX_SIZE),
        "size of the virtual disk; not needed with a base image",
        "",
    ),
    row(
        "compact_image",
        OptionKind::Bool,
        "allocate the data in chunks, through a table",
        "off",
    ),
    row(
        "block_size",
        bytes(1, MAX_BLOCK),
        "unit of copy-on-write, with a base image",
        "",
    ),
    row(
        "chunk_size",
        bytes(1, MAX_CHUNK_SIZE),
        "unit of allocation, in compact images",
        "1M",
    ),
    row(
        "storage_grow_unit",
        bytes(0, MAX_CHUNK_SIZE),
        "how much to grow the storage by",
        "100M",
    ),
    row(
        "add_storage_cmd",
        OptionKind::Text,
        "what makes a device larger",
        "",
    ),
    row(
        "backing_file",
        OptionKind::Text,
        "name of the base image",
        "",
    ),
    row(
        "backing_fmt",
        OptionKind::Text,
        "format of the base image",
        "",
    ),
    row(
        "data_file",
        OptionKind::Text,
        "keep the data in this file of its own",
        "",
    ),
    row(
        "data_file_fmt",
        OptionKind::Text,
        "format of the data file",
        "",
    ),
    row(
        "copy_on_read",
        OptionKind::Bool,
        "store what the guest reads from the base",
        "off",
    ),
    row(
        "prefetch_start_delay",
        SECONDS,
        "seconds until prefetching starts; 0, -1: never",
        "-1",
    ),
    row(
        "detect_sparse_hole",
        bytes(0, MAX_SIZE),
        "find zeros of this size in the base",
        "0",
    ),
    row(
        "journal_size",
        OptionKind::SizeOrNone,
        "size of the journal; -1: no journal",
        "16M",
    ),
    row(
        "prefetch_profile_size",
        bytes(0, MAX_PROFILE_SIZE),
        "room for a prefetch profile",
        "0",
    ),
    row(
        "generate_prefetch_profile",
        OptionKind::Bool,
        "record a prefetch profile",
        "off",
    ),
];

/// The largest `block_size` that still fits its field when rounded up to a sector.
pub(super) const MAX_BLOCK: u64 = 0xFFFF_FE00;

const SECONDS: OptionKind = OptionKind::Integer {
    min: i32::MIN as i64,
    max: i32::MAX as i64,
};

const fn bytes(min: u64, max: u64) -> OptionKind {
    OptionKind::Size { min, max }
}

#[cfg(test)]
mod tests;
