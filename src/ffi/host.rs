//! The host, as C lends it: a table of functions, behind the [`Host`] trait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_char, c_int, c_void};
use std::time::Duration;

use libc::iovec;

use crate::host::{
    Access, FileId, Host, HostError, OpKind, OpenRequest, OpenedFile, Operation, Role, Severity,
    Token,
};
use crate::{Error, ErrorKind, Result};

use super::error::text;
use super::image::fvd_image;

/// What a file is to the image: `fvd_file_request.role`.
///
/// The file of header, bitmap, table and journal; of the data too, unless that has its own.
pub const FVD_ROLE_METADATA: c_int = 0;
/// The separate data file.
pub const FVD_ROLE_DATA: c_int = 1;
/// A base image, or a file that a base image needs.
pub const FVD_ROLE_BASE: c_int = 2;

/// How a file is opened: `fvd_file_request.access`.
///
/// For reading; others may read it too.
pub const FVD_ACCESS_READ_ONLY: c_int = 0;
/// For reading and writing, by nobody else at the same time (-EBUSY).
pub const FVD_ACCESS_READ_WRITE: c_int = 1;
/// As above, made where it does not exist, and emptied where it does.
pub const FVD_ACCESS_CREATE: c_int = 2;
/// For reading, whoever else has it open.
pub const FVD_ACCESS_UNLOCKED: c_int = 3;

/// What an operation does: `fvd_io.kind`.
///
/// Reads `len` bytes at `offset` into `iov`. The answer is the count of bytes, less than `len`
/// only where the file ends.
pub const FVD_IO_READ: c_int = 0;
/// Writes `len` bytes at `offset` from `iov`. The answer is the count of bytes, always `len`.
pub const FVD_IO_WRITE: c_int = 1;
/// Makes durable what was answered before this was submitted, the length included. Answer: 0.
pub const FVD_IO_FLUSH: c_int = 2;
/// Makes `len` bytes at `offset` read zeros. Answer: 0; -EOPNOTSUPP: the library writes zeros.
pub const FVD_IO_WRITE_ZEROES: c_int = 3;
/// Sets the length of the file to `len`; what becomes visible is zero. Answer: 0.
pub const FVD_IO_TRUNCATE: c_int = 4;
/// Adds space to a device, at least up to `len` bytes. Answer: its new length.
pub const FVD_IO_GROW: c_int = 5;

/// How bad a message is: for the host to look at.
pub const FVD_LOG_WARNING: c_int = 0;
/// How bad a message is: something was lost or refused.
pub const FVD_LOG_ERROR: c_int = 1;

/// A file to open. Valid during the call.
#[repr(C)]
pub struct fvd_file_request {
    /// Bytes of this struct.
    pub struct_size: usize,
    /// One of FVD_ROLE_*.
    pub role: c_int,
    /// One of FVD_ACCESS_*.
    pub access: c_int,
    /// Its name, in UTF-8.
    pub name: *const c_char,
    /// The folder that it must not leave, by no symbolic link either; NULL: it may be anywhere.
    pub beneath: *const c_char,
}

/// A file that was opened: filled in by the host.
#[repr(C)]
pub struct fvd_file {
    /// Bytes of this struct, set by the library.
    pub struct_size: usize,
    /// How the host knows it.
    pub file: *mut c_void,
    /// Its length in bytes.
    pub length: u64,
    /// It cannot be cut or extended, and what was never written is not zero.
    pub is_device: bool,
}

/// One operation on one file. The struct is valid during fvd_host_ops.submit; what `iov` points to
/// is valid until the answer.
#[repr(C)]
pub struct fvd_io {
    /// Bytes of this struct.
    pub struct_size: usize,
    /// Whom to answer, with fvd_io_done.
    pub image: *mut fvd_image,
    /// Names the operation in the answer.
    pub token: u64,
    /// What fvd_host_ops.open gave.
    pub file: *mut c_void,
    /// One of FVD_IO_*.
    pub kind: c_int,
    /// Entries of `iov`.
    pub iovcnt: c_int,
    /// Byte offset in the file.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// The memory, of a read or a write.
    pub iov: *const iovec,
}

