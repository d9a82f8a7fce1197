//! What must hold of an image beside its content.

use std::rc::Rc;

use fvd::Image;
use fvd::format::header::Header;
use fvd::host::sim::SimHost;

use super::world::IMAGE;

/// Of a clean close: the header says so, where there is a journal.
pub(crate) fn closed(host: &SimHost) -> Result<(), String> {
    let header = host.look(IMAGE, |file| Header::decode(file.bytes())).expect("the image exists");
    let header = header.map_err(|error| format!("after a close the header is bad: {error}"))?;
    match header.clean_shutdown || header.journal_size == 0 {
        true => Ok(()),
        false => Err("after a close clean_shutdown is not set".into()),
    }
}

/// Recovery reads and writes no more than the metadata asks for, a few times over.
pub(crate) fn recovery_was_bounded(image: &Image, bytes: u64) -> Result<(), String> {
    let allowed = 8 * image.info().geometry.metadata_size + (512 << 10);
    match bytes <= allowed {
        true => Ok(()),
        false => Err(format!("opening moved {bytes} bytes, where {allowed} are plenty")),
    }
}

/// Every chunk that no table entry names is free again: since the lowest free number is taken first, and an
/// entry has one number at most, no number reaches the count of entries.
pub(crate) fn space_is_free_again(image: &Image) -> Result<(), String> {
    let info = image.info();
    let Some(chunks) = info.geometry.chunks else { return Ok(()) };
    if info.pending_chunks > 0 {
        return Err(format!("{} chunks are pending after an open", info.pending_chunks));
    }
    let numbers = info.allocated_chunks + info.free_chunks;
    match numbers <= chunks.entries {
        true => Ok(()),
        false => Err(format!("{numbers} chunk numbers are in use for {} entries", chunks.entries)),
    }
}

/// The map covers the disk, piece by piece.
pub(crate) fn map(image: &Image, _first_write: u64) -> Result<(), String> {
    let size = image.virtual_size();
    let mut at = 0;
    for piece in image.map(0, size) {
        if piece.start != at || piece.len == 0 {
            return Err(format!("the map has {piece:?} where {at} comes next"));
        }
        at += piece.len;
    }
    if at == size { Ok(()) } else { Err(format!("the map ends at {at} of {size}")) }
}

/// After the last session nobody holds on to the host.
pub(crate) fn nothing_is_left(host: &Rc<SimHost>) -> Result<(), String> {
    match (host.in_flight(), host.open_files()) {
        (0, 0) => Ok(()),
        (operations, files) => {
            Err(format!("{operations} operations and {files} open files are left over"))
        }
    }
}
