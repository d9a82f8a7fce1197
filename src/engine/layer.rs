//! Layers: where the bytes of the disk are, down the chain of base images.
//!
//! ```text
//!   guest bytes ──▶ bitmap: 0 ──▶ base image: a raw file, or another layer of the same kind
//!                          1 ──▶ table: unallocated ──▶ zeros
//!                                       chunk n ─────▶ data file, D + n × chunk_size
//!                                no table ───────────▶ data file, D + v
//! ```
//!
//! A [`Layer`] answers for one image, and is all that a read needs. Of the image that the guest
//! writes it is also the view that every published write changes, always towards "present" and
//! "allocated"; the layers below it never change. What lies past the end of a data file reads as
//! zeros; a chunk that begins there is lost (FORMAT.md, "Reading a sector").

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use crate::format::geometry::Geometry;
use crate::format::units::DataOffset;

use super::bitmap::Bitmap;
use super::error::Result;
use super::file::File;
use super::table::Table;

/// Where a run of bytes is.
pub(crate) enum Source<'a> {
    /// Nowhere: zeros.
    Zero,
    /// In a file, from this byte on.
    File(&'a File, u64),
    /// In a chunk that begins past the end of its file.
    Lost,
}

/// A run of bytes of the disk that are in one place.
pub(crate) struct Extent<'a> {
    /// Its bytes on the disk of the layer that was asked.
    pub(crate) range: Range<u64>,
    /// Where they are.
    pub(crate) source: Source<'a>,
    /// How many base images down; 0 is the layer that was asked.
    pub(crate) depth: u32,
}

impl<'a> Extent<'a> {
    fn new(range: Range<u64>, source: Source<'a>) -> Self {
        Self {
            range,
            source,
            depth: 0,
        }
    }

    /// The start of `range`, as far as a file of `length` bytes holds it, in which the range begins
    /// at `place`; past the file's end, zeros.
    #[inline]
    fn in_file(range: Range<u64>, file: &'a File, place: u64, length: u64) -> Self {
        let reach = length.saturating_sub(place);
        if reach == 0 {
            return Self::new(range, Source::Zero);
        }
        let end = range.end.min(range.start.saturating_add(reach));
        Self::new(range.start..end, Source::File(file, place))
    }
}

/// The data file of a layer.
pub(crate) struct DataFile {
    /// The file; the metadata file too, unless the data has one of its own.
    pub(crate) file: Rc<File>,
    /// FORMAT.md's D.
    pub(crate) start: DataOffset,
    /// How far it reaches, in bytes, as far as completed operations tell.
    pub(crate) length: Cell<u64>,
}

impl DataFile {
    /// A data region that begins at `start` of a file just opened.
    pub(crate) fn new(file: Rc<File>, start: DataOffset) -> Self {
        let length = Cell::new(file.length_at_open);
        Self {
            file,
            start,
            length,
        }
    }

    /// Takes note that a completed operation reached `end`.
    #[inline]
    pub(crate) fn reached(&self, end: u64) {
        self.length.set(self.length.get().max(end));
    }
}

/// What is below a layer.
pub(crate) enum Backing {
    /// A raw file; what it lacks of its last sector reads as zeros.
    Raw(Rc<File>),
    /// Another image.
    Layer(Box<Layer>),
}

impl Backing {
    /// Its size in bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Raw(file) => file.length_at_open,
            Self::Layer(layer) => layer.geometry.virtual_size,
        }
    }

    /// The extent at the start of `range`; past the end of the base image, zeros.
    pub(crate) fn extent(&self, range: Range<u64>) -> Extent<'_> {
        match self {
            Self::Raw(file) => {
                let place = range.start;
                Extent::in_file(range, file, place, file.length_at_open)
            }
            Self::Layer(layer) if range.start < layer.geometry.virtual_size => {
                layer.extent(range.start..range.end.min(layer.geometry.virtual_size))
            }
            Self::Layer(_) => Extent::new(range, Source::Zero),
        }
    }
}

/// One image, as reads see it.
pub(crate) struct Layer {
    /// Its checked layout.
    pub(crate) geometry: Geometry,
    /// Present blocks, where the base image may still be needed.
    pub(crate) bitmap: Option<Bitmap>,
    /// Allocated chunks, in a compact image.
    pub(crate) table: Option<Table>,
    /// The file of its header, bitmap, table and journal.
    pub(crate) metadata: Rc<File>,
    /// Its data.
    pub(crate) data: DataFile,
    /// Its base image, where the bitmap may still send a read there.
    pub(crate) backing: Option<Backing>,
}

