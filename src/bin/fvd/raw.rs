//! A raw file or device, as conversion reads and writes it.
//!
//! The library's host opens it, which locks it (so that nobody converts an image onto itself, or
//! onto a disk in use), tells a device from a file, and makes it durable; a plain descriptor
//! beside it moves the bytes and finds the holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use fvd::host::{Access, FileId, Host, OpKind, OpenRequest, Operation, Role, Token};

use crate::failure::Failure;
use crate::open::host;

/// An open raw file. It is unlocked when it is dropped.
pub(crate) struct RawFile {
    name: String,
    file: File,
    length: u64,
    is_device: bool,
    host: Rc<dyn Host>,
    id: FileId,
}

impl RawFile {
    /// Opens a file for reading.
    pub(crate) fn open(name: &str) -> Result<Self, Failure> {
        Self::with_access(name, Access::ReadOnly)
    }

    /// Makes a file, or empties it; `len` bytes of a device are zeroed instead.
    pub(crate) fn create(name: &str, len: u64) -> Result<Self, Failure> {
        let file = Self::with_access(name, Access::Create)?;
        if file.is_device {
            if file.length < len {
                let has = file.length;
                let message = format!("'{name}' has {has} bytes, but the disk has {len}");
                return Err(Failure::Failed(message));
            }
            file.operate(OpKind::WriteZeroes { offset: 0, len })?;
        }
        Ok(file)
    }

    fn with_access(name: &str, access: Access) -> Result<Self, Failure> {
        let host = host();
        let request = OpenRequest {
            role: Role::Metadata,
            name: name.to_owned(),
            beneath: None,
            access,
        };
        let opened = host.open(&request)?;
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::Create)
            .open(name);
        let file = file.map_err(|error| Failure::of_file(name, &error))?;
        let (length, is_device) = (opened.length, opened.is_device);
        Ok(Self {
            name: name.to_owned(),
            file,
            length,
            is_device,
            host,
            id: opened.id,
        })
    }

    /// Its length in bytes when it was opened.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Reads; what lies past the end is zero.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Failure> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::of_file(&self.name, &error)),
            }
        }
        bytes[done..].fill(0);
        Ok(())
    }

    /// Writes.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all_at(bytes, offset);
        written.map_err(|error| Failure::of_file(&self.name, &error))
    }

    /// The first run of bytes at or behind `from` that is no hole.
    pub(crate) fn next_data(&self, from: u64) -> Result<Option<Range<u64>>, Failure> {
        if from >= self.length {
            return Ok(None);
        }
        let Some(start) = self.seek(from, libc::SEEK_DATA)? else {
            return Ok(None);
        };
        let end = self.seek(start, libc::SEEK_HOLE)?.unwrap_or(self.length);
        Ok(Some(start..end))
    }

    /// `None`: there is nothing of that kind before the end.
    fn seek(&self, from: u64, whence: libc::c_int) -> Result<Option<u64>, Failure> {
        let Ok(at) = libc::off_t::try_from(from) else {
            return Ok(None);
        };
        // SAFETY: no memory is involved, and the descriptor is open. Nobody uses its position.
        let found = unsafe { libc::lseek(self.file.as_raw_fd(), at, whence) };
        if let Ok(found) = u64::try_from(found) {
            return Ok(Some(found));
        }
        let error = io::Error::last_os_error();
        match (error.raw_os_error(), whence) {
            (Some(libc::ENXIO), _) => Ok(None),
            // A device has no holes, as far as anybody can tell.
            (Some(libc::EINVAL), libc::SEEK_DATA) => Ok(Some(from)),
            (Some(libc::EINVAL), _) => Ok(None),
            _ => Err(Failure::of_file(&self.name, &error)),
        }
    }

    /// Gives a file its final length, and makes it durable.
    pub(crate) fn finish(&self, len: u64) -> Result<(), Failure> {
        if !self.is_device {
            self.operate(OpKind::Truncate { len })?;
        }
        self.operate(OpKind::Flush)
    }

    fn operate(&self, kind: OpKind) -> Result<(), Failure> {
        self.host.submit(Operation {
            token: Token(0),
            file: self.id,
            kind,
        });
        let mut returned = -i64::from(libc::EIO);
        self.host.poll(None, &mut |_, answer| returned = answer);
        let errno = i32::try_from(-returned).unwrap_or(libc::EIO);
        if returned < 0 {
            return Err(Failure::of_file(
                &self.name,
                &io::Error::from_raw_os_error(errno),
            ));
        }
        Ok(())
    }
}

impl Drop for RawFile {
    fn drop(&mut self) {
        self.host.close(self.id);
    }
}
