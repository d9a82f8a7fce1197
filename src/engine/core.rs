//! The engine of one image that is open: what its requests share, and where each one enters.
//!
//! A request whose place on disk is known and committed takes the fast path: the one operation it
//! needs is returned by value, with the guest's own iovecs, and the host's answer ends it. Every other
//! request becomes a task.

use std::cell::{Cell, RefCell};
use std::ffi::c_int;
use std::ops::Range;
use std::rc::Rc;

use crate::format::header::Header;
use crate::format::units::SECTOR;
use crate::host::{IoVecs, OpKind, Operation, Severity, Token};

use super::allocator::Allocator;
use super::canary::{Canary, planted};
use super::commit::Committer;
use super::dirty::{Dirty, Writer};
use super::error::{Error, ErrorKind, Result};
use super::extents::{Layer, Source};
use super::range_lock::RangeLock;
use super::request::{Callback, Cancel, Kind, RequestId, Requests};
use super::stats::Stats;
use super::task::{Answer, Executor};
use super::{copy, read, write};

/// How the image was opened.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// No write is allowed.
    pub read_only: bool,
    /// Every write is durable before it completes.
    pub write_through: bool,
    /// Requests may take the fast path.
    pub fast_path: bool,
}

/// What the image still does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A flush failed: reads only, and nothing is committed any more.
    FlushFailed,
    /// No new request is taken.
    Closing,
}

/// An image that is open.
pub struct Core {
    /// Its tasks.
    pub executor: Rc<Executor>,
    /// Where its bytes are.
    pub layer: Layer,
    /// What the guest waits for.
    pub requests: Requests,
    /// How it was opened.
    pub config: Config,
    /// What happened so far.
    pub stats: Stats,
    pub(super) header: RefCell<Header>,
    /// Missing blocks that a write or a copy is about to make present, in bytes of the disk.
    pub(super) block_locks: RangeLock,
    /// Entries whose chunk is being allocated.
    pub(super) chunk_locks: RangeLock,
    pub(super) growth_lock: RangeLock,
    pub(super) allocator: RefCell<Allocator>,
    pub(super) dirty: RefCell<Dirty>,
    pub(super) committer: Committer,
    state: Cell<State>,
}

/// A request that was taken.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    /// Its name, to cancel it by.
    pub request: RequestId,
    /// The operation to submit, where it takes the fast path.
    pub direct: Option<Operation>,
}

impl Core {
    /// The engine of an image whose layer is ready for requests.
    pub(super) fn new(
        executor: Rc<Executor>,
        layer: Layer,
        header: Header,
        config: Config,
        allocator: Allocator,
    ) -> Self {
        let committer = Committer::new(&layer.geometry);
        Self {
            executor,
            layer,
            requests: Requests::default(),
            config,
            stats: Stats::default(),
            header: RefCell::new(header),
            block_locks: RangeLock::default(),
            chunk_locks: RangeLock::default(),
            growth_lock: RangeLock::default(),
            allocator: RefCell::new(allocator),
            dirty: RefCell::default(),
            committer,
            state: Cell::new(State::Open),
        }
    }

    /// Reads `iov` from `offset`.
    ///
    /// # Errors
    /// A range outside the disk or not in sectors; an image being closed. Nothing was started then.
    pub fn read(self: &Rc<Self>, offset: u64, iov: IoVecs, callback: Callback) -> Result<Started> {
        let range = self.checked_range(offset, &iov)?;
        let request = self
            .requests
            .begin(Kind::Read, offset, range.end - range.start, callback);
        if let Some(direct) = self.fast_read(request, &range, iov) {
            return Ok(Started {
                request,
                direct: Some(direct),
            });
        }
        Ok(self.start(request, move |core| async move {
            read::read(&core, range, iov).await
        }))
    }

    /// Writes `iov` to `offset`; with `fua`, durable before it completes.
    ///
    /// # Errors
    /// As for [`read`](Self::read); an image that is read-only, or whose flush failed.
    pub fn write(
        self: &Rc<Self>,
        offset: u64,
        iov: IoVecs,
        fua: bool,
        callback: Callback,
    ) -> Result<Started> {
        let range = self.checked_range(offset, &iov)?;
        self.check_writable()?;
        let durable = fua || self.config.write_through;
        let request = self
            .requests
            .begin(Kind::Write, offset, range.end - range.start, callback);
        if let Some(direct) = self.fast_write(request, &range, iov, durable) {
            return Ok(Started {
                request,
                direct: Some(direct),
            });
        }
        Ok(self.start(request, move |core| async move {
            write::write(&core, range, iov).await?;
            if durable { core.commit().await } else { Ok(()) }
        }))
    }

    /// Makes every write durable that completed before.
    ///
    /// # Errors
    /// An image being closed, or whose flush failed.
    pub fn flush(self: &Rc<Self>, callback: Callback) -> Result<Started> {
        self.check_open()?;
        let request = self.requests.begin(Kind::Flush, 0, 0, callback);
        Ok(self.start(request, |core| async move { core.commit().await }))
    }

