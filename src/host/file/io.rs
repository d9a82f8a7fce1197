//! Moving bytes: whole scatter lists, and zeros, in as few system calls as the kernel allows.
//!
//! The kernel may transfer less than it was asked for, and takes 1024 pieces at a time; a signal
//! may interrupt it. [`transfer`] goes on until everything is done or the file ends, so that a
//! short count means the end of the file and nothing else.

use std::ffi::c_int;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use libc::{iovec, off_t};

use crate::host::{IoVecs, Memory};

/// Pieces that one system call takes (the kernel's `UIO_MAXIOV`).
const MOST_PIECES: usize = 1024;

/// `_IO(0x12, 127)` of `linux/fs.h`: makes a range of a device read zeros.
const BLKZEROOUT: libc::Ioctl = libc::_IO(0x12, 127);

/// Zeros to write where the kernel cannot make any.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// `preadv` or `pwritev`.
type Vectored = unsafe extern "C" fn(c_int, *const iovec, c_int, off_t) -> isize;

/// Reads into `iov`; a count below its length means that the file ends there.
pub(super) fn read(file: &File, offset: u64, iov: IoVecs) -> Result<u64> {
    transfer(libc::preadv, file, offset, iov)
}

/// Writes all of `iov`.
pub(super) fn write(file: &File, offset: u64, iov: IoVecs) -> Result<u64> {
    let written = transfer(libc::pwritev, file, offset, iov)?;
    // A device takes no more at its end.
    if written < iov.len() {
        Err(Error::from_raw_os_error(libc::ENOSPC))
    } else {
        Ok(written)
    }
}

fn transfer(call: Vectored, file: &File, offset: u64, iov: IoVecs) -> Result<u64> {
    let (total, all) = (iov.len(), Memory::Guest(iov));
    let mut done = 0;
    while done < total {
        let rest = all.part(done, total - done);
        match transfer_once(call, file, offset + done, rest.iovecs()) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

fn transfer_once(call: Vectored, file: &File, offset: u64, iov: IoVecs) -> Result<u64> {
    let at = place(offset)?;
    let (list, count) = iov.as_raw();
    let count = c_int::try_from(count.min(MOST_PIECES)).unwrap_or(c_int::MAX);
    // SAFETY: whoever made the list (`IoVecs::from_raw`) promised that it and its memory are valid
    // until the operation is reported done, which is after this call; no more than `count` pieces
    // are used.
    let n = unsafe { call(file.as_raw_fd(), list, count, at) };
    u64::try_from(n).map_err(|_| Error::last_os_error())
}

fn place(offset: u64) -> Result<off_t> {
    off_t::try_from(offset).map_err(|_| Error::from_raw_os_error(libc::EFBIG))
}

/// A range that is to read zeros.
struct Range<'a> {
    file: &'a File,
    is_device: bool,
    offset: u64,
    len: u64,
}

/// Makes a range read zeros, and the file at least long enough to hold it.
///
/// The ways are tried from the best (space stays reserved, nothing is written) to the one that
/// always works.
pub(super) fn write_zeroes(file: &File, is_device: bool, offset: u64, len: u64) -> Result<()> {
    let range = Range {
        file,
        is_device,
        offset,
        len,
    };
    if len == 0 {
        return Ok(());
    }
    for way in [zero_range, punch_hole, zero_out] {
        match way(&range) {
            Err(error) if cannot(&error) => {}
            done => return done,
        }
    }
    write_out(&range)
}

/// True for errors that mean "not in this way", not "not at all".
fn cannot(error: &Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::ENOTTY | libc::EPERM)
    )
}

fn zero_range(range: &Range<'_>) -> Result<()> {
    let keep_size = if range.is_device {
        libc::FALLOC_FL_KEEP_SIZE
    } else {
        0
    };
    fallocate(range, libc::FALLOC_FL_ZERO_RANGE | keep_size)
}

fn punch_hole(range: &Range<'_>) -> Result<()> {
    fallocate(
        range,
        libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE,
    )?;
    let end = range.offset + range.len;
    if !range.is_device && range.file.metadata()?.len() < end {
        range.file.set_len(end)?;
    }
    Ok(())
}

