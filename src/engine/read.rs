//! Reads that need more than one operation, or none: one scatter list a region, straight into the
//! guest's memory.
//!
//! A read takes no lock. Where it began before a write of the same blocks was published, it may still
//! go to the base: that content does not change, and is what the disk held when the read was submitted.

use std::ops::Range;
use std::rc::Rc;

use crate::host::{Buffer, IoVecList, IoVecs};

use super::core::Core;
use super::error::{Error, Result};
use super::extents::{Layer, Source};
use super::file::{Transfer, join, keep_list, length};

/// Reads `range` of the disk into `iov`.
pub(super) async fn read(core: &Core, range: Range<u64>, iov: IoVecs) -> Result<()> {
    core.executor.step("reading");
    into(&core.layer, range, iov, None).await
}

/// Reads `range` of a layer into a buffer of the same length, from its byte `skip` on.
pub(super) async fn into_buffer(
    layer: &Layer,
    range: Range<u64>,
    buffer: &Rc<Buffer>,
    skip: usize,
) -> Result<()> {
    let mut list = IoVecList::default();
    list.push_buffer(buffer, skip, length(&range));
    let (iov, _list) = keep_list(list, Vec::new());
    into(layer, range, iov, Some(buffer)).await
}

/// Starts everything at once, and waits for all of it.
async fn into(
    layer: &Layer,
    range: Range<u64>,
    iov: IoVecs,
    owner: Option<&Rc<Buffer>>,
) -> Result<()> {
    let mut under_way: Vec<Transfer<'_>> = Vec::new();
    let mut lost = Ok(());
    for extent in layer.extents(range.clone()) {
        let skip = extent.range.start - range.start;
        let part = iov.slice(skip, extent.range.end - extent.range.start);
        match extent.source {
            Source::Zero => part.as_iovecs().zero(),
            Source::File(file, offset) => {
                let (iov, keep) = keep_list(part, owner.map(Rc::clone).into_iter().collect());
                under_way.push(file.start_read(offset, iov, keep));
            }
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
