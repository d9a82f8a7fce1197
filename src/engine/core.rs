//! The engine of one image that is open: what its requests share, and where each one enters.
//!
//! A request whose place on disk is known and committed takes the [fast path](super::fast_path):
//! the one operation it needs is returned by value, and the host's answer ends it. Every other
//! request becomes a task.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use crate::format::header::Header;
use crate::format::units::SECTOR;
use crate::host::{IoVecs, Memory, Operation, Severity, Token};

use super::allocator::Allocator;
use super::canary::{Canary, planted};
use super::commit::Committer;
use super::copy::fetch;
use super::dirty::Dirty;
use super::error::{Error, ErrorKind, Result};
use super::layer::Layer;
use super::options::Config;
use super::range_lock::RangeLock;
use super::read::read;
use super::request::{Cancel, Kind, Listener, RequestId, Requests};
use super::stats::Stats;
use super::task::{Answer, Executor};
use super::write::write;

/// An image that is open.
pub(crate) struct Core {
    /// Its tasks.
    pub(crate) executor: Rc<Executor>,
    /// Where its bytes are.
    pub(crate) layer: Layer,
    /// What the guest waits for.
    pub(crate) requests: Requests,
    /// How it was opened.
    pub(crate) config: Config,
    /// What happened so far.
    pub(crate) stats: Cell<Stats>,
    pub(super) header: RefCell<Header>,
    /// Missing blocks that a write or a copy is about to make present, in bytes of the disk.
    pub(super) block_locks: RangeLock,
    /// Entries whose chunk is being allocated.
    pub(super) entry_locks: RangeLock,
    /// 0..1: whoever is making the storage larger.
    pub(super) growth_lock: RangeLock,
    pub(super) allocator: RefCell<Allocator>,
    pub(super) dirty: RefCell<Dirty>,
    pub(super) committer: Committer,
    /// No new request is taken.
    closing: Cell<bool>,
    /// A flush failed: reads only, and nothing is committed any more.
    flush_failed: Cell<bool>,
}

/// A request that was taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Started {
    /// Its name, to cancel it by.
    pub(crate) request: RequestId,
    /// The operation to submit, where it takes the fast path.
    pub(crate) direct: Option<Operation>,
}

impl Started {
    fn direct(request: RequestId, operation: Operation) -> Self {
        Self {
            request,
            direct: Some(operation),
        }
    }
}

impl Core {
    /// The engine of an image whose layer is ready for requests.
    pub(super) fn new(
        executor: Rc<Executor>,
        layer: Layer,
        header: Header,
        config: Config,
        allocator: Allocator,
        committer: Committer,
    ) -> Self {
        Self {
            executor,
            layer,
            requests: Requests::default(),
            config,
            stats: Cell::default(),
            header: RefCell::new(header),
            block_locks: RangeLock::default(),
            entry_locks: RangeLock::default(),
            growth_lock: RangeLock::default(),
            allocator: RefCell::new(allocator),
            dirty: RefCell::default(),
            committer,
            closing: Cell::default(),
            flush_failed: Cell::default(),
        }
    }

    /// Reads into `iov` from byte `offset` of the disk.
    ///
    /// # Errors
    /// A range outside the disk or not in sectors; an image being closed. Nothing was started then.
    pub(crate) fn read(
        self: &Rc<Self>,
        offset: u64,
        iov: IoVecs,
        tell: Listener,
    ) -> Result<Started> {
        let range = self.range_on_disk(offset, iov.len())?;
        let request = self.requests.begin(Kind::Read, range.clone(), tell);
        if let Some(direct) = self.direct_read(request, &range, iov) {
            return Ok(Started::direct(request, direct));
        }
        Ok(self.start(request, move |core| async move {
            core.executor.step("reading");
            read(&core.layer, range, &Memory::Guest(iov)).await
        }))
    }

    /// Writes `iov` to byte `offset` of the disk; with `fua`, durable before it completes.
    ///
    /// # Errors
    /// As for [`read`](Self::read); an image that is read-only, or whose flush failed.
    pub(crate) fn write(
        self: &Rc<Self>,
        offset: u64,
        iov: IoVecs,
        fua: bool,
        tell: Listener,
    ) -> Result<Started> {
        let range = self.range_on_disk(offset, iov.len())?;
        self.check_writable()?;
        let durable = fua || self.config.write_through;
        let request = self.requests.begin(Kind::Write, range.clone(), tell);
        if !durable && let Some(direct) = self.direct_write(request, &range, iov) {
            return Ok(Started::direct(request, direct));
        }
        Ok(self.start(request, move |core| async move {
            if !range.is_empty() {
                write(&core, range, Memory::Guest(iov)).await?;
            }
            if durable { core.commit().await } else { Ok(()) }
        }))
    }