/// What the embedder lends the library: its block layer and its event loop. `host` is whatever the
/// embedder gave with the table. All functions are called on the image's home thread.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct fvd_host_ops {
    /// Bytes of this struct, as the embedder knows it; a later library reads no further.
    pub struct_size: usize,
    /// Opens a file: fills in `file` and returns 0, or returns -errno. Required.
    pub open: Option<
        unsafe extern "C" fn(
            host: *mut c_void,
            request: *const fvd_file_request,
            file: *mut fvd_file,
        ) -> c_int,
    >,
    /// Closes a file on which nothing is under way, and gives up its lock. Required.
    pub close: Option<unsafe extern "C" fn(host: *mut c_void, file: *mut c_void)>,
    /// Starts an operation. Below 0: it did not start, and this -errno is its answer. Else the
    /// host answers once with fvd_io_done, at once or later, in any order. Required.
    pub submit: Option<unsafe extern "C" fn(host: *mut c_void, io: *const fvd_io) -> c_int>,
    /// Runs the embedder's loop once: waits at most `timeout_ns` (below 0: for ever) for something
    /// to happen. 1: go on; 0: nothing is under way that could happen; -errno: as 0.
    /// NULL: opening, closing and synchronous calls work only on a host that answers inside
    /// submit; else they fail with -EBUSY.
    pub poll: Option<unsafe extern "C" fn(host: *mut c_void, timeout_ns: i64) -> c_int>,
    /// Calls `call(arg)` once, soon, from the embedder's loop, not from inside this call.
    /// NULL: the callback of a request that ends without any I/O, or on the spot, waits for the
    /// next fvd_io_done or fvd_poll.
    pub defer: Option<
        unsafe extern "C" fn(
            host: *mut c_void,
            call: Option<unsafe extern "C" fn(arg: *mut c_void)>,
            arg: *mut c_void,
        ),
    >,
    /// Takes note of a message. NULL: it goes to the standard error output.
    pub log:
        Option<unsafe extern "C" fn(host: *mut c_void, severity: c_int, message: *const c_char)>,
}

impl fvd_host_ops {
    /// A copy of the table at `ops`, as far as the embedder has filled it in.
    ///
    /// # Safety
    /// `ops` is NULL, or points to a table of the size that it says.
    unsafe fn from_c(ops: *const Self) -> Result<Self> {
        let invalid = |what: &str| Error::new(ErrorKind::Invalid, what.to_owned());
        if ops.is_null() {
            return Err(invalid("ops is NULL"));
        }
        // SAFETY: the caller's promise; every table begins with its size.
        let size = unsafe { ops.cast::<usize>().read() };
        let mut table = Self {
            struct_size: size,
            open: None,
            close: None,
            submit: None,
            poll: None,
            defer: None,
            log: None,
        };
        let known = size.min(size_of::<Self>());
        let (from, to) = (ops.cast::<u8>(), (&raw mut table).cast::<u8>());
        // SAFETY: `known` bytes are in both tables, and any bytes of C's table are pointers or
        // NULL.
        unsafe { std::ptr::copy_nonoverlapping(from, to, known) };
        if table.open.is_none() || table.close.is_none() || table.submit.is_none() {
            return Err(invalid(
                "ops has no open, close or submit; is struct_size set?",
            ));
        }
        Ok(table)
    }
}

/// The lent table as a [`Host`].
pub(super) struct CHost {
    ops: fvd_host_ops,
    host: *mut c_void,
    image: Cell<*mut fvd_image>,
    files: RefCell<Vec<*mut c_void>>,
    /// Operations that the host has taken and not answered.
    under_way: Cell<usize>,
    /// Answers that the engine has not taken.
    answers: RefCell<VecDeque<(Token, i64)>>,
}

impl CHost {
    /// # Safety
    /// `ops` is NULL, or points to a table of the size that it says, whose functions may be called
    /// with `host` as long as this lives.
    pub(super) unsafe fn new(ops: *const fvd_host_ops, host: *mut c_void) -> Result<Self> {
        // SAFETY: the caller's promise.
        let ops = unsafe { fvd_host_ops::from_c(ops) }?;
        let (files, answers) = (RefCell::default(), RefCell::default());
        Ok(Self {
            ops,
            host,
            image: Cell::new(std::ptr::null_mut()),
            under_way: Cell::default(),
            files,
            answers,
        })
    }

    /// Says whom operations are to be answered to.
    pub(super) fn serves(&self, image: *mut fvd_image) {
        self.image.set(image);
    }

    /// Keeps an answer until the engine takes it.
    pub(super) fn answered(&self, token: u64, returned: i64) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        self.answers
            .borrow_mut()
            .push_back((Token(token), returned));
    }

    /// True if an answer waits.
    pub(super) fn has_answers(&self) -> bool {
        !self.answers.borrow().is_empty()
    }

    /// True if the host has not answered everything.
    pub(super) fn owes_answers(&self) -> bool {
        self.under_way.get() > 0
    }

    /// True if a call can be deferred.
    pub(super) fn can_defer(&self) -> bool {
        self.ops.defer.is_some()
    }

    /// True if the loop can be run.
    pub(super) fn can_poll(&self) -> bool {
        self.ops.poll.is_some()
    }

    /// Asks for `call(arg)` soon. False: this host cannot.
    pub(super) fn defer(&self, call: unsafe extern "C" fn(*mut c_void), arg: *mut c_void) -> bool {
        let Some(defer) = self.ops.defer else {
            return false;
        };
        // SAFETY: the embedder's function, called with its own argument, as `new` was promised.
        unsafe { defer(self.host, Some(call), arg) };
        true
    }

    fn file(&self, id: FileId) -> *mut c_void {
        self.files.borrow()[id.0 as usize]
    }

    /// Hands the answers over that wait; false if there is none.
    fn hand_over(&self, done: &mut dyn FnMut(Token, i64)) -> bool {
        let mut any = false;
        loop {
            let Some((token, returned)) = self.answers.borrow_mut().pop_front() else {
                return any;
            };
            done(token, returned);
            any = true;
        }
    }
}

