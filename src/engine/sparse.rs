//! `detect_sparse_hole`: which blocks of a base are zero, so that nobody need ever read them.

use std::ops::Range;

use crate::format::geometry::Blocks;
use crate::format::units::index;

use super::bitmap::Bitmap;
use super::buffer::steps;
use super::error::Result;
use super::file::File;
use super::layer::{Backing, Source, extents};

/// Bytes of the base that are looked at at once.
const STEP: u64 = 1 << 20;

/// Sets the bits of the regions of `region` bytes in which the base is all zero. Whole regions
/// only.
pub(super) async fn mark_zeros(
    file: &File,
    base: &Backing,
    blocks: Blocks,
    region: u64,
) -> Result<()> {
    let bitmap = Bitmap::from_bytes(blocks, &vec![0; index(Bitmap::stored_len(&blocks))]);
    let mut range = 0..region;
    while range.end <= blocks.base_size {
        if is_zero(base, range.clone()).await? {
            bitmap.set(bitmap.touched(&range));
        }
        range = range.end..range.end + region;
    }
    let (at, bytes) = bitmap.part(&(0..bitmap.sectors()))?;
    file.write(at.get(), bytes).await
}

async fn is_zero(base: &Backing, range: Range<u64>) -> Result<bool> {
    for step in steps(range, STEP) {
        for extent in extents(step, |rest| base.extent(rest)) {
            let zero = match extent.source {
                Source::Zero => true,
                Source::File(file, offset) => {
                    let len = extent.range.end - extent.range.start;
                    file.read(offset, len)
                        .await?
                        .bytes_mut()
                        .iter()
                        .all(|byte| *byte == 0)
                }
                Source::Lost => false,
            };
            if !zero {
                return Ok(false);
            }
        }
    }
    Ok(true)
}