    /// Makes every write durable that completed before. A flush that failed, now or earlier, is
    /// told to the listener.
    ///
    /// # Errors
    /// An image being closed.
    pub(crate) fn flush(self: &Rc<Self>, tell: Listener) -> Result<Started> {
        self.check_open()?;
        let request = self.requests.begin(Kind::Flush, 0..0, tell);
        Ok(self.start(request, |core| async move { core.commit().await }))
    }

    /// Brings what is missing of `len` bytes at `offset` from the base image into this one. What a
    /// write is working on is left alone, without an error.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub(crate) fn fetch(self: &Rc<Self>, offset: u64, len: u64, tell: Listener) -> Result<Started> {
        let range = self.range_on_disk(offset, len)?;
        self.check_writable()?;
        let request = self.requests.begin(Kind::Fetch, range.clone(), tell);
        Ok(self.start(
            request,
            move |core| async move { fetch(&core, range).await },
        ))
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
                result: None,
            };
            end.result = Some(work(Rc::clone(&core)).await);
        });
        self.requests.assign(request, task);
        Started {
            request,
            direct: None,
        }
    }

    /// Takes the host's answer to an operation. False: nobody waits for it.
    pub(crate) fn answered(&self, token: Token, returned: i64) -> bool {
        let answer = self.executor.answered(token, returned);
        match answer {
            Answer::Task => {}
            Answer::Request(request) => self.end_direct(request, returned),
            Answer::Stray => self.count(|stats| stats.stray_answers += 1),
        }
        answer != Answer::Stray
    }

    /// Cancels a request: it does no more than it has under way. False: it had ended before.
    pub(crate) fn cancel(&self, request: RequestId, how: Cancel) -> bool {
        let is_live = self.requests.cancel(request, how);
        if let Some(task) = self.requests.task(request) {
            self.executor.cancel(task);
        }
        is_live
    }

    /// Takes no more requests.
    pub(crate) fn begin_close(&self) {
        self.closing.set(true);
    }

    /// A write of the data of `range` is over: the next flush has something to do, and where all of
    /// it was written, the file reaches at least up to its end.
    #[inline]
    pub(super) fn write_ended(&self, range: &Range<u64>, result: &Result<()>) {
        self.committer.data_written();
        if result.is_ok() && self.layer.table.is_none() {
            self.layer
                .data
                .reached(self.layer.data.start.get() + range.end);
        }
    }

    /// Counts something.
    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// A flush failed: from now on nothing is written.
    pub(super) fn flush_failed(&self, error: &Error) {
        if planted(Canary::FailedFlushForgotten) || self.flush_failed.replace(true) {
            return;
        }
        let lost = "what was written since the last good flush may be lost";
        let todo = "writes and flushes fail until the image is opened again";
        self.executor
            .log(Severity::Error, format!("{error}: {lost}; {todo}"));
    }

    /// The error that a failed flush leaves behind.
    pub(super) fn check_not_failed(&self) -> Result<()> {
        if self.flush_failed.get() {
            let message = "a flush failed earlier: nothing is written until the image is reopened";
            return Err(Error::new(ErrorKind::FlushFailed, message));
        }
        Ok(())
    }

    fn check_open(&self) -> Result<()> {
        if self.closing.get() {
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
    pub(crate) fn header(&self) -> Header {
        self.header.borrow().clone()
    }

    /// How many chunk numbers below the highest one in use are free, and how many chunks are
    /// pending.
    pub(crate) fn free_and_pending(&self) -> (u64, u64) {
        let allocator = self.allocator.borrow();
        (allocator.holes(), allocator.pending() as u64)
    }
}

/// Ends a request when its task ends, by success, error or cancel.
struct RequestEnd<'a> {
    core: &'a Core,
    request: RequestId,
    result: Option<Result<()>>,
}

impl Drop for RequestEnd<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // I/O of it may be under way: the request ends when that is over.
            self.core.requests.freeze();
        }
        let cancelled = || {
            Err(Error::new(
                ErrorKind::Cancelled,
                "the request was cancelled",
            ))
        };
        let result = self.result.take().unwrap_or_else(cancelled);
        if let (Err(error), Some((kind, range))) =
            (&result, self.core.requests.look_up(self.request))
            && error.kind() != ErrorKind::Cancelled
        {
            let what = format!("{} of bytes {}..{}", kind.name(), range.start, range.end);
            self.core
                .executor
                .log(Severity::Error, format!("{what} failed: {error}"));
        }
        self.core.requests.finish(self.request, result);
    }
}
