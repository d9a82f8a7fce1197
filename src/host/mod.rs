//! The world outside the engine: what carries its effects out.
//!
//! A [`Host`] opens files, starts reads, writes and flushes, and reports each one done exactly
//! once. The engine never blocks in it, never assumes an order between two operations in flight,
//! and believes that something is durable only when a flush that it submitted after the write's
//! completion has completed.

pub mod file;
mod iovec;

pub use iovec::{Buffer, IoVecList, IoVecs, Memory};

use std::time::Duration;

/// A file that the host opened, by the number the host gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u32);

/// Names one operation in flight. It carries a generation: a late or doubled answer is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// What a file is to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Header, bitmap, table, journal; the data too, unless a separate file holds it.
    Metadata,
    /// The separate data file.
    Data,
    /// A base image, or a file that a base image in the FVD format needs.
    Base,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// For reading; others may read it too.
    ReadOnly,
    /// For reading and writing, by nobody else at the same time (EBUSY).
    ReadWrite,
    /// As `ReadWrite`, made where it does not exist, and emptied where it does.
    Create,
    /// For reading, without regard to who else has it open.
    ReadUnlocked,
}

/// A file to open.
#[derive(Clone, Debug)]
pub struct OpenRequest {
    /// What the file is to the image.
    pub role: Role,
    /// Its name; a relative one means relative to the process, as for any other name a user gives.
    pub name: String,
    /// The folder that the name must not leave, by no symbolic link either (`follow=same-dir`).
    pub beneath: Option<String>,
    /// How to open it.
    pub access: Access,
}

/// A file that was opened.
#[derive(Clone, Copy, Debug)]
pub struct OpenedFile {
    /// How operations name it.
    pub id: FileId,
    /// Its length in bytes.
    pub length: u64,
    /// It cannot be cut or extended, and what was never written is not zero.
    pub is_device: bool,
}

/// What goes wrong where the host knows more than an errno.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct HostError {
    /// The positive errno.
    pub errno: i32,
    /// What, where, and what to do.
    pub message: String,
}

/// One operation on one file.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// The answer goes to this token.
    pub token: Token,
    /// The file.
    pub file: FileId,
    /// What to do there.
    pub kind: OpKind,
}

/// What an operation does. Its answer is a count of bytes (read, write), the new length (grow) or
/// 0, or -errno.
#[derive(Clone, Copy, Debug)]
pub enum OpKind {
    /// Reads into the list. A count below the list's length means that the file ends there.
    Read {
        /// Byte offset in the file.
        offset: u64,
        /// Where to.
        iov: IoVecs,
    },
    /// Writes from the list. A 512-byte sector is written whole or not at all.
    Write {
        /// Byte offset in the file.
        offset: u64,
        /// Where from.
        iov: IoVecs,
    },
    /// Makes durable what completed before this was submitted, the file's length included.
    Flush,
    /// Makes a range read zeros; a file that ends within it grows up to its end. A host that
    /// cannot do better than write them answers -EOPNOTSUPP, and zeros are written.
    WriteZeroes {
        /// Byte offset in the file.
        offset: u64,
        /// Bytes.
        len: u64,
    },
    /// Sets the length; what becomes visible is zero.
    Truncate {
        /// The new length in bytes.
        len: u64,
    },
    /// Adds space to a device, at least up to `len` bytes; answers its new length.
    Grow {
        /// The length needed, in bytes.
        len: u64,
    },
}

/// How bad a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Somebody should look.
    Warning,
    /// Something was lost or refused.
    Error,
}

/// Who carries effects out. All methods are called on the image's home thread.
///
/// # Safety
/// Whoever implements it promises to touch the memory that an operation names only until it has
/// given that operation's answer, and that nothing is under way when [`poll`](Host::poll) says so:
/// the memory may be gone then.
pub unsafe trait Host {
    /// Opens a file.
    ///
    /// # Errors
    /// EBUSY where somebody else holds it, ENOENT, EACCES and so on, with a message that says what
    /// to do.
    fn open(&self, request: &OpenRequest) -> Result<OpenedFile, HostError>;

    /// Closes a file on which no operation is outstanding, and gives up its lock.
    fn close(&self, file: FileId);

    /// Starts an operation. The memory it names stays valid until its answer is given through
    /// [`Host::poll`], which happens exactly once.
    fn submit(&self, operation: Operation);

    /// Waits at most `timeout` (`None`: for ever) for something to happen, and hands each answer to
    /// `done`. Returns `false` where nothing can happen any more: nothing is under way, or the host
    /// is gone.
    fn poll(&self, timeout: Option<Duration>, done: &mut dyn FnMut(Token, i64)) -> bool;

    /// Takes note of a message for whoever looks after the machine.
    fn log(&self, severity: Severity, message: &str);
}

#[cfg(feature = "sim")]
pub mod sim;