fn fallocate(range: &Range<'_>, mode: c_int) -> Result<()> {
    let (at, len) = (place(range.offset)?, place(range.len)?);
    loop {
        // SAFETY: no memory is involved; the descriptor is open as long as `range.file` is.
        let returned = unsafe { libc::fallocate(range.file.as_raw_fd(), mode, at, len) };
        if returned == 0 {
            return Ok(());
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

fn zero_out(range: &Range<'_>) -> Result<()> {
    if !range.is_device {
        return Err(Error::from_raw_os_error(libc::ENOTTY));
    }
    let range_bytes: [u64; 2] = [range.offset, range.len];
    // SAFETY: BLKZEROOUT reads two u64 behind the pointer, and they live until it returns.
    let returned =
        unsafe { libc::ioctl(range.file.as_raw_fd(), BLKZEROOUT, &raw const range_bytes) };
    if returned == 0 {
        Ok(())
    } else {
        Err(Error::last_os_error())
    }
}

fn write_out(range: &Range<'_>) -> Result<()> {
    let mut done = 0;
    while done < range.len {
        let n = usize::try_from(range.len - done)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        range.file.write_all_at(&ZEROS[..n], range.offset + done)?;
        done += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::process::Command;

    use super::*;

    /// A way to make zeros.
    type Way = fn(&Range<'_>) -> Result<()>;

    /// Runs each way over a pattern, and says which of them the storage could not do.
    fn try_ways(file: &mut File, is_device: bool) -> Vec<&'static str> {
        let ways: [(&str, Way); 4] = [
            ("zero_range", zero_range),
            ("punch_hole", punch_hole),
            ("zero_out", zero_out),
            ("write_out", write_out),
        ];
        let mut unable = Vec::new();
        for (name, way) in ways {
            file.write_all_at(&[0xee; 3 << 20], 0).unwrap();
            match way(&Range {
                file,
                is_device,
                offset: 4096,
                len: 2 << 20,
            }) {
                Ok(()) => assert_zeros(file, name),
                Err(error) if cannot(&error) => unable.push(name),
                Err(error) => panic!("{name}: {error}"),
            }
        }
        unable
    }

    fn assert_zeros(file: &mut File, name: &str) {
        let mut bytes = vec![0; 3 << 20];
        file.rewind().unwrap();
        file.read_exact(&mut bytes).unwrap();
        let end = 4096 + (2 << 20);
        assert!(
            bytes[..4096].iter().all(|b| *b == 0xee),
            "{name} zeroed before its range"
        );
        assert!(
            bytes[4096..end].iter().all(|b| *b == 0),
            "{name} left content in its range"
        );
        assert!(
            bytes[end..].iter().all(|b| *b == 0xee),
            "{name} zeroed after its range"
        );
    }

    #[test]
    fn every_way_to_make_zeros_zeroes_its_range_of_a_file_and_nothing_else() {
        let mut file = tempfile::tempfile().unwrap();
        let unable = try_ways(&mut file, false);
        assert!(unable.contains(&"zero_out"), "a file is no device");
        assert!(!unable.contains(&"write_out"), "this way always works");
    }

    #[test]
    fn zeros_past_the_end_make_the_file_longer() {
        let file = tempfile::tempfile().unwrap();
        write_zeroes(&file, false, 8192, 512).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 8704);
        let range = Range {
            file: &file,
            is_device: false,
            offset: 1 << 20,
            len: 4096,
        };
        if punch_hole(&range).is_ok() {
            assert_eq!(file.metadata().unwrap().len(), (1 << 20) + 4096);
        }
        write_zeroes(&file, false, 0, 512).unwrap();
        assert!(
            file.metadata().unwrap().len() >= 8704,
            "zeros inside never cut"
        );
    }

    #[test]
    fn every_way_to_make_zeros_zeroes_its_range_of_a_device_and_nothing_else() {
        let backing = tempfile::NamedTempFile::new().unwrap();
        backing.as_file().set_len(4 << 20).unwrap();
        let made = Command::new("losetup")
            .args(["-f", "--show"])
            .arg(backing.path())
            .output();
        let Some(made) = made.ok().filter(|made| made.status.success()) else {
            // Written past the test harness, which would keep it to itself.
            let _ = writeln!(
                std::io::stderr(),
                "SKIPPED: NO LOOP DEVICE CAN BE MADE HERE (IT TAKES ROOT): NO DEVICE WAS ZEROED"
            );
            return;
        };
        let device = String::from_utf8(made.stdout).unwrap().trim().to_owned();
        let opened = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&device);
        let unable = opened.map(|mut file| try_ways(&mut file, true));
        Command::new("losetup")
            .args(["-d", &device])
            .status()
            .unwrap();
        assert!(
            !unable.unwrap().contains(&"write_out"),
            "this way always works"
        );
    }
}
