//! Extents: where the bytes of the disk are, down the chain of base images.
//!
//! ```text
//!   guest bytes ──▶ bitmap: 0 ──▶ base image: a raw file, or another layer of the same kind
//!                          1 ──▶ table: unallocated ──▶ zeros
//!                                       chunk n ─────▶ data file, D + n × chunk_size
//!                                no table ───────────▶ data file, D + v
//! ```
//!
//! A [`Layer`] answers for one image, and is all that a read needs. Of the image that the guest writes
//! it is also the view that every published write changes, always towards "present" and
//! "allocated"; the layers below it never change. What lies past the end of a data file reads as zeros;
//! a chunk that begins there is lost (FORMAT.md, "Reading a sector").

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use crate::format::geometry::{Chunks, Geometry};
use crate::format::units::{DataOffset, MetaOffset, SECTOR};
use crate::host::Buffer;

use super::bitmap::Bitmap;
use super::error::Result;
use super::file::{File, allocate, length};
use super::table::Table;

/// Where a run of bytes is.
pub enum Source<'a> {
    /// Nowhere: zeros.
    Zero,
    /// In a file, from this byte on.
    File(&'a File, u64),
    /// In a chunk that begins past the end of its file.
    Lost,
}

/// A run of bytes of the disk that are in one place.
pub struct Extent<'a> {
    /// Its bytes on the disk of the layer that was asked.
    pub range: Range<u64>,
    /// Where they are.
    pub source: Source<'a>,
    /// How many base images down; 0 is the layer that was asked.
    pub depth: u32,
}

/// The data file of a layer.
pub struct DataFile {
    /// The file; the metadata file too, unless the data has one of its own.
    pub file: Rc<File>,
    /// FORMAT.md's D.
    pub start: DataOffset,
    /// How far it reaches, in bytes, as far as completed operations tell.
    pub length: Cell<u64>,
}

impl DataFile {
    /// Takes note that a completed operation reached `end`.
    #[inline]
    pub fn reached(&self, end: u64) {
        if end > self.length.get() {
            self.length.set(end);
        }
    }
}

/// What is below a layer.
pub enum Backing {
    /// A raw file; what it lacks of its last sector reads as zeros.
    Raw(Rc<File>),
    /// Another image.
    Layer(Box<Layer>),
}

impl Backing {
    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Raw(file) => file.length_at_open,
            Self::Layer(layer) => layer.geometry.virtual_size,
        }
    }
}

/// One image, as reads see it.
pub struct Layer {
    /// Its checked layout.
    pub geometry: Geometry,
    /// Present blocks, where a base image may still be needed.
    pub bitmap: Option<Bitmap>,
    /// Allocated chunks, in a compact image.
    pub table: Option<Table>,
    /// The file of its header, bitmap, table and journal.
    pub metadata: Rc<File>,
    /// Its data.
    pub data: DataFile,
    /// Its base image, where the bitmap may still send a read there.
    pub backing: Option<Backing>,
}

