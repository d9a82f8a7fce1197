//! What goes wrong: a small stable kind to decide by, and a message to read.
//!
//! Two layers: [`FormatError`] and [`HostError`] say what is wrong with the bytes and with the
//! world; an [`Error`] says what that means for the image, with the errno a C caller gets.

use std::fmt;

use crate::format::error::FormatError;
use crate::host::HostError;

/// What a caller decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// An argument is wrong.
    Invalid,
    /// The image breaks a rule of the format.
    Corrupt,
    /// The open options do not allow it.
    Refused,
    /// The image was opened read-only.
    ReadOnly,
    /// The image is closed or about to be.
    Closed,
    /// A flush failed: nothing is written any more until the image is opened again.
    FlushFailed,
    /// The request was cancelled.
    Cancelled,
    /// There is no memory left.
    NoMemory,
    /// The host could not do it.
    Host,
}

/// An error of the library: its kind, an errno, and what, where, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    errno: i32,
    message: String,
}

/// What the library's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with the errno that goes with its kind.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let errno = match kind {
            ErrorKind::Invalid | ErrorKind::Corrupt => libc::EINVAL,
            ErrorKind::Refused => libc::EPERM,
            ErrorKind::ReadOnly => libc::EROFS,
            ErrorKind::Closed => libc::EBADF,
            ErrorKind::FlushFailed | ErrorKind::Host => libc::EIO,
            ErrorKind::Cancelled => libc::ECANCELED,
            ErrorKind::NoMemory => libc::ENOMEM,
        };
        Self {
            kind,
            errno,
            message: message.into(),
        }
    }

    /// An error of the host, with its errno.
    pub(crate) fn host(errno: i32, message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Host,
            errno,
            message: message.into(),
        }
    }

    /// What a caller decides by.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The errno, positive.
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// What the format says of an argument that a user gave.
    pub(crate) fn argument(error: &FormatError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string())
    }

    /// The same error, with where it happened before its message.
    #[must_use]
    pub(crate) fn context(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }
}

/// The system's words for an errno.
pub(crate) fn strerror(errno: i32) -> String {
    std::io::Error::from_raw_os_error(errno).to_string()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Self {
        Self::new(ErrorKind::Corrupt, error.to_string())
    }
}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self::host(error.errno, error.message)
    }
}
