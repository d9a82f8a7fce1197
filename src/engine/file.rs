//! A file as the engine's tasks see it: operations to await, with errors that say where.
//!
//! Each method awaits what it started, or hands out a [`Transfer`] that must be awaited, so that no
//! task ends with an operation under way.

use std::ops::Range;
use std::rc::Rc;

use crate::host::{Buffer, FileId, Memory, OpKind, OpenRequest};

use super::buffer::{allocate, copy_of, steps};
use super::error::{Error, Result, strerror};
use super::task::{Executor, Ticket};

/// Bytes of zeros that are written at once.
const ZERO_STEP: u64 = 1 << 20;

/// An open file; it is closed when its last user drops it.
pub(crate) struct File {
    executor: Rc<Executor>,
    id: FileId,
    name: String,
    /// Its length in bytes when it was opened.
    pub(crate) length_at_open: u64,
    /// It cannot be cut or extended, and what was never written is not zero.
    pub(crate) is_device: bool,
}

impl File {
    /// Opens a file.
    pub(crate) async fn open(executor: &Rc<Executor>, request: OpenRequest) -> Result<Self> {
        let name = request.name.clone();
        let opened = executor.open(request).await?;
        Ok(Self {
            executor: Rc::clone(executor),
            id: opened.id,
            name,
            length_at_open: opened.length,
            is_device: opened.is_device,
        })
    }

    /// How the fast path names it.
    pub(crate) fn id(&self) -> FileId {
        self.id
    }

    /// The name it was opened by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Starts reading into `memory`.
    pub(crate) fn start_read(&self, offset: u64, memory: Memory) -> Transfer<'_> {
        let kind = OpKind::Read {
            offset,
            iov: memory.iovecs(),
        };
        self.start("reading", offset, kind, memory)
    }

    /// Starts writing from `memory`.
    pub(crate) fn start_write(&self, offset: u64, memory: Memory) -> Transfer<'_> {
        let kind = OpKind::Write {
            offset,
            iov: memory.iovecs(),
        };
        self.start("writing", offset, kind, memory)
    }

    fn start(&self, what: &'static str, offset: u64, kind: OpKind, memory: Memory) -> Transfer<'_> {
        let len = memory.len();
        let ticket = self.executor.submit(self.id, kind, Some(memory));
        Transfer {
            file: self,
            ticket,
            what,
            range: offset..offset + len,
        }
    }

    /// Reads `len` bytes, all of which the file must have.
    pub(crate) async fn read(&self, offset: u64, len: u64) -> Result<Buffer> {
        let buffer = Rc::new(allocate(len)?);
        self.start_read(offset, Memory::of(&buffer)).done().await?;
        Ok(Rc::try_unwrap(buffer).expect("the operation is over, and with it its share"))
    }

    /// Writes a whole buffer.
    pub(crate) async fn write(&self, offset: u64, buffer: Buffer) -> Result<()> {
        self.start_write(offset, Memory::of(&Rc::new(buffer)))
            .done()
            .await
    }

    /// Copies `bytes` and writes them.
    pub(crate) async fn write_bytes(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write(offset, copy_of(bytes)?).await
    }

    /// Makes everything durable that completed before.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.plain(OpKind::Flush, "flushing").await.map(drop)
    }

    /// Sets the length.
    pub(crate) async fn truncate(&self, len: u64) -> Result<()> {
        self.plain(OpKind::Truncate { len }, "setting the length of")
            .await
            .map(drop)
    }

    /// Asks for more space on a device; returns its new length.
    pub(crate) async fn grow(&self, len: u64) -> Result<u64> {
        self.plain(OpKind::Grow { len }, "adding space to").await
    }

    /// Makes a range read zeros, by writing them where the host has no better way.
    pub(crate) async fn write_zeroes(&self, range: Range<u64>) -> Result<()> {
        let zeroed = self.zero(&range).await;
        if !zeroed
            .as_ref()
            .is_err_and(|error| error.errno() == libc::EOPNOTSUPP)
        {
            return zeroed;
        }
        for step in steps(range, ZERO_STEP) {
            self.write(step.start, allocate(step.end - step.start)?)
                .await?;
        }
        Ok(())
    }

    async fn zero(&self, range: &Range<u64>) -> Result<()> {
        let kind = OpKind::WriteZeroes {
            offset: range.start,
            len: range.end - range.start,
        };
        self.plain(kind, "zeroing a part of").await.map(drop)
    }

    /// The error that a device is too short for `needed` bytes.
    pub(crate) fn require_length(&self, needed: u64) -> Result<()> {
        if self.length_at_open >= needed {
            return Ok(());
        }
        let what = format!(
            "the device '{}' has {} bytes",
            self.name, self.length_at_open
        );
        Err(Error::host(
            libc::ENOSPC,
            format!("{what}, and {needed} are needed"),
        ))
    }

    async fn plain(&self, kind: OpKind, what: &str) -> Result<u64> {
        let returned = self.executor.submit(self.id, kind, None).returned().await;
        u64::try_from(returned).map_err(|_| failed(returned, &format!("{what} '{}'", self.name)))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.executor.close(self.id);
    }
}

/// A read or write under way. It must be awaited.
#[must_use = "an operation that nobody awaits outlives its task"]
pub(crate) struct Transfer<'a> {
    file: &'a File,
    ticket: Ticket<'a>,
    what: &'static str,
    range: Range<u64>,
}

impl Transfer<'_> {
    /// Waits for its end. Every byte must have been transferred.
    pub(crate) async fn done(self) -> Result<()> {
        let Self {
            file,
            ticket,
            what,
            range,
        } = self;
        let returned = ticket.returned().await;
        transferred(returned, &range, || format!("{what} '{}'", file.name))
    }
}

/// Waits for all transfers, and reports the first failure. All of them are over when it returns.
pub(crate) async fn join(transfers: Vec<Transfer<'_>>) -> Result<()> {
    let mut result = Ok(());
    for transfer in transfers {
        let one = transfer.done().await;
        result = result.and(one);
    }
    result
}

/// Whether the answer `returned` says that all of `range` was read or written; `what` names the
/// deed.
#[inline]
pub(crate) fn transferred(
    returned: i64,
    range: &Range<u64>,
    what: impl FnOnce() -> String,
) -> Result<()> {
    let expected = range.end - range.start;
    if u64::try_from(returned) == Ok(expected) {
        return Ok(());
    }
    let place = format!("{}, bytes {}..{},", what(), range.start, range.end);
    if returned < 0 {
        return Err(failed(returned, &place));
    }
    let ended = format!("{place} ended after {returned} of {expected} bytes");
    Err(Error::host(
        libc::EIO,
        format!("{ended}; did somebody cut the file?"),
    ))
}

fn failed(returned: i64, place: &str) -> Error {
    let errno = i32::try_from(-returned)
        .ok()
        .filter(|errno| *errno > 0)
        .unwrap_or(libc::EIO);
    Error::host(errno, format!("{place} failed: {}", strerror(errno)))
}
