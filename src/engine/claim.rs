//! Claims: what a write holds of the data region, from finding its chunks to making them visible.
//!
//! Whoever finds a chunk of the disk unallocated locks its entry until the chunk has a place that
//! exists and is zero; everybody who comes later finds it pending, and counts himself in. A
//! [`Claim`] gives its shares back when it is dropped; what was published meanwhile is out of its
//! hands.

use std::ops::Range;

use crate::host::Memory;

use super::allocator::Taken;
use super::canary::{Canary, planted};
use super::core::Core;
use super::dirty::Writer;
use super::error::{Error, Result};
use super::file::join;
use super::layer::DataFile;
use super::table::Table;

/// The place of a span of the disk in the data region.
pub(super) struct Claim<'a> {
    core: &'a Core,
    span: Range<u64>,
    /// The chunk of each entry that the span touches; none in an image that is not compact.
    numbers: Vec<u32>,
    /// Entries in whose pending chunk this claim is counted.
    shares: Vec<u64>,
}

impl<'a> Claim<'a> {
    /// Claims the chunks of `span`, and allocates what is missing.
    pub(super) async fn new(core: &'a Core, span: Range<u64>) -> Result<Self> {
        let mut claim = Self {
            core,
            span,
            numbers: Vec::new(),
            shares: Vec::new(),
        };
        if let Some(table) = &core.layer.table {
            for entry in table.touched(&claim.span) {
                let number = match claim.existing(table, entry) {
                    Some(number) => number,
                    None => claim.allocate(table, entry).await?,
                };
                claim.numbers.push(number);
            }
        }
        Ok(claim)
    }

    /// The chunk of `entry`, published or pending.
    fn existing(&mut self, table: &Table, entry: u64) -> Option<u32> {
        if let Some(number) = table.get(entry) {
            return Some(number);
        }
        let number = self.core.allocator.borrow_mut().join(entry)?;
        self.shares.push(entry);
        Some(number)
    }

    /// Finds a place for the chunk of `entry`, unless somebody else just did.
    async fn allocate(&mut self, table: &Table, entry: u64) -> Result<u32> {
        let core = self.core;
        let _lock = core
            .entry_locks
            .lock(&core.executor, entry..entry + 1)
            .await;
        if let Some(number) = self.existing(table, entry) {
            return Ok(number);
        }
        let reserved = Reserved::take(core)?;
        reserved.prepare(table).await?;
        self.shares.push(entry);
        Ok(reserved.begin(entry))
    }

    /// Writes `memory`, the content of the span, to where its chunks are.
    pub(super) async fn write(&self, memory: &Memory) -> Result<()> {
        let data = &self.core.layer.data;
        let start = |run: Range<u64>, place: u64| {
            let part = memory.part(run.start - self.span.start, run.end - run.start);
            data.file.start_write(place, part)
        };
        let transfers = match &self.core.layer.table {
            None => vec![start(self.span.clone(), data.start.get() + self.span.start)],
            Some(table) => {
                let first = table.touched(&self.span).start;
                let number_of = |entry| self.numbers.get(usize::try_from(entry - first).ok()?);
                let runs = table.runs(self.span.clone(), move |entry| number_of(entry).copied());
                let placed = |place: Option<_>| place.expect("every chunk was claimed");
                runs.map(|(run, place)| start(run, placed(place).get()))
                    .collect()
            }
        };
        let result = join(transfers).await;
        self.core.write_ended(&self.span, &result);
        result
    }

