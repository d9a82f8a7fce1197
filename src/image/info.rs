//! What can be asked of an open image: its header, its layout, where its bytes are.

use crate::engine::layer::{Extent, Source};
use crate::engine::stats::Stats;
use crate::format::geometry::Geometry;
use crate::format::header::Header;

use super::Image;
use crate::engine::request::RequestId;

/// What an image is, and what has happened to it since it was opened.
#[derive(Clone, Debug)]
pub struct Info {
    /// Its header, with what this session has changed of it.
    pub header: Header,
    /// Its layout.
    pub geometry: Geometry,
    /// Blocks that no longer need the base image.
    pub present_blocks: u64,
    /// Chunks that the table names.
    pub allocated_chunks: u64,
    /// Chunk numbers below the highest one in use that are free.
    pub free_chunks: u64,
    /// Chunks that were taken and that no write has completed into.
    pub pending_chunks: u64,
    /// Length of the data file in bytes.
    pub data_length: u64,
    /// What was counted since the image was opened.
    pub stats: Stats,
}

/// Where a run of bytes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapState {
    /// Nowhere: it reads as zeros.
    Zero,
    /// In a file, from this byte on.
    Data {
        /// Byte offset in the file.
        offset: u64,
    },
    /// In a chunk that was lost.
    Lost,
}

/// A run of bytes of the disk that are in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapPiece {
    /// Where it begins on the disk, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Where it is.
    pub state: MapState,
    /// How many base images down; 0 is the image itself.
    pub depth: u32,
    /// The file that holds it.
    pub file: Option<String>,
}

impl MapPiece {
    /// True if `next` goes on where this piece ends.
    fn goes_on_with(&self, next: &Self) -> bool {
        let follows = match (self.state, next.state) {
            (MapState::Data { offset }, MapState::Data { offset: next }) => {
                offset + self.len == next
            }
            (state, next) => state == next,
        };
        follows && self.depth == next.depth && self.file == next.file
    }
}

impl Image {
    /// What the image is.
    pub fn info(&self) -> Info {
        let core = &self.core;
        let layer = &core.layer;
        let (free_chunks, pending_chunks) = core.free_and_pending();
        let allocated = layer
            .table
            .as_ref()
            .map_or(0, |table| table.numbers().flatten().count());
        Info {
            header: core.header(),
            geometry: layer.geometry.clone(),
            present_blocks: layer.bitmap.as_ref().map_or(0, |bitmap| bitmap.count()),
            allocated_chunks: allocated as u64,
            free_chunks,
            pending_chunks,
            data_length: layer.data.length.get(),
            stats: core.stats.get(),
        }
    }

    /// Where the bytes `from..from + len` are; what lies outside the disk is left out.
    pub fn map(&self, from: u64, len: u64) -> Vec<MapPiece> {
        let end = from.saturating_add(len).min(self.virtual_size());
        let mut pieces: Vec<MapPiece> = Vec::new();
        for extent in self.core.layer.extents(from..end) {
            let (state, file) = match extent.source {
                Source::Zero => (MapState::Zero, None),
                Source::Lost => (MapState::Lost, None),
                Source::File(file, offset) => {
                    (MapState::Data { offset }, Some(file.name().to_owned()))
                }
            };
            let (start, len) = (extent.range.start, extent.range.end - extent.range.start);
            let piece = MapPiece {
                start,
                len,
                state,
                depth: extent.depth,
                file,
            };
            match pieces.last_mut() {
                Some(last) if last.goes_on_with(&piece) => last.len += piece.len,
                _ => pieces.push(piece),
            }
        }
        pieces
    }

    /// Whether it is this image that decides the byte at `offset`, rather than its base or nobody,
    /// and for how many of `len` bytes the answer holds. (A block of the base that is present and
    /// has no chunk is decided: it is zero.)
    pub fn is_allocated(&self, offset: u64, len: u64) -> (bool, u64) {
        let end = offset.saturating_add(len).min(self.virtual_size());
        let in_base = self
            .core
            .layer
            .bitmap
            .as_ref()
            .map_or(0, |b| b.blocks.base_size);
        let is_here = |e: &Extent<'_>| {
            e.depth == 0 && (e.range.start < in_base || !matches!(e.source, Source::Zero))
        };
        let mut extents = self.core.layer.extents(offset..end).peekable();
        let here = extents.peek().is_some_and(is_here);
        let same = extents.take_while(|extent| is_here(extent) == here);
        (
            here,
            same.map(|extent| extent.range.end - extent.range.start)
                .sum(),
        )
    }

    /// True if a new image of this kind reads as zeros: it has no base image.
    pub fn has_zero_init(&self) -> bool {
        self.core.header().base_img.is_empty()
    }

    /// The step of each task under way, with how many operations it waits for.
    pub fn tasks(&self) -> Vec<(&'static str, u32)> {
        self.core.executor.steps()
    }

    /// True while a request has not ended.
    pub(crate) fn is_live(&self, request: RequestId) -> bool {
        self.core.requests.is_live(request)
    }

    /// Requests that have not ended.
    pub fn live_requests(&self) -> usize {
        self.core.requests.live()
    }
}
