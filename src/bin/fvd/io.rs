//! `fvd io`: reads, writes and flushes by hand, to try an image or to see what is in it.
//!
//! ```text
//! fvd io -c 'write -P 0xab 4k 64k' -c 'read -P 0xab 4k 64k' -c flush disk.fvd
//! ```
//!
//! The commands run one after the other and the first that fails ends the run; the image is then
//! closed as after any other use, so that what was written before stays.

mod command;

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::io::Write;

use fvd::host::IoVecs;
use fvd::{Callback, Image};

use crate::failure::Failure;
use crate::open::{For, OpenArgs};
use command::Command;

/// Bytes that one request reads or writes.
const STEP: u64 = 1 << 20;

/// Read, write and flush by hand
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to do, once or more: 'write [-P PATTERN] [-f] OFFSET LEN' (-f: durable before it is
    /// done), 'read [-P PATTERN] OFFSET LEN' (with -P, every byte must be PATTERN), 'flush',
    /// 'info'
    #[arg(short = 'c', value_name = "COMMAND", required = true)]
    commands: Vec<Command>,
    /// Open the image read-only; one that guests may not have opens too, as far as it can be read
    #[arg(short = 'r')]
    read_only: bool,
    #[command(flatten)]
    open: OpenArgs,
    /// The image
    file: String,
}

impl Args {
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let purpose = if self.read_only {
            For::Inspecting
        } else {
            For::Writing
        };
        let image = self.open.open(&self.file, purpose)?;
        let done = self
            .commands
            .iter()
            .try_for_each(|command| perform(command, &image, out));
        // Closed even where a command failed; the first failure is the one to tell.
        let closed = image.close();
        done.and_then(|()| Ok(closed?))
    }
}

fn perform(command: &Command, image: &Image, out: &mut dyn Write) -> Result<(), Failure> {
    match *command {
        Command::Write {
            pattern,
            fua,
            offset,
            len,
        } => {
            let bytes = vec![pattern; step_len(len)];
            for (at, n) in steps(offset, len) {
                if fua {
                    write_durably(image, at, &bytes[..n])?;
                } else {
                    image.write_at(at, &bytes[..n])?;
                }
            }
            writeln!(out, "wrote {len} bytes at {offset}")?;
        }
        Command::Read {
            pattern,
            offset,
            len,
        } => {
            let mut bytes = vec![0; step_len(len)];
            for (at, n) in steps(offset, len) {
                image.read_at(at, &mut bytes[..n])?;
                verify(&bytes[..n], at, pattern)?;
            }
            writeln!(out, "read {len} bytes at {offset}")?;
        }
        Command::Flush => {
            image.flush()?;
            writeln!(out, "flushed")?;
        }
        Command::Info => crate::info::print(&image.info(), out)?,
    }
    Ok(())
}

fn verify(bytes: &[u8], at: u64, pattern: Option<u8>) -> Result<(), Failure> {
    let Some(expected) = pattern else {
        return Ok(());
    };
    match bytes.iter().position(|byte| *byte != expected) {
        None => Ok(()),
        Some(index) => {
            let (place, found) = (at + index as u64, bytes[index]);
            let message = format!("read: byte {place} is {found:#04x}, not {expected:#04x}");
            Err(Failure::Failed(message))
        }
    }
}

/// The pieces in which `len` bytes at `offset` are moved.
fn steps(offset: u64, len: u64) -> impl Iterator<Item = (u64, usize)> {
    let count = len.div_ceil(STEP).max(1);
    (0..count).map(move |index| {
        let done = index * STEP;
        (offset + done, step_len(len - done))
    })
}

fn step_len(len: u64) -> usize {
    usize::try_from(len.min(STEP)).expect("a step fits into memory")
}

/// Writes with FUA, through the library's asynchronous face: the one thing that its synchronous
/// forms do not offer.
fn write_durably(image: &Image, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
    let iovec = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let ended = Cell::new(None);
    let callback = Callback {
        func: note,
        opaque: (&raw const ended).cast_mut().cast(),
    };
    // SAFETY: `iovec` and `bytes` stay where they are until the request has called back, which
    // `drain` waits for; a write only reads them.
    let iov = unsafe { IoVecs::from_raw(&raw const iovec, 1) };
    // SAFETY: as above, and `ended` stays too.
    unsafe { image.submit_write(offset, iov, true, callback) }?;
    image.drain();
    match ended.get() {
        Some(0) => Ok(()),
        Some(errno) => {
            let error = std::io::Error::from_raw_os_error(-errno);
            Err(Failure::Failed(format!(
                "a durable write at {offset} failed: {error}"
            )))
        }
        None => panic!("a request was drained without calling back"),
    }
}

/// Takes note of how a request ended.
///
/// # Safety
/// `ended` is the `Cell<Option<c_int>>` that belongs to the request.
unsafe extern "C" fn note(ended: *mut c_void, result: c_int) {
    // SAFETY: that is what it points to, and it lives: the caller's promise.
    let ended = unsafe { &*ended.cast::<Cell<Option<c_int>>>() };
    ended.set(Some(result));
}