    /// Brings what is missing of `offset..offset + len` from the base image into this one. What a
    /// write is working on is left alone.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub fn fetch(self: &Rc<Self>, offset: u64, len: u64, callback: Callback) -> Result<Started> {
        let range = self.range_on_disk(offset, len)?;
        self.check_writable()?;
        let request = self.requests.begin(Kind::Fetch, offset, len, callback);
        Ok(self.start(request, move |core| async move {
            copy::fetch(&core, range).await
        }))
    }

    /// The one operation that a read needs, if it is only one.
    #[inline]
    fn fast_read(&self, request: RequestId, range: &Range<u64>, iov: IoVecs) -> Option<Operation> {
        if !self.config.fast_path || range.is_empty() {
            return None;
        }
        let extent = self.layer.extent(range.clone());
        let Source::File(file, offset) = extent.source else {
            return None;
        };
        let kind = OpKind::Read { offset, iov };
        (extent.range == *range).then(|| self.executor.direct(request, file.id(), kind))
    }

    /// The one operation that a write needs, if its blocks and its chunks are there already, and
    /// committed or guest-dirty.
    #[inline]
    fn fast_write(
        &self,
        request: RequestId,
        range: &Range<u64>,
        iov: IoVecs,
        durable: bool,
    ) -> Option<Operation> {
        if !self.config.fast_path || durable || range.is_empty() || !self.layer.all_present(range) {
            return None;
        }
        let offset = self.layer.data_place(range)?;
        if self.is_copied(range) && !planted(Canary::CopiedBlockNotGuestDirty) {
            return None;
        }
        let kind = OpKind::Write { offset, iov };
        Some(
            self.executor
                .direct(request, self.layer.data.file.id(), kind),
        )
    }

    /// True if any block or chunk of `range` is copy-dirty.
    fn is_copied(&self, range: &Range<u64>) -> bool {
        let copied = &self.dirty.borrow().copied;
        if copied.is_empty() {
            return false;
        }
        let (blocks, entries) = self.indexes(range);
        copied.blocks.intersects(&blocks) || copied.entries.intersects(&entries)
    }

    /// The blocks and the entries that `range` touches.
    pub(super) fn indexes(&self, range: &Range<u64>) -> (Range<u64>, Range<u64>) {
        let geometry = &self.layer.geometry;
        let blocks = geometry
            .blocks
            .map_or(0..0, |b| b.index_range(range.start, range.end));
        let entries = geometry
            .chunks
            .map_or(0..0, |c| c.index_range(range.start, range.end));
        (blocks, entries)
    }

    /// `range`, widened to whole blocks; what lies above the base is not widened.
    pub(super) fn whole_blocks(&self, range: &Range<u64>) -> Range<u64> {
        let (blocks, _) = self.indexes(range);
        match self.layer.geometry.blocks {
            Some(b) if !blocks.is_empty() => {
                b.span(blocks.start).start..b.span(blocks.end - 1).end.max(range.end)
            }
            _ => range.clone(),
        }
    }

    /// A write of `span` has completed: from now on reads, commits and the fast path see it.
    ///
    /// `numbers` are the chunks that hold the span, in order, one for each entry that it touches.
    pub(super) fn publish(&self, span: &Range<u64>, numbers: &[u32], by: Writer) {
        let mut dirty = self.dirty.borrow_mut();
        let (blocks, entries) = self.indexes(span);
        if let Some((table, _)) = self.layer.chunks() {
            for (entry, number) in entries.clone().zip(numbers) {
                if self.allocator.borrow_mut().publish(entry) {
                    table.set(entry, *number);
                    dirty.add_entry(by, entry);
                }
            }
        }
        if let Some(bitmap) = &self.layer.bitmap {
            for run in bitmap.missing(blocks.clone()).collect::<Vec<_>>() {
                bitmap.set(run.clone());
                dirty.add_blocks(by, &run);
            }
        }
        if by == Writer::Guest {
            // The blocks' bits will be committed, so the entries of all that the blocks touch must be.
            let (_, entries) = self.indexes(&self.whole_blocks(span));
            dirty.adopt(&blocks, &entries);
        }
    }

    /// Takes the host's answer to an operation. False: nobody waits for it.
    pub fn answered(&self, token: Token, returned: i64) -> bool {
        match self.executor.answered(token, returned) {
            Answer::Task => true,
            Answer::Request(request) => {
                self.end_direct(request, returned);
                true
            }
            Answer::Stray => {
                self.stats.stray_answers.add(1);
                false
            }
        }
    }

    /// Ends a request of the fast path.
    fn end_direct(&self, id: RequestId, returned: i64) {
        let (kind, range) = self
            .requests
            .range(id)
            .expect("a request outlives its operation");
        let complete = u64::try_from(returned) == Ok(range.end - range.start);
        if kind == Kind::Write {
            self.data_written(&range, complete);
        }
        let result = match returned {
            _ if complete => 0,
            errno if errno < 0 => c_int::try_from(errno).unwrap_or(-libc::EIO),
            _ => -libc::EIO,
        };
        if result != 0 {
            let place = format!("{kind:?} of {range:?}: the host answered {returned}");
            self.log(Severity::Error, place);
        }
        self.requests.finish(id, result);
    }

    /// A write of the data of `range` is over: the next flush has something to do, and where the write was
    /// `complete`, the file reaches at least up to its end.
    pub(super) fn data_written(&self, range: &Range<u64>, complete: bool) {
        self.committer.data_written();
        if complete && self.layer.table.is_none() {
            self.layer
                .data
                .reached(self.layer.data.start.get() + range.end);
        }
    }

    /// Turns a request into a task. Its guard ends the request, however the task ends.
    fn start<F, W>(self: &Rc<Self>, request: RequestId, work: W) -> Started
    where
        W: FnOnce(Rc<Self>) -> F + 'static,
        F: Future<Output = Result<()>>,
    {
        let core = Rc::clone(self);
        let task = self.executor.spawn(async move {
            let mut end = RequestEnd {
                core: &core,
                request,
                result: -libc::ECANCELED,
            };
            let result = work(Rc::clone(&core)).await;
            end.result = core.result_of(request, result);
        });
        self.requests.assign(request, task);
        Started {
            request,
            direct: None,
        }
    }

    fn result_of(&self, request: RequestId, result: Result<()>) -> c_int {
        let Err(error) = result else { return 0 };
        let range = self.requests.range(request);
        self.log(
            Severity::Error,
            format!("request {range:?} failed: {error}"),
        );
        -error.errno()
    }

    /// Cancels a request. True: it had not ended, and will not do more than it has under way.
    pub fn cancel(&self, request: RequestId, how: Cancel) -> bool {
        match self.requests.cancel(request, how) {
            None => false,
            Some(task) => {
                task.inspect(|task| self.executor.cancel(*task));
                true
            }
        }
    }

    /// Takes no more requests.
    pub fn begin_close(&self) {
        if self.state.get() == State::Open {
            self.state.set(State::Closing);
        }
    }

    /// A flush failed: from now on nothing is written.
    pub(super) fn flush_failed(&self, error: &Error) {
        if planted(Canary::FailedFlushForgotten) || self.state.get() == State::FlushFailed {
            return;
        }
        self.state.set(State::FlushFailed);
        let lost = "what was written since the last good flush may be lost";
        let todo = "writes and flushes fail until the image is opened again";
        self.log(Severity::Error, format!("{error}: {lost}; {todo}"));
    }

    /// The error that a failed flush leaves behind.
    pub(super) fn check_not_failed(&self) -> Result<()> {
        if self.state.get() == State::FlushFailed {
            let message = "a flush failed earlier: nothing is written until the image is reopened";
            return Err(Error::new(ErrorKind::FlushFailed, message));
        }
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        if self.state.get() == State::Closing {
            return Err(Error::new(ErrorKind::Closed, "the image is being closed"));
        }
        Ok(())
    }

    fn check_writable(&self) -> Result<()> {
        if self.config.read_only {
            let message = format!("'{}' was opened read-only", self.layer.metadata.name());
            return Err(Error::new(ErrorKind::ReadOnly, message));
        }
        self.check_not_failed()
    }

    fn checked_range(&self, offset: u64, iov: &IoVecs) -> Result<Range<u64>> {
        self.range_on_disk(offset, iov.len())
    }

    fn range_on_disk(&self, offset: u64, len: u64) -> Result<Range<u64>> {
        self.check_open()?;
        let size = self.layer.geometry.virtual_size;
        let end = offset.checked_add(len).filter(|end| *end <= size);
        match end {
            Some(end) if offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR) => {
                Ok(offset..end)
            }
            _ => {
                let what = format!("{len} bytes at {offset} are not whole sectors of the disk");
                Err(Error::new(
                    ErrorKind::Invalid,
                    format!("{what}, which has {size} bytes"),
                ))
            }
        }
    }

    /// The header, with what this session has changed of it.
    pub fn header(&self) -> Header {
        self.header.borrow().clone()
    }

    /// How many chunk numbers below the highest one in use are free, and how many chunks are pending.
    pub fn free_and_pending(&self) -> (u64, u64) {
        let allocator = self.allocator.borrow();
        let free = allocator
            .holes()
            .map(|hole| u64::from(hole.end - hole.start))
            .sum();
        (free, allocator.pending() as u64)
    }

    pub(super) fn log(&self, severity: Severity, message: String) {
        self.executor.log(severity, message);
    }
}

/// Ends a request when its task ends, by success, error or cancel.
struct RequestEnd<'a> {
    core: &'a Core,
    request: RequestId,
    result: c_int,
}

impl Drop for RequestEnd<'_> {
    fn drop(&mut self) {
        self.core.requests.finish(self.request, self.result);
    }
}
