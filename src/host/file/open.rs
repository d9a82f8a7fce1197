//! Finding a file, and taking it for oneself.
//!
//! A name that comes out of an image is a stranger's word. With `beneath` the kernel itself
//! resolves it, so that no `..` and no symbolic link, not even one put there a moment ago, leads
//! out of the folder. What opens must be a regular file or a block device: a pipe would wait for
//! ever, and other devices do things when somebody opens them.
//!
//! Locks are of the open file description (`F_OFD_SETLK`): they last until this very descriptor is
//! closed, whatever else the process opens and closes. A writer's lock is exclusive, a reader's
//! shared. A created file is emptied only after its lock was taken, so that creating over an image
//! in use is refused and harms nothing.

use std::ffi::{CString, c_int, c_short};
use std::fs::{File, OpenOptions};
use std::io::{Error, Result, Seek, SeekFrom};
use std::ops::Deref;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use crate::host::{Access, HostError, OpenRequest, Role};

/// A file, and the lock on it that goes away with it.
pub(super) struct LockedFile(File);

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for LockedFile {
    /// Closing the descriptor alone is not enough: a child that was forked a moment ago holds a
    /// copy of it, and with it the lock, until it executes its program.
    fn drop(&mut self) {
        // Without a lock this does nothing, and nothing can be done where it fails.
        let _ = set_lock(&self.0, libc::F_UNLCK);
    }
}

/// A file that was found and locked.
pub(super) struct Opened {
    pub(super) file: LockedFile,
    pub(super) length: u64,
    pub(super) is_device: bool,
    /// The folder of a created file, whose entry is not durable yet.
    pub(super) folder: Option<File>,
}

/// Mode of created files; the umask takes from it.
const MODE: u32 = 0o666;

/// Opens, checks and locks the file; `warn` hears what is less than it should be.
pub(super) fn open(
    request: &OpenRequest,
    warn: &dyn Fn(&str),
) -> std::result::Result<Opened, HostError> {
    let creating = request.access == Access::Create;
    let failed = |error: Error| refusal(request, &error);
    let folder = if creating {
        Some(folder_of(&request.name).map_err(failed)?)
    } else {
        None
    };
    let file = LockedFile(match &request.beneath {
        None => open_anywhere(request).map_err(failed)?,
        Some(folder) => open_beneath(request, folder)?,
    });
    let kind = file.metadata().map_err(failed)?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        let what = format!(
            "'{}' is neither a regular file nor a block device",
            request.name
        );
        return Err(HostError {
            errno: libc::EINVAL,
            message: what,
        });
    }
    lock(&file, request, warn)?;
    if creating && kind.is_file() {
        file.set_len(0).map_err(failed)?;
    }
    let length = (&*file).seek(SeekFrom::End(0)).map_err(failed)?;
    Ok(Opened {
        file,
        length,
        is_device: kind.is_block_device(),
        folder,
    })
}

fn writes(access: Access) -> bool {
    matches!(access, Access::ReadWrite | Access::Create)
}

fn open_anywhere(request: &OpenRequest) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(writes(request.access))
        .create(request.access == Access::Create)
        .truncate(false)
        .mode(MODE)
        // A pipe must not make us wait before we have seen that it is one.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&request.name)
}

/// The folder that holds `name`, to make its entry durable.
fn folder_of(name: &str) -> Result<File> {
    let folder = Path::new(name)
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))
}

fn open_beneath(request: &OpenRequest, folder: &str) -> std::result::Result<File, HostError> {
    let folder = if folder.is_empty() { "." } else { folder };
    let at = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH | libc::O_DIRECTORY)
        .open(folder)
        .map_err(|error| refusal(request, &error))?;
    let inside = inside(&request.name, folder).ok_or_else(|| leaves(request, folder))?;
    openat2(&at, &inside, request.access).map_err(|error| match error.raw_os_error() {
        Some(libc::EXDEV | libc::ELOOP) => leaves(request, folder),
        Some(libc::ENOSYS) => HostError {
            errno: libc::ENOSYS,
            message: format!(
                "cannot keep '{}' inside the folder '{folder}': this kernel has no openat2 \
                 (Linux 5.6 has it)",
                request.name
            ),
        },
        _ => refusal(request, &error),
    })
}

