//! Writes that find blocks missing or chunks unallocated.
//!
//! The steps, top to bottom: lock the missing blocks; claim the chunks; read from the base what the
//! guest does not write of its first and last block; write all of it at once; publish. What was
//! missing stays missing until the last step, so a failure or cancel before it shows nothing of the
//! write there.
//!
//! The races it must win:
//! - Two writes to one missing block: the second waits for the lock, then *looks again* and finds
//!   the block present, so that it does not put the base's content over what the first one wrote.
//! - Two writes into one new chunk: the second counts itself in; whoever completes first publishes
//!   it.
//! - A write that runs into a copy-dirty block makes it guest-dirty when it is published.
//!
//! Locks are taken in one order: blocks, then the entries of chunks one at a time, then growth;
//! whoever holds a later one never waits for an earlier one.

use std::ops::Range;
use std::rc::Rc;

use crate::host::{Buffer, IoVecList, Memory};

use super::buffer::allocate;
use super::canary::{Canary, planted};
use super::claim::Claim;
use super::core::Core;
use super::dirty::Writer;
use super::error::Result;
use super::range_lock::RangeGuard;
use super::read::read;

/// Writes `memory` to `range` of the disk.
pub(super) async fn write(core: &Core, range: Range<u64>, memory: Memory) -> Result<()> {
    core.executor.step("waiting for its blocks");
    let _lock = lock_missing(core, &range).await;
    let span = with_missing_ends(core, &range);
    core.executor.step("allocating");
    let claim = Claim::new(core, span.clone()).await?;
    if planted(Canary::BitsBeforeData) {
        claim.publish(Writer::Guest);
    }
    core.executor.step("reading the rest of its blocks");
    let head = base_content(core, span.start..range.start).await?;
    let tail = base_content(core, range.end..span.end).await?;
    core.executor.step("writing");
    claim
        .write(&joined(head.as_ref(), memory, tail.as_ref()))
        .await?;
    claim.publish(Writer::Guest);
    Ok(())
}

/// Locks the blocks of `range` if any of them is missing.
async fn lock_missing<'a>(core: &'a Core, range: &Range<u64>) -> Option<RangeGuard<'a>> {
    if core.layer.all_present(range) || planted(Canary::NoLock) {
        return None;
    }
    Some(
        core.block_locks
            .lock(&core.executor, core.layer.widened(range))
            .await,
    )
}

/// `range`, widened to its first and last block where they are missing.
fn with_missing_ends(core: &Core, range: &Range<u64>) -> Range<u64> {
    let blocks = core.layer.blocks_of(range);
    let Some(bitmap) = core.layer.bitmap.as_ref().filter(|_| !blocks.is_empty()) else {
        return range.clone();
    };
    let widened = bitmap.widened(range);
    let start = if bitmap.test(blocks.start) {
        range.start
    } else {
        widened.start
    };
    let end = if bitmap.test(blocks.end - 1) {
        range.end
    } else {
        widened.end
    };
    start..end
}

/// What the base holds of `range`, which lies within a missing block.
async fn base_content(core: &Core, range: Range<u64>) -> Result<Option<Rc<Buffer>>> {
    if range.is_empty() {
        return Ok(None);
    }
    let len = range.end - range.start;
    core.count(|stats| stats.copied_on_write += len);
    let buffer = Rc::new(allocate(len)?);
    read(&core.layer, range, &Memory::of(&buffer)).await?;
    Ok(Some(buffer))
}

fn joined(head: Option<&Rc<Buffer>>, middle: Memory, tail: Option<&Rc<Buffer>>) -> Memory {
    if head.is_none() && tail.is_none() {
        return middle;
    }
    let mut list = IoVecList::default();
    head.iter().for_each(|buffer| list.push_buffer(buffer));
    list.push_part(&middle, 0, middle.len());
    tail.iter().for_each(|buffer| list.push_buffer(buffer));
    list.into()
}