// SAFETY: the embedder promises it, by lending the table: memory is touched only until fvd_io_done,
// and poll returns 0 only where nothing is under way.
unsafe impl Host for CHost {
    fn open(&self, request: &OpenRequest) -> std::result::Result<OpenedFile, HostError> {
        let name = text(&request.name);
        let beneath = request.beneath.as_deref().map(text);
        let asked = fvd_file_request {
            struct_size: size_of::<fvd_file_request>(),
            role: match request.role {
                Role::Metadata => FVD_ROLE_METADATA,
                Role::Data => FVD_ROLE_DATA,
                Role::Base => FVD_ROLE_BASE,
            },
            access: match request.access {
                Access::ReadOnly => FVD_ACCESS_READ_ONLY,
                Access::ReadWrite => FVD_ACCESS_READ_WRITE,
                Access::Create => FVD_ACCESS_CREATE,
                Access::ReadUnlocked => FVD_ACCESS_UNLOCKED,
            },
            name: name.as_ptr(),
            beneath: beneath
                .as_ref()
                .map_or(std::ptr::null(), |folder| folder.as_ptr()),
        };
        let mut opened = fvd_file {
            struct_size: size_of::<fvd_file>(),
            file: std::ptr::null_mut(),
            length: 0,
            is_device: false,
        };
        let open = self.ops.open.expect("checked by from_c");
        // SAFETY: the embedder's function, with pointers that are valid during the call.
        let returned = unsafe { open(self.host, &raw const asked, &raw mut opened) };
        if returned < 0 {
            let errno = returned.checked_neg().unwrap_or(libc::EIO);
            let reason = std::io::Error::from_raw_os_error(errno);
            let message = format!("opening '{}' failed: {reason}", request.name);
            return Err(HostError { errno, message });
        }
        let mut files = self.files.borrow_mut();
        let id = FileId(u32::try_from(files.len()).expect("an image has few files"));
        files.push(opened.file);
        Ok(OpenedFile {
            id,
            length: opened.length,
            is_device: opened.is_device,
        })
    }

    fn close(&self, file: FileId) {
        let close = self.ops.close.expect("checked by from_c");
        // SAFETY: the embedder's function, with the file that it opened.
        unsafe { close(self.host, self.file(file)) };
    }

    fn submit(&self, operation: Operation) {
        let Operation { token, file, kind } = operation;
        let (kind, offset, len, iov) = match kind {
            OpKind::Read { offset, iov } => (FVD_IO_READ, offset, iov.len(), Some(iov)),
            OpKind::Write { offset, iov } => (FVD_IO_WRITE, offset, iov.len(), Some(iov)),
            OpKind::Flush => (FVD_IO_FLUSH, 0, 0, None),
            OpKind::WriteZeroes { offset, len } => (FVD_IO_WRITE_ZEROES, offset, len, None),
            OpKind::Truncate { len } => (FVD_IO_TRUNCATE, 0, len, None),
            OpKind::Grow { len } => (FVD_IO_GROW, 0, len, None),
        };
        let (iov, iovcnt) = iov.map_or((std::ptr::null(), 0), |iov| iov.as_raw());
        let io = fvd_io {
            struct_size: size_of::<fvd_io>(),
            image: self.image.get(),
            token: token.0,
            file: self.file(file),
            kind,
            iovcnt: c_int::try_from(iovcnt).unwrap_or(c_int::MAX),
            offset,
            len,
            iov,
        };
        self.under_way.set(self.under_way.get() + 1);
        let submit = self.ops.submit.expect("checked by from_c");
        // SAFETY: the embedder's function, with a struct that is valid during the call.
        let returned = unsafe { submit(self.host, &raw const io) };
        if returned < 0 {
            self.answered(token.0, i64::from(returned));
        }
    }

    fn poll(&self, timeout: Option<Duration>, done: &mut dyn FnMut(Token, i64)) -> bool {
        if self.hand_over(done) {
            return true;
        }
        let Some(poll) = self.ops.poll else {
            return false;
        };
        let forever = -1;
        let timeout = timeout.map_or(forever, |t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX));
        // SAFETY: the embedder's function.
        let alive = unsafe { poll(self.host, timeout) } > 0;
        self.hand_over(done) || alive
    }

    fn log(&self, severity: Severity, message: &str) {
        let Some(log) = self.ops.log else {
            eprintln!("fvd: {message}");
            return;
        };
        let severity = match severity {
            Severity::Warning => FVD_LOG_WARNING,
            Severity::Error => FVD_LOG_ERROR,
        };
        let message = text(message);
        // SAFETY: the embedder's function, with a text that is valid during the call.
        unsafe { log(self.host, severity, message.as_ptr()) };
    }
}