/// `name` as seen from `folder`; `None` where it does not begin with it.
fn inside(name: &str, folder: &str) -> Option<PathBuf> {
    let plain = |path: &str| -> PathBuf {
        Path::new(path)
            .components()
            .filter(|c| *c != Component::CurDir)
            .collect()
    };
    plain(name)
        .strip_prefix(plain(folder))
        .ok()
        .map(Path::to_path_buf)
}

fn openat2(folder: &File, name: &Path, access: Access) -> Result<File> {
    let name = CString::new(name.as_os_str().as_bytes())?;
    let mut flags = libc::O_CLOEXEC | libc::O_NONBLOCK | libc::O_NOCTTY;
    flags |= if writes(access) {
        libc::O_RDWR
    } else {
        libc::O_RDONLY
    };
    let creating = access == Access::Create;
    if creating {
        flags |= libc::O_CREAT;
    }
    // SAFETY: `open_how` is plain numbers, for which all zeros is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from(flags.cast_unsigned());
    how.mode = if creating { u64::from(MODE) } else { 0 };
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let size = size_of::<libc::open_how>();
    let (at, path, how) = (folder.as_raw_fd(), name.as_ptr(), &raw const how);
    // SAFETY: the descriptor is open, `path` ends with NUL, `how` holds `size` bytes; all outlive
    // the call.
    let fd = unsafe { libc::syscall(libc::SYS_openat2, at, path, how, size) };
    let fd = RawFd::try_from(fd)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows of it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

fn lock(
    file: &File,
    request: &OpenRequest,
    warn: &dyn Fn(&str),
) -> std::result::Result<(), HostError> {
    if request.access == Access::ReadUnlocked {
        return Ok(());
    }
    let kind = if writes(request.access) {
        libc::F_WRLCK
    } else {
        libc::F_RDLCK
    };
    let Err(error) = set_lock(file, kind) else {
        return Ok(());
    };
    let name = &request.name;
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Err(HostError {
            errno: libc::EBUSY,
            message: busy(name),
        }),
        Some(libc::ENOLCK | libc::EOPNOTSUPP | libc::EINVAL) => {
            let text = words(&error);
            warn(&format!(
                "'{name}' cannot be locked ({text}): see that nobody else writes to it"
            ));
            Ok(())
        }
        _ => Err(refusal(request, &error)),
    }
}

fn set_lock(file: &File, kind: c_int) -> Result<()> {
    // SAFETY: `flock` is plain numbers, for which all zeros is a valid value: here the whole file.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = c_short::try_from(kind).expect("a lock's kind is a small number");
    // SAFETY: the descriptor is open, and `lock` lives until the call returns.
    let returned = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if returned == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

fn busy(name: &str) -> String {
    format!(
        "'{name}' is in use: somebody has it open (`fuser -v {name}` names the process); wait \
         until it is closed, or look at it with `fvd info -U`"
    )
}

fn leaves(request: &OpenRequest, folder: &str) -> HostError {
    let message = format!(
        "'{}' leaves the folder '{folder}', by '..' or by a symbolic link, which `follow=same-dir` \
         does not allow; if you trust the image, open it with `follow=any`",
        request.name
    );
    HostError {
        errno: libc::EPERM,
        message,
    }
}

fn refusal(request: &OpenRequest, error: &Error) -> HostError {
    let verb = if request.access == Access::Create {
        "create"
    } else {
        "open"
    };
    let role = match request.role {
        Role::Metadata => "",
        Role::Data => "data file ",
        Role::Base => "base image ",
    };
    let message = format!("cannot {verb} {role}'{}': {}", request.name, words(error));
    HostError {
        errno: error.raw_os_error().unwrap_or(libc::EINVAL),
        message,
    }
}

/// The system's words, without the number that the message's reader has no use for.
fn words(error: &Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
