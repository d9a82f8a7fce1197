//! Writes that find blocks missing or chunks unallocated.
//!
//! The steps, top to bottom: lock the missing blocks; claim the chunks; read from the base what the
//! guest does not write of its first and last block; write all of it at once; publish. Until the last step no
//! read sees anything of it, and a failure or cancel before it leaves the disk as it was.
//!
//! The races it must win:
//! - Two writes to one missing block: the second waits for the lock, then *looks again* and finds the
//!   block present, so that it does not put the base's content over what the first one wrote.
//! - Two writes into one new chunk: the second counts itself in; whoever completes first publishes it.
//! - A write that runs into a copy-dirty block makes it guest-dirty when it is published.

use std::ops::Range;
use std::rc::Rc;

use crate::format::units::index;
use crate::host::{Buffer, IoVecList, IoVecs, Keep};

use super::canary::{Canary, planted};
use super::chunks::Claim;
use super::core::Core;
use super::dirty::Writer;
use super::error::Result;
use super::file::{Transfer, allocate, join, keep_list, length};
use super::range_lock::RangeGuard;
use super::read;

/// Writes `iov` to `range` of the disk.
pub(super) async fn write(core: &Core, range: Range<u64>, iov: IoVecs) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    core.executor.step("waiting for its blocks");
    let (_lock, span) = lock_missing(core, &range).await;
    core.executor.step("allocating");
    let claim = Claim::new(core, &span).await?;
    if planted(Canary::BitsBeforeData) {
        core.publish(&span, claim.numbers(), Writer::Guest);
    }
    core.executor.step("reading the rest of its blocks");
    let head = base_content(core, span.start..range.start).await?;
    let tail = base_content(core, range.end..span.end).await?;
    core.executor.step("writing");
    let mut list = IoVecList::default();
    head.iter()
        .for_each(|buffer| list.push_buffer(buffer, 0, buffer.len()));
    list.push_part(&iov, 0, iov.len());
    tail.iter()
        .for_each(|buffer| list.push_buffer(buffer, 0, buffer.len()));
    let (iov, keep) = keep_list(list, head.into_iter().chain(tail).collect());
    store(core, &span, claim.numbers(), iov, &keep).await?;
    core.publish(&span, claim.numbers(), Writer::Guest);
    Ok(())
}

/// Locks the blocks of `range` if any is missing, and says which range is to be written: widened to
/// whole blocks where the first or the last one is missing, up to the end of the base.
async fn lock_missing<'a>(
    core: &'a Core,
    range: &Range<u64>,
) -> (Option<RangeGuard<'a>>, Range<u64>) {
    if core.layer.all_present(range) {
        return (None, range.clone());
    }
    let before = widened(core, range);
    let guard = core
        .block_locks
        .lock(&core.executor, core.whole_blocks(range))
        .await;
    let span = if planted(Canary::NoSecondLook) {
        before
    } else {
        widened(core, range)
    };
    (Some(guard), span)
}

/// `range`, widened to its first and last block where they are missing.
fn widened(core: &Core, range: &Range<u64>) -> Range<u64> {
    let (blocks, _) = core.indexes(range);
    let mut span = range.clone();
    if let (Some(bitmap), Some(b)) = (&core.layer.bitmap, &core.layer.geometry.blocks)
        && !blocks.is_empty()
    {
        if !bitmap.test(blocks.start) {
            span.start = b.span(blocks.start).start;
        }
        if !bitmap.test(blocks.end - 1) {
            span.end = span.end.max(b.span(blocks.end - 1).end);
        }
    }
    span
}

/// What the base holds of `range`, which lies within missing blocks.
async fn base_content(core: &Core, range: Range<u64>) -> Result<Option<Rc<Buffer>>> {
    if range.is_empty() {
        return Ok(None);
    }
    core.stats.copied_on_write.add(range.end - range.start);
    let buffer = Rc::new(allocate(length(&range))?);
    read::into_buffer(&core.layer, range, &buffer, 0).await?;
    Ok(Some(buffer))
}

/// Writes `iov`, the content of `span`, to where its chunks are.
pub(super) async fn store(
    core: &Core,
    span: &Range<u64>,
    numbers: &[u32],
    iov: IoVecs,
    keep: &Keep,
) -> Result<()> {
    let data = &core.layer.data.file;
    let write = |part: Range<u64>, place: u64| -> Transfer<'_> {
        if part == *span {
            return data.start_write(place, iov, keep.clone());
        }
        let list = iov.slice(part.start - span.start, part.end - part.start);
        let (iov, keep) = keep_list(list, keep.buffers.clone());
        data.start_write(place, iov, keep)
    };
    let result = join(
        places(core, span, numbers)
            .map(|(part, at)| write(part, at))
            .collect(),
    )
    .await;
    core.data_written(span, result.is_ok());
    result
}

/// Cuts `span` into the parts that lie in one piece in the data file, each with its place there.
fn places<'a>(
    core: &'a Core,
    span: &Range<u64>,
    numbers: &'a [u32],
) -> impl Iterator<Item = (Range<u64>, u64)> + 'a {
    let (start, end) = (span.start, span.end);
    let data_start = core.layer.data.start;
    let mut at = start;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let from = at;
        let Some(chunks) = &core.layer.geometry.chunks else {
            at = end;
            return Some((from..end, data_start.get() + from));
        };
        let first = start / chunks.chunk_size;
        let number = |entry: u64| numbers[index(entry - first)];
        let entry = from / chunks.chunk_size;
        let mut last = entry;
        while (last + 1) * chunks.chunk_size < end && number(last + 1) == number(last) + 1 {
            last += 1;
        }
        at = end.min((last + 1) * chunks.chunk_size);
        let place = chunks
            .offset_of(number(entry), data_start)
            .expect("checked when it was taken");
        Some((from..at, place.get() + from % chunks.chunk_size))
    })
}
