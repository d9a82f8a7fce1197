//! A host on real files, for tools and tests: each operation is one blocking system call.
//!
//! `submit` carries the operation out before it returns, and queues the answer; `poll` hands the
//! queued answers over. So nothing is ever under way between two calls: what looks like many
//! requests in flight is a sequence here, in the order of submission. That is the whole point of
//! this host: it is easy to see that it is right, and the faster ones can be compared with it.
//!
//! `open` finds and locks files, `io` moves bytes and makes zeros.

mod io;
mod open;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use once_cell::unsync::OnceCell;

use open::LockedFile;

use super::{FileId, Host, HostError, OpKind, OpenRequest, OpenedFile, Operation, Severity, Token};

/// A file that is open, with what its operations need to know.
struct OpenFile {
    file: LockedFile,
    is_device: bool,
    /// The folder that a created file's name is in.
    folder: Option<Folder>,
}

/// A folder whose entries the first flush makes durable; where that fails, the next one tries
/// again.
struct Folder {
    file: File,
    synced: OnceCell<()>,
}

/// Where messages go.
enum Log {
    Stderr,
    Kept(RefCell<Vec<(Severity, String)>>),
}

/// Files, and answers that wait to be handed over. It belongs to one thread.
pub struct FileHost {
    files: RefCell<BTreeMap<FileId, OpenFile>>,
    next_id: Cell<u32>,
    answers: RefCell<VecDeque<(Token, i64)>>,
    log: Log,
}

impl Default for FileHost {
    fn default() -> Self {
        Self::new()
    }
}

impl FileHost {
    /// A host that prints messages to the standard error output.
    pub fn new() -> Self {
        Self::with_log(Log::Stderr)
    }

    /// A host that keeps messages for [`messages`](Self::messages).
    pub fn keeping_messages() -> Self {
        Self::with_log(Log::Kept(RefCell::default()))
    }

    fn with_log(log: Log) -> Self {
        Self {
            files: RefCell::default(),
            next_id: Cell::new(0),
            answers: RefCell::default(),
            log,
        }
    }

    /// The messages so far, oldest first; none where they are printed.
    pub fn messages(&self) -> Vec<(Severity, String)> {
        match &self.log {
            Log::Stderr => Vec::new(),
            Log::Kept(messages) => messages.borrow().clone(),
        }
    }

    /// Carries an operation out, and returns its answer.
    fn carry_out(&self, file: FileId, kind: OpKind) -> std::io::Result<u64> {
        let files = self.files.borrow();
        let Some(OpenFile {
            file,
            is_device,
            folder,
        }) = files.get(&file)
        else {
            return Err(std::io::Error::from_raw_os_error(libc::EBADF));
        };
        match kind {
            OpKind::Read { offset, iov } => io::read(file, offset, iov),
            OpKind::Write { offset, iov } => io::write(file, offset, iov),
            OpKind::Flush => flush(file, folder.as_ref()).map(|()| 0),
            OpKind::WriteZeroes { offset, len } => {
                io::write_zeroes(file, *is_device, offset, len).map(|()| 0)
            }
            OpKind::Truncate { len } => file.set_len(len).map(|()| 0),
            OpKind::Grow { .. } => Err(std::io::Error::from_raw_os_error(libc::ENOTSUP)),
        }
    }
}

/// Makes the content durable, and the name too where the file is new.
fn flush(file: &File, folder: Option<&Folder>) -> std::io::Result<()> {
    file.sync_data()?;
    if let Some(Folder { file, synced }) = folder {
        synced.get_or_try_init(|| file.sync_all())?;
    }
    Ok(())
}

// SAFETY: each operation is over before `submit` returns.
unsafe impl Host for FileHost {
    fn open(&self, request: &OpenRequest) -> Result<OpenedFile, HostError> {
        let opened = open::open(request, &|message| self.log(Severity::Warning, message))?;
        let id = FileId(self.next_id.get());
        self.next_id.set(id.0 + 1);
        let (length, is_device) = (opened.length, opened.is_device);
        let file = OpenFile {
            file: opened.file,
            is_device,
            folder: opened.folder.map(|file| Folder {
                file,
                synced: OnceCell::new(),
            }),
        };
        self.files.borrow_mut().insert(id, file);
        Ok(OpenedFile {
            id,
            length,
            is_device,
        })
    }

    fn close(&self, file: FileId) {
        self.files.borrow_mut().remove(&file);
    }

    fn submit(&self, operation: Operation) {
        let returned = match self.carry_out(operation.file, operation.kind) {
            // Lengths and counts of files fit: the kernel's own are signed 64-bit numbers.
            Ok(value) => i64::try_from(value).unwrap_or(i64::MAX),
            Err(error) => -i64::from(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        self.answers
            .borrow_mut()
            .push_back((operation.token, returned));
    }

    fn poll(&self, _timeout: Option<Duration>, done: &mut dyn FnMut(Token, i64)) -> bool {
        // Only what is queued now: answers to what `done` submits wait for the next call.
        let answers = std::mem::take(&mut *self.answers.borrow_mut());
        let any = !answers.is_empty();
        for (token, returned) in answers {
            done(token, returned);
        }
        any
    }

    fn log(&self, severity: Severity, message: &str) {
        match &self.log {
            Log::Kept(messages) => messages.borrow_mut().push((severity, message.to_owned())),
            Log::Stderr => {
                let word = match severity {
                    Severity::Warning => "warning",
                    Severity::Error => "error",
                };
                // Where nobody can be told, nothing is left to do about it.
                let _ = writeln!(std::io::stderr(), "fvd: {word}: {message}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
