//! Where everything is: the checked layout of one image.
//!
//! ```text
//! metadata file:  | header | bitmap | table | journal | profile | ...
//!                 0        8192                                 metadata_size
//! data region:    in the same file from metadata_size on, or a file of its own from 0 on
//!
//! guest's disk:   | block | block | ... | part |                    |   blocks: up to base_size
//!                 |    chunk    |    chunk    | ...                 |   chunks: all of it
//!                 0                          base_size    virtual_size
//! ```
//!
//! A [`Geometry`] comes from a header, by [`Geometry::from_header`] (in layout.rs), which refuses
//! whatever does not fit together. So here, and in the layers above, offsets and sizes can be
//! combined without looking for overflow; only chunk numbers, which come from the table, cannot
//! ([`Chunks::offset_of`]). Blocks and chunks need not be powers of two, nor multiples of each
//! other. Source: FORMAT.md, "Regions", "Bitmap", "Table (compact images)".

use std::ops::Range;

use super::limits;
use super::table::{ENTRY_LEN, MAX_NUMBER};
use super::units::{DataOffset, MetaOffset, PAGE};

/// A run of bytes of the metadata file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// Its first byte; a multiple of 512.
    pub start: MetaOffset,
    /// How many bytes.
    pub len: u64,
}

impl Region {
    /// The byte after its last.
    pub fn end(&self) -> MetaOffset {
        self.start + self.len
    }
}

/// The layout of an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// Bytes of the guest's disk; a multiple of 512.
    pub virtual_size: u64,
    /// Bytes of all metadata; a multiple of 512.
    pub metadata_size: u64,
    /// Whether the data region is a file of its own.
    pub separate_data: bool,
    /// The bitmap, where it is in force: there is a base, and something of it may be needed.
    /// `None` also for a base of 0 bytes, which has no block.
    pub blocks: Option<Blocks>,
    /// The table, in compact images.
    pub chunks: Option<Chunks>,
    /// The journal, unless disabled. (With neither bitmap nor table there is none, whatever the
    /// header says; a bitmap that is not in force any more still counts.)
    pub journal: Option<Region>,
    /// The room of the prefetch profile, up to the next region or the end of the metadata; of a
    /// large one, at most [`limits::MAX_PROFILE_SIZE`] bytes are to be used.
    pub profile: Option<Region>,
}

impl Geometry {
    /// Where the data region starts in the data file: FORMAT.md's D.
    pub fn data_start(&self) -> DataOffset {
        DataOffset::new(if self.separate_data {
            0
        } else {
            self.metadata_size
        })
    }

    /// The largest `size` that an update can give this disk, in bytes: what the table's room
    /// holds (and this library's limits allow), or 1 EiB where there is no table.
    pub fn max_virtual_size(&self) -> u64 {
        let Some(chunks) = &self.chunks else {
            return limits::MAX_VIRTUAL_SIZE;
        };
        let bitmap = self.blocks.as_ref().map_or(0, |blocks| blocks.bitmap.len);
        let bytes = chunks.table.len.min(limits::MAX_BITMAP_AND_TABLE - bitmap);
        let entries = bytes / PAGE * (PAGE / ENTRY_LEN);
        let size = entries.saturating_mul(chunks.chunk_size);
        size.min(limits::MAX_VIRTUAL_SIZE)
    }
}

/// The base image, cut into blocks: one bit of the bitmap each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks {
    /// Bytes of a block; a multiple of 512.
    pub block_size: u64,
    /// Bytes of the guest's disk that the base image stands behind; a multiple of 512, not above
    /// the disk's size. The last block may end here before it is full.
    pub base_size: u64,
    /// How many blocks.
    pub count: u64,
    /// Where the bitmap is; may be larger than `count` bits need.
    pub bitmap: Region,
}

impl Blocks {
    /// The blocks that the guest's bytes `from..to` touch; empty where there are none below the
    /// end of the base.
    pub fn index_range(&self, from: u64, to: u64) -> Range<u64> {
        index_range(from, to.min(self.base_size), self.block_size)
    }

    /// The guest's bytes that block `block` (below `count`) stands for, cut off at the base's end.
    pub fn span(&self, block: u64) -> Range<u64> {
        span(block, self.block_size, self.base_size)
    }
}

/// The guest's disk, cut into chunks: one entry of the table each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunks {
    /// Bytes of a chunk; a multiple of 4096.
    pub chunk_size: u64,
    /// How many entries are in use, for a disk of the present size.
    pub entries: u64,
    /// The table's room, up to the next region or the end of the metadata. Its first
    /// [`table_len`](super::table::table_len)`(entries)` bytes are the table.
    pub table: Region,
    /// Bytes by which the storage grows; at least a chunk.
    pub grow_unit: u64,
}

impl Chunks {
    /// The entries of the chunks that the guest's bytes `from..to` touch. The caller keeps `to`
    /// within the disk.
    pub fn index_range(&self, from: u64, to: u64) -> Range<u64> {
        index_range(from, to, self.chunk_size)
    }

    /// The guest's bytes of chunk `index`, on a disk of `virtual_size` bytes, which may cut off
    /// the last one.
    pub fn span(&self, index: u64, virtual_size: u64) -> Range<u64> {
        span(index, self.chunk_size, virtual_size)
    }

    /// Where chunk `number` of the data region is, in a data file whose region starts at
    /// `data_start`; `None` where it would end beyond what a file can hold.
    pub fn offset_of(&self, number: u32, data_start: DataOffset) -> Option<DataOffset> {
        let start = u64::from(number)
            .checked_mul(self.chunk_size)?
            .checked_add(data_start.get())?;
        let end = start.checked_add(self.chunk_size)?;
        let fits = number <= MAX_NUMBER && end <= limits::MAX_FILE_OFFSET;
        fits.then_some(DataOffset::new(start))
    }
}

/// The pieces of `unit` bytes that `from..to` touches.
fn index_range(from: u64, to: u64, unit: u64) -> Range<u64> {
    if from >= to {
        0..0
    } else {
        from / unit..to.div_ceil(unit)
    }
}

/// The bytes of piece `index`, cut off at `end`.
fn span(index: u64, unit: u64, end: u64) -> Range<u64> {
    let start = index * unit;
    debug_assert!(
        start < end,
        "piece {index} of {unit} bytes begins beyond {end}"
    );
    start..end.min(start + unit)
}

#[cfg(test)]
mod tests;
