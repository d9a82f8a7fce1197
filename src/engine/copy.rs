//! Copies from the base: what copy-on-read and prefetching store.
//!
//! A copy never stands in the guest's way. It reads the base without a lock, and then only *tries*
//! to lock the blocks: where a write holds or waits for them it drops what it has read, since that
//! write will bring the blocks in. With the lock it looks at the bitmap again and stores what is
//! still missing. What it has stored is copy-dirty: losing it in a crash costs another copy, and no
//! flush waits for it.

use std::ops::Range;
use std::rc::Rc;

use crate::host::Memory;

use super::bitmap::Bitmap;
use super::buffer::allocate;
use super::claim::Claim;
use super::core::Core;
use super::dirty::Writer;
use super::error::Result;
use super::read::read;

/// The most bytes that one step of a fetch reads from the base at once, unless a block is larger.
const STEP: u64 = 1 << 20;

/// Brings the missing blocks that `range` touches into the image.
pub(super) async fn fetch(core: &Core, range: Range<u64>) -> Result<()> {
    let Some(bitmap) = &core.layer.bitmap else {
        return Ok(());
    };
    let most = (STEP / bitmap.blocks.block_size).max(1);
    let mut rest = bitmap.touched(&range);
    while let Some(run) = bitmap.next_missing(&rest, most) {
        rest.start = run.end;
        copy(core, bitmap, run).await?;
    }
    Ok(())
}

/// Copies a run of missing blocks.
async fn copy(core: &Core, bitmap: &Bitmap, blocks: Range<u64>) -> Result<()> {
    let span = span_of(bitmap, &blocks);
    core.executor.step("reading from the base");
    let buffer = Rc::new(allocate(span.end - span.start)?);
    let memory = Memory::of(&buffer);
    read(&core.layer, span.clone(), &memory).await?;
    let Some(_lock) = core.block_locks.try_lock(&core.executor, span.clone()) else {
        core.count(|stats| stats.dropped_copies += 1);
        return Ok(());
    };
    core.executor.step("storing a copy");
    let mut rest = blocks;
    while let Some(run) = bitmap.next_missing(&rest, u64::MAX) {
        rest.start = run.end;
        let part = span_of(bitmap, &run);
        let len = part.end - part.start;
        let claim = Claim::new(core, part.clone()).await?;
        claim
            .write(&memory.part(part.start - span.start, len))
            .await?;
        claim.publish(Writer::Copy);
        core.count(|stats| stats.fetched += len);
    }
    Ok(())
}

/// The bytes of a run of blocks.
fn span_of(bitmap: &Bitmap, blocks: &Range<u64>) -> Range<u64> {
    bitmap.blocks.span(blocks.start).start..bitmap.blocks.span(blocks.end - 1).end
}
