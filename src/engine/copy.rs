//! Copies from the base: what copy-on-read and prefetching store.
//!
//! A copy never stands in the guest's way. It reads the base without a lock, and then only *tries* to
//! lock the blocks: where a write holds or waits for them it drops what it has read, since that write
//! will bring the blocks in. With the lock it looks at the bitmap again and stores what is still missing.
//! What it has stored is copy-dirty: losing it in a crash costs another copy, and no flush waits for it.

use std::ops::Range;
use std::rc::Rc;

use crate::host::Keep;

use super::chunks::Claim;
use super::core::Core;
use super::dirty::Writer;
use super::error::Result;
use super::file::{allocate, keep_list, length};
use super::{read, write};
use crate::host::IoVecList;

/// The most bytes that one step of a fetch reads from the base at once.
const STEP: u64 = 1 << 20;

/// Brings the missing blocks that `range` touches into the image.
pub(super) async fn fetch(core: &Core, range: Range<u64>) -> Result<()> {
    let Some(geometry) = core.layer.geometry.blocks else {
        return Ok(());
    };
    let (mut blocks, _) = core.indexes(&range);
    while let Some(run) = missing_run(core, blocks.clone()) {
        let most = (STEP / geometry.block_size).max(1);
        let step = run.start..run.end.min(run.start + most);
        blocks.start = step.end;
        copy(
            core,
            geometry.span(step.start).start..geometry.span(step.end - 1).end,
        )
        .await?;
    }
    Ok(())
}

fn missing_run(core: &Core, blocks: Range<u64>) -> Option<Range<u64>> {
    core.layer.bitmap.as_ref()?.missing(blocks).next()
}

/// Copies `span`, a run of whole missing blocks.
async fn copy(core: &Core, span: Range<u64>) -> Result<()> {
    core.executor.step("reading from the base");
    let buffer = Rc::new(allocate(length(&span))?);
    read::into_buffer(&core.layer, span.clone(), &buffer, 0).await?;
    let Some(_lock) = core.block_locks.try_lock(&core.executor, span.clone()) else {
        core.stats.dropped_copies.add(1);
        return Ok(());
    };
    core.executor.step("storing a copy");
    let (mut blocks, _) = core.indexes(&span);
    let geometry = core
        .layer
        .geometry
        .blocks
        .expect("only images over a base are copied into");
    while let Some(run) = missing_run(core, blocks.clone()) {
        blocks.start = run.end;
        let part = geometry.span(run.start).start..geometry.span(run.end - 1).end;
        let claim = Claim::new(core, &part).await?;
        let mut list = IoVecList::default();
        let skip = length(&(span.start..part.start));
        list.push_buffer(&buffer, skip, length(&part));
        let (iov, keep): (_, Keep) = keep_list(list, vec![Rc::clone(&buffer)]);
        write::store(core, &part, claim.numbers(), iov, &keep).await?;
        core.publish(&part, claim.numbers(), Writer::Copy);
        core.stats.fetched.add(part.end - part.start);
    }
    Ok(())
}
