//! Claims: the chunks that a write goes into, allocated where they were not.
//!
//! Whoever finds a chunk of the disk unallocated locks its entry until the chunk has a place that
//! exists and is zero; everybody who comes later finds it pending, and counts himself in. A [`Claim`]
//! gives its shares back when it is dropped; what was published meanwhile is out of its hands.

use std::ops::Range;

use super::allocator::Taken;
use super::canary::{Canary, planted};
use super::core::Core;
use super::error::{Error, Result};

/// The chunks of a span of the disk.
pub(super) struct Claim<'a> {
    core: &'a Core,
    /// One for each entry that the span touches; none in an image that is not compact.
    numbers: Vec<u32>,
    /// Entries in whose pending chunk this claim is counted.
    shares: Vec<u64>,
}

impl<'a> Claim<'a> {
    /// Claims the chunks of `span`, and allocates what is missing.
    pub(super) async fn new(core: &'a Core, span: &Range<u64>) -> Result<Self> {
        let mut claim = Self {
            core,
            numbers: Vec::new(),
            shares: Vec::new(),
        };
        let (_, entries) = core.indexes(span);
        for entry in entries {
            let number = match claim.existing(entry) {
                Some(number) => number,
                None => claim.allocate(entry).await?,
            };
            claim.numbers.push(number);
        }
        Ok(claim)
    }

    /// The number of the chunk of each entry that the span touches, in order.
    pub(super) fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// The chunk of `entry`, published or pending.
    fn existing(&mut self, entry: u64) -> Option<u32> {
        if let Some(number) = self.core.layer.table.as_ref()?.get(entry) {
            return Some(number);
        }
        let number = self.core.allocator.borrow_mut().join(entry)?;
        self.shares.push(entry);
        Some(number)
    }

    /// Finds a place for the chunk of `entry`, unless somebody else just did.
    async fn allocate(&mut self, entry: u64) -> Result<u32> {
        let core = self.core;
        let _lock = core
            .chunk_locks
            .lock(&core.executor, entry..entry + 1)
            .await;
        if let Some(number) = self.existing(entry) {
            return Ok(number);
        }
        let reserved = Reserved::take(core)?;
        reserved.prepare().await?;
        self.shares.push(entry);
        Ok(reserved.begin(entry))
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut allocator = self.core.allocator.borrow_mut();
        self.shares.iter().for_each(|entry| allocator.leave(*entry));
    }
}

/// A chunk number that goes back where it came from, unless it becomes a pending chunk.
struct Reserved<'a> {
    core: &'a Core,
    taken: Taken,
    used: bool,
}

impl<'a> Reserved<'a> {
    fn take(core: &'a Core) -> Result<Self> {
        let taken = core.allocator.borrow_mut().take();
        let taken = taken.ok_or_else(|| {
            Error::host(
                libc::ENOSPC,
                "the image has used up all chunk numbers of the format",
            )
        })?;
        Ok(Self {
            core,
            taken,
            used: false,
        })
    }

    /// Makes the chunk's place exist, and read zeros.
    async fn prepare(&self) -> Result<()> {
        let layer = &self.core.layer;
        let chunks = layer.geometry.chunks.expect("only compact images allocate");
        let Some(place) = chunks.offset_of(self.taken.number, layer.data.start) else {
            let what = format!("chunk {} has no place in a file", self.taken.number);
            return Err(Error::host(libc::EFBIG, what));
        };
        grow(self.core, place.get() + chunks.chunk_size, chunks.grow_unit).await?;
        if self.taken.may_hold_old_content && !planted(Canary::OldChunkNotZeroed) {
            self.core.stats.zeroed_chunks.add(1);
            layer
                .data
                .file
                .write_zeroes(place.get(), chunks.chunk_size)
                .await?;
        }
        Ok(())
    }

    fn begin(mut self, entry: u64) -> u32 {
        self.used = true;
        self.core
            .allocator
            .borrow_mut()
            .begin(entry, self.taken.number);
        self.taken.number
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.used {
            self.core
                .allocator
                .borrow_mut()
                .give_back(self.taken.number);
        }
    }
}

/// Grows the storage up to `end`: by `unit` at once, or, where there is no room for that, just as far
/// as it must.
async fn grow(core: &Core, end: u64, unit: u64) -> Result<()> {
    let data = &core.layer.data;
    if end <= data.length.get() {
        return Ok(());
    }
    let _lock = core.growth_lock.lock(&core.executor, 0..1).await;
    let length = data.length.get();
    if end <= length {
        return Ok(());
    }
    if data.file.is_device {
        let length = data.file.grow(end).await?;
        if length < end {
            let what = format!("'{}' has no space left at {end} bytes", data.file.name());
            return Err(Error::host(libc::ENOSPC, what));
        }
        data.reached(length);
        return Ok(());
    }
    let generous = end.max(length.saturating_add(unit));
    if data.file.truncate(generous).await.is_ok() {
        data.reached(generous);
        return Ok(());
    }
    data.file.truncate(end).await?;
    data.reached(end);
    Ok(())
}