impl Layer {
    /// The extents of `range`, in order.
    pub(crate) fn extents(&self, range: Range<u64>) -> impl Iterator<Item = Extent<'_>> {
        extents(range, |rest| self.extent(rest))
    }

    /// The extent at the start of `range`, as long as it is known to go on, at most to the range's
    /// end.
    #[inline]
    pub(crate) fn extent(&self, range: Range<u64>) -> Extent<'_> {
        let Some(bitmap) = self
            .bitmap
            .as_ref()
            .filter(|b| range.start < b.blocks.base_size)
        else {
            return self.data_extent(range);
        };
        let run_end = bitmap.run_end(&bitmap.touched(&range)) * bitmap.blocks.block_size;
        let run = range.start..range.end.min(bitmap.blocks.base_size).min(run_end);
        if bitmap.test(run.start / bitmap.blocks.block_size) {
            return self.data_extent(run);
        }
        let backing = self
            .backing
            .as_ref()
            .expect("a bitmap in force has a base image below it");
        let extent = backing.extent(run);
        Extent {
            depth: extent.depth + 1,
            ..extent
        }
    }

    #[inline]
    fn data_extent(&self, range: Range<u64>) -> Extent<'_> {
        let DataFile {
            file,
            start,
            length,
        } = &self.data;
        let Some(table) = &self.table else {
            let place = start.get() + range.start;
            return Extent::in_file(range, file, place, length.get());
        };
        let first = table.runs(range, |entry| table.get(entry)).next();
        let (run, place) = first.expect("the range is not empty");
        let Some(place) = place.map(DataOffset::get) else {
            return Extent::new(run, Source::Zero);
        };
        let chunk_size = table.chunks.chunk_size;
        let into_chunk = run.start % chunk_size;
        if place - into_chunk >= length.get() {
            return Extent::new(run, Source::Lost);
        }
        if place >= length.get() {
            let chunk_end = run.start - into_chunk + chunk_size;
            return Extent::new(run.start..run.end.min(chunk_end), Source::Zero);
        }
        Extent::in_file(run, file, place, length.get())
    }

    /// True if no byte of `range` needs the base image.
    #[inline]
    pub(crate) fn all_present(&self, range: &Range<u64>) -> bool {
        self.bitmap
            .as_ref()
            .is_none_or(|bitmap| bitmap.all_set(&bitmap.touched(range)))
    }

    /// Where in the data file all of `range` lies in one piece, allocated; past its end too.
    #[inline]
    pub(crate) fn data_place(&self, range: &Range<u64>) -> Option<u64> {
        let Some(table) = &self.table else {
            return Some(self.data.start.get() + range.start);
        };
        let (run, place) = table.runs(range.clone(), |entry| table.get(entry)).next()?;
        place.filter(|_| run == *range).map(DataOffset::get)
    }

    /// The blocks that `range` touches; none where there is no base image to need.
    pub(crate) fn blocks_of(&self, range: &Range<u64>) -> Range<u64> {
        self.bitmap
            .as_ref()
            .map_or(0..0, |bitmap| bitmap.touched(range))
    }

    /// The entries that `range` touches; none in an image that is not compact.
    pub(crate) fn entries_of(&self, range: &Range<u64>) -> Range<u64> {
        self.table
            .as_ref()
            .map_or(0..0, |table| table.touched(range))
    }

    /// `range`, widened to the blocks that it touches.
    pub(crate) fn widened(&self, range: &Range<u64>) -> Range<u64> {
        self.bitmap
            .as_ref()
            .map_or(range.clone(), |bitmap| bitmap.widened(range))
    }

    /// True if the data has a file of its own.
    pub(crate) fn has_data_file(&self) -> bool {
        self.data.file.id() != self.metadata.id()
    }

    /// Flushes the data, and the metadata too where it is in another file.
    pub(crate) async fn flush_files(&self) -> Result<()> {
        self.data.file.flush().await?;
        if self.has_data_file() {
            self.metadata.flush().await
        } else {
            Ok(())
        }
    }
}

/// The extents of `range`, each found by `extent` at the start of what is left.
pub(crate) fn extents<'a>(
    range: Range<u64>,
    extent: impl Fn(Range<u64>) -> Extent<'a>,
) -> impl Iterator<Item = Extent<'a>> {
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let next = extent(rest.clone());
        debug_assert!(next.range.start == rest.start && !next.range.is_empty());
        rest.start = next.range.end;
        Some(next)
    })
}