    /// The write of the span has completed: from now on reads, commits and the fast path see it.
    pub(super) fn publish(&self, by: Writer) {
        let layer = &self.core.layer;
        let mut dirty = self.core.dirty.borrow_mut();
        let blocks = layer.blocks_of(&self.span);
        if let Some(table) = &layer.table {
            for (entry, number) in table.touched(&self.span).zip(&self.numbers) {
                if self.core.allocator.borrow_mut().publish(entry) {
                    table.set(entry, *number);
                    dirty.add_entry(by, entry);
                }
            }
        }
        if let Some(bitmap) = &layer.bitmap {
            for run in bitmap.missing(blocks.clone()).collect::<Vec<_>>() {
                bitmap.set(run.clone());
                dirty.add_blocks(by, &run);
            }
        }
        if by == Writer::Guest {
            // The bits of these blocks will be committed, so the entries of all that they touch
            // must be.
            dirty.adopt(&blocks, &layer.entries_of(&layer.widened(&self.span)));
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        for entry in &self.shares {
            let freed = self.core.allocator.borrow_mut().leave(*entry);
            freed
                .iter()
                .for_each(|number| assert_idle(self.core, *number));
        }
    }
}

/// Nobody may have I/O under way to a chunk that is zeroed whole, or given back.
fn assert_idle(core: &Core, number: u32) {
    let table = core
        .layer
        .table
        .as_ref()
        .expect("only compact images have chunks");
    let place = table.place_of(number).map_or(0, |place| place.get());
    let idle = core.executor.is_idle(
        core.layer.data.file.id(),
        &(place..place + table.chunks.chunk_size),
    );
    let unwinding = std::thread::panicking();
    debug_assert!(
        idle || unwinding,
        "chunk {number} is zeroed or freed under I/O"
    );
}

/// A chunk number that goes back where it came from, unless it becomes a pending chunk.
struct Reserved<'a> {
    core: &'a Core,
    taken: Taken,
    is_pending: bool,
}

impl<'a> Reserved<'a> {
    fn take(core: &'a Core) -> Result<Self> {
        let taken = core.allocator.borrow_mut().take();
        let no_number = "the image has used up all chunk numbers of the format";
        let taken = taken.ok_or_else(|| Error::host(libc::ENOSPC, no_number))?;
        Ok(Self {
            core,
            taken,
            is_pending: false,
        })
    }

    /// Makes the chunk's place exist, and read zeros.
    async fn prepare(&self, table: &Table) -> Result<()> {
        let Some(place) = table.place_of(self.taken.number) else {
            let what = format!("chunk {} has no place in a file", self.taken.number);
            return Err(Error::host(libc::EFBIG, what));
        };
        let chunk = place.get()..place.get() + table.chunks.chunk_size;
        grow(self.core, chunk.end, table.chunks.grow_unit).await?;
        if self.taken.may_hold_old_content && !planted(Canary::OldChunkNotZeroed) {
            self.core.count(|stats| stats.zeroed_chunks += 1);
            assert_idle(self.core, self.taken.number);
            self.core.layer.data.file.write_zeroes(chunk).await?;
        }
        Ok(())
    }

    fn begin(mut self, entry: u64) -> u32 {
        self.is_pending = true;
        self.core
            .allocator
            .borrow_mut()
            .begin(entry, self.taken.number);
        self.taken.number
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if !self.is_pending {
            self.core
                .allocator
                .borrow_mut()
                .give_back(self.taken.number);
        }
    }
}

fn full(data: &DataFile, end: u64) -> Error {
    let what = format!(
        "the device '{}' is full, {end} bytes are needed",
        data.file.name()
    );
    Error::host(libc::ENOSPC, format!("{what}; make it larger"))
}

/// Grows the storage up to `end`: by `unit` at once, or, where there is no room for that, just as
/// far as it must.
async fn grow(core: &Core, end: u64, unit: u64) -> Result<()> {
    let data = &core.layer.data;
    if end <= data.length.get() {
        return Ok(());
    }
    let _one_at_a_time = core.growth_lock.lock(&core.executor, 0..1).await;
    let length = data.length.get();
    if end <= length {
        return Ok(());
    }
    if data.file.is_device {
        let length = data
            .file
            .grow(end)
            .await
            .map_err(|error| match error.errno() {
                libc::EOPNOTSUPP => full(data, end),
                _ => error,
            })?;
        if length < end {
            return Err(full(data, end));
        }
        data.reached(length);
        return Ok(());
    }
    let generous = end.max(length.saturating_add(unit));
    let grown = match data.file.truncate(generous).await {
        Ok(()) => generous,
        Err(_) => data.file.truncate(end).await.map(|()| end)?,
    };
    data.reached(grown);
    Ok(())
}