impl Layer {
    /// The extents of `range`, in order.
    pub fn extents(&self, range: Range<u64>) -> impl Iterator<Item = Extent<'_>> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let extent = self.extent(at..range.end);
            debug_assert!(extent.range.start == at && extent.range.end > at);
            at = extent.range.end;
            Some(extent)
        })
    }

    /// The extent at the start of `range`, as long as it is known to go on, at most to the range's end.
    #[inline]
    pub fn extent(&self, range: Range<u64>) -> Extent<'_> {
        match (&self.bitmap, &self.geometry.blocks) {
            (Some(bitmap), Some(blocks)) if range.start < blocks.base_size => {
                let run = bitmap.run_end(&blocks.index_range(range.start, range.end));
                let end = range.end.min(blocks.base_size).min(run * blocks.block_size);
                let range = range.start..end;
                match bitmap.test(range.start / blocks.block_size) {
                    true => self.data_extent(range),
                    false => self.base_extent(range),
                }
            }
            _ => self.data_extent(range),
        }
    }

    fn base_extent(&self, range: Range<u64>) -> Extent<'_> {
        match self
            .backing
            .as_ref()
            .expect("a bitmap in force has a base image below it")
        {
            Backing::Raw(file) => {
                let source = |at| Source::File(file, at);
                below(range, file.length_at_open, source, 1)
            }
            Backing::Layer(layer) if range.start < layer.geometry.virtual_size => {
                let end = range.end.min(layer.geometry.virtual_size);
                let extent = layer.extent(range.start..end);
                Extent {
                    depth: extent.depth + 1,
                    ..extent
                }
            }
            Backing::Layer(_) => Extent {
                range,
                source: Source::Zero,
                depth: 1,
            },
        }
    }

    fn data_extent(&self, range: Range<u64>) -> Extent<'_> {
        let Some((table, chunks)) = self.chunks() else {
            let start = self.data.start.get();
            let reach = self.data.length.get().saturating_sub(start);
            return below(
                range,
                reach,
                |at| Source::File(&self.data.file, start + at),
                0,
            );
        };
        let index = range.start / chunks.chunk_size;
        let Some(number) = table.get(index) else {
            let end = self.run_of_chunks(&range, |i, _| table.get(i).is_none());
            return Extent {
                range: range.start..end,
                source: Source::Zero,
                depth: 0,
            };
        };
        let end = self.run_of_chunks(&range, |i, n| table.get(i) == number.checked_add(n));
        let place = chunks
            .offset_of(number, self.data.start)
            .expect("checked at open")
            .get();
        if place >= self.data.length.get() {
            let end = end.min((index + 1) * chunks.chunk_size);
            return Extent {
                range: range.start..end,
                source: Source::Lost,
                depth: 0,
            };
        }
        let skip = place.wrapping_sub(index * chunks.chunk_size);
        let reach = self.data.length.get().wrapping_sub(skip);
        let source = |at: u64| Source::File(&self.data.file, at.wrapping_add(skip));
        let end = if range.start < reach {
            end
        } else {
            (index + 1) * chunks.chunk_size
        };
        below(range.start..end.min(range.end), reach, source, 0)
    }

    /// The end of the run of chunks that goes on as `belongs(index, distance)` says.
    fn run_of_chunks(&self, range: &Range<u64>, belongs: impl Fn(u64, u32) -> bool) -> u64 {
        let (_, chunks) = self.chunks().expect("only compact images have chunks");
        let first = range.start / chunks.chunk_size;
        let last = (range.end - 1) / chunks.chunk_size;
        let more = (1u32..)
            .zip(first + 1..=last)
            .take_while(|(n, i)| belongs(*i, *n))
            .count();
        ((first + more as u64 + 1) * chunks.chunk_size).min(range.end)
    }

    /// Table and chunk layout of a compact image.
    pub fn chunks(&self) -> Option<(&Table, &Chunks)> {
        Some((self.table.as_ref()?, self.geometry.chunks.as_ref()?))
    }

    /// True if no byte of `range` needs the base image.
    #[inline]
    pub fn all_present(&self, range: &Range<u64>) -> bool {
        match (&self.bitmap, &self.geometry.blocks) {
            (Some(bitmap), Some(blocks)) => {
                bitmap.all_set(&blocks.index_range(range.start, range.end))
            }
            _ => true,
        }
    }

    /// Where in the data file all of `range` lies in one piece, allocated; past its end too.
    #[inline]
    pub fn data_place(&self, range: &Range<u64>) -> Option<u64> {
        let Some((table, chunks)) = self.chunks() else {
            return Some(self.data.start.get() + range.start);
        };
        let index = range.start / chunks.chunk_size;
        let number = table.get(index)?;
        let run = self.run_of_chunks(range, |i, n| table.get(i) == number.checked_add(n));
        let place = chunks.offset_of(number, self.data.start)?.get();
        (run == range.end).then(|| place + range.start % chunks.chunk_size)
    }

    /// True if the data has a file of its own.
    pub fn has_data_file(&self) -> bool {
        self.data.file.id() != self.metadata.id()
    }

    /// `sectors` of the table as they are stored, and where.
    pub fn table_part(&self, sectors: Range<u64>) -> Result<(MetaOffset, Buffer)> {
        let (table, chunks) = self.chunks().expect("only compact images have a table");
        let mut buffer = allocate(sector_bytes(&sectors))?;
        table.write_sectors(sectors.clone(), buffer.bytes());
        Ok((chunks.table.start + sectors.start * SECTOR, buffer))
    }

    /// `sectors` of the bitmap as they are stored, and where.
    pub fn bitmap_part(&self, sectors: Range<u64>) -> Result<(MetaOffset, Buffer)> {
        let bitmap = self
            .bitmap
            .as_ref()
            .expect("only images over a base have a bitmap");
        let blocks = self
            .geometry
            .blocks
            .as_ref()
            .expect("the bitmap was read from its region");
        let mut buffer = allocate(sector_bytes(&sectors))?;
        bitmap.write_sectors(sectors.clone(), buffer.bytes());
        Ok((blocks.bitmap.start + sectors.start * SECTOR, buffer))
    }
}

fn sector_bytes(sectors: &Range<u64>) -> usize {
    length(&(sectors.start * SECTOR..sectors.end * SECTOR))
}

/// The part of `range` below `reach` from its source; where nothing is below it, zeros.
#[inline]
fn below<'a>(
    range: Range<u64>,
    reach: u64,
    source: impl FnOnce(u64) -> Source<'a>,
    depth: u32,
) -> Extent<'a> {
    let Range { start, end } = range;
    if start >= reach {
        return Extent {
            range,
            source: Source::Zero,
            depth,
        };
    }
    Extent {
        range: start..end.min(reach),
        source: source(start),
        depth,
    }
}
