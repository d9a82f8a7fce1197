//! A file as the engine's tasks see it: operations to await, with errors that say where.
//!
//! The only maker of operations besides the fast path. Each method awaits what it started, or hands
//! out a [`Transfer`] that must be awaited, so that no task ends with an operation under way.

use std::ops::Range;
use std::rc::Rc;

use crate::host::{Buffer, FileId, IoVecList, IoVecs, Keep, OpKind, OpenRequest};

use super::error::{Error, Result};
use super::task::{Executor, Ticket};

/// An open file; it is closed when its last user drops it.
pub struct File {
    executor: Rc<Executor>,
    id: FileId,
    name: String,
    /// Its length in bytes when it was opened.
    pub length_at_open: u64,
    /// It cannot be cut or extended, and what was never written is not zero.
    pub is_device: bool,
}

impl File {
    /// Opens a file.
    pub async fn open(executor: &Rc<Executor>, request: OpenRequest) -> Result<Self> {
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
    pub fn id(&self) -> FileId {
        self.id
    }

    /// The name it was opened by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts reading into `iov`.
    pub fn start_read(&self, offset: u64, iov: IoVecs, keep: Keep) -> Transfer<'_> {
        let expected = iov.len();
        let ticket = self
            .executor
            .submit(self.id, OpKind::Read { offset, iov }, keep);
        Transfer {
            file: self,
            ticket,
            what: "reading",
            offset,
            expected,
        }
    }

    /// Starts writing from `iov`.
    pub fn start_write(&self, offset: u64, iov: IoVecs, keep: Keep) -> Transfer<'_> {
        let expected = iov.len();
        let ticket = self
            .executor
            .submit(self.id, OpKind::Write { offset, iov }, keep);
        Transfer {
            file: self,
            ticket,
            what: "writing",
            offset,
            expected,
        }
    }

    /// Reads `len` bytes, all of which the file must have.
    pub async fn read(&self, offset: u64, len: usize) -> Result<Buffer> {
        let buffer = Rc::new(allocate(len)?);
        self.start_read_buffer(offset, &buffer, 0, len)
            .done()
            .await?;
        Ok(Rc::try_unwrap(buffer).expect("the operation is over, and with it its share"))
    }

    /// Starts reading into a part of a buffer.
    pub fn start_read_buffer(
        &self,
        offset: u64,
        buffer: &Rc<Buffer>,
        skip: usize,
        len: usize,
    ) -> Transfer<'_> {
        let mut list = IoVecList::default();
        list.push_buffer(buffer, skip, len);
        let (iov, keep) = keep_list(list, vec![Rc::clone(buffer)]);
        self.start_read(offset, iov, keep)
    }

    /// Starts writing a whole buffer.
    pub fn start_write_buffer(&self, offset: u64, buffer: &Rc<Buffer>) -> Transfer<'_> {
        let mut list = IoVecList::default();
        list.push_buffer(buffer, 0, buffer.len());
        let (iov, keep) = keep_list(list, vec![Rc::clone(buffer)]);
        self.start_write(offset, iov, keep)
    }

    /// Copies `bytes` and writes them.
    pub async fn write_bytes(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.start_write_buffer(offset, &Rc::new(copy_of(bytes)?))
            .done()
            .await
    }

    /// Makes everything durable that completed before.
    pub async fn flush(&self) -> Result<()> {
        self.plain(OpKind::Flush, "flushing").await.map(drop)
    }

    /// Sets the length.
    pub async fn truncate(&self, len: u64) -> Result<()> {
        self.plain(OpKind::Truncate { len }, "setting the length of")
            .await
            .map(drop)
    }

    /// Asks for more space on a device; returns its new length.
    pub async fn grow(&self, len: u64) -> Result<u64> {
        self.plain(OpKind::Grow { len }, "adding space to").await
    }

    /// Makes a range read zeros.
    pub async fn write_zeroes(&self, offset: u64, len: u64) -> Result<()> {
        self.plain(OpKind::WriteZeroes { offset, len }, "zeroing a part of")
            .await
            .map(drop)
    }

    async fn plain(&self, kind: OpKind, what: &str) -> Result<u64> {
        let returned = self
            .executor
            .submit(self.id, kind, Keep::default())
            .returned()
            .await;
        u64::try_from(returned).map_err(|_| {
            let errno = errno_of(returned);
            Error::host(
                errno,
                format!("{what} '{}' failed: {}", self.name, strerror(errno)),
            )
        })
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.executor.close(self.id);
    }
}

/// A read or write under way. It must be awaited.
#[must_use = "an operation that nobody awaits outlives its task"]
pub struct Transfer<'a> {
    file: &'a File,
    ticket: Ticket<'a>,
    what: &'static str,
    offset: u64,
    expected: u64,
}

impl Transfer<'_> {
    /// Waits for its end. Every byte must have been transferred.
    pub async fn done(self) -> Result<()> {
        let Self {
            file,
            ticket,
            what,
            offset,
            expected,
        } = self;
        let returned = ticket.returned().await;
        if u64::try_from(returned) == Ok(expected) {
            return Ok(());
        }
        let place = format!("{what} {expected} bytes at {offset} of '{}'", file.name);
        if returned < 0 {
            let errno = errno_of(returned);
            return Err(Error::host(
                errno,
                format!("{place} failed: {}", strerror(errno)),
            ));
        }
        let hint = "did somebody cut the file?";
        Err(Error::host(
            libc::EIO,
            format!("{place} ended after {returned} bytes; {hint}"),
        ))
    }
}

/// Waits for all transfers, and reports the first failure. All of them are over when it returns.
pub async fn join(transfers: Vec<Transfer<'_>>) -> Result<()> {
    let mut result = Ok(());
    for transfer in transfers {
        let one = transfer.done().await;
        result = result.and(one);
    }
    result
}

/// A list and the buffers it points into, as an operation carries them.
pub fn keep_list(list: IoVecList, buffers: Vec<Rc<Buffer>>) -> (IoVecs, Keep) {
    let list = Rc::new(list);
    (
        list.as_iovecs(),
        Keep {
            buffers,
            list: Some(list),
        },
    )
}

/// A zeroed buffer, or the error that there is no memory for it.
pub fn allocate(len: usize) -> Result<Buffer> {
    Buffer::zeroed(len).ok_or_else(|| {
        Error::new(
            super::error::ErrorKind::NoMemory,
            format!("no memory for {len} bytes"),
        )
    })
}

/// The length of a range that has to fit into memory.
pub fn length(range: &Range<u64>) -> usize {
    usize::try_from(range.end - range.start).expect("memory of this length exists")
}

/// A buffer with these bytes.
pub fn copy_of(bytes: &[u8]) -> Result<Buffer> {
    let mut buffer = allocate(bytes.len())?;
    buffer.bytes().copy_from_slice(bytes);
    Ok(buffer)
}

fn errno_of(returned: i64) -> i32 {
    i32::try_from(-returned)
        .ok()
        .filter(|e| *e > 0)
        .unwrap_or(libc::EIO)
}

/// The system's words for an errno.
pub fn strerror(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}
