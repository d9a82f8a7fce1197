//! Reads that need more than one operation, or none: one scatter list a region, straight into the
//! guest's memory.
//!
//! A read takes no lock. Where it began before a write of the same blocks was published, it may
//! still go to the base: that content does not change, and is what the disk held when the read was
//! submitted.

use std::ops::Range;

use crate::host::Memory;

use super::error::{Error, Result};
use super::file::join;
use super::layer::{Layer, Source};

/// Reads `range` of a layer into `memory`: starts everything at once, and waits for all of it.
pub(super) async fn read(layer: &Layer, range: Range<u64>, memory: &Memory) -> Result<()> {
    let mut under_way = Vec::new();
    let mut lost = Ok(());
    for extent in layer.extents(range.clone()) {
        let len = extent.range.end - extent.range.start;
        let part = memory.part(extent.range.start - range.start, len);
        match extent.source {
            Source::Zero => part.zero(),
            Source::File(file, offset) => under_way.push(file.start_read(offset, part)),
            Source::Lost => lost = Err(lost_chunk(&extent.range)),
        }
    }
    join(under_way).await.and(lost)
}

fn lost_chunk(range: &Range<u64>) -> Error {
    let what = format!(
        "the chunk of bytes {}..{} of the disk is lost",
        range.start, range.end
    );
    Error::host(
        libc::EIO,
        format!("{what}: its table entry points past the end of the data file"),
    )
}
