//! Buffers of the engine's own, or the error that there is no memory for them.

use crate::format::units::index;
use crate::host::Buffer;

use super::error::{Error, ErrorKind, Result};

/// `len` bytes of zeros.
pub(crate) fn allocate(len: u64) -> Result<Buffer> {
    let no_memory = || Error::new(ErrorKind::NoMemory, format!("no memory for {len} bytes"));
    Buffer::zeroed(index(len)).ok_or_else(no_memory)
}

/// A buffer with these bytes.
pub(crate) fn copy_of(bytes: &[u8]) -> Result<Buffer> {
    let mut buffer = allocate(bytes.len() as u64)?;
    buffer.bytes_mut().copy_from_slice(bytes);
    Ok(buffer)
}

/// Cuts `range` into parts of at most `len`.
pub(crate) fn steps(
    range: std::ops::Range<u64>,
    len: u64,
) -> impl Iterator<Item = std::ops::Range<u64>> + Clone {
    let end = range.end;
    range
        .step_by(index(len))
        .map(move |at| at..end.min(at + len))
}
