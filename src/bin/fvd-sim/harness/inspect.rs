//! What must hold of an image beside its content.

use std::rc::Rc;

use fvd::format::header::Header;
use fvd::host::sim::{SECTOR, SimHost};
use fvd::{Image, MapState};

use super::world::IMAGE;

/// Of a clean close: where there is a journal, the header says so, and no record is left.
pub(crate) fn closed(host: &SimHost) -> Result<(), String> {
    let check = |bytes: &[u8]| {
        let header = Header::decode(bytes);
        let header = header.map_err(|error| format!("after a close the header is bad: {error}"))?;
        let [start, len] = [header.journal_offset, header.journal_size].map(index);
        if len == 0 {
            return Ok(());
        }
        if !header.clean_shutdown {
            return Err("after a close clean_shutdown is not set".into());
        }
        match bytes[start..start + len].iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err("after a close the journal holds something".into()),
        }
    };
    host.look(IMAGE, |file| check(file.bytes()))
        .expect("the image exists")
}

/// Recovery reads and writes no more than the metadata asks for, a few times over.
pub(crate) fn recovery_was_bounded(image: &Image, bytes: u64) -> Result<(), String> {
    let allowed = 8 * image.info().geometry.metadata_size + (512 << 10);
    match bytes <= allowed {
        true => Ok(()),
        false => Err(format!(
            "opening moved {bytes} bytes, where {allowed} are plenty"
        )),
    }
}

/// Every chunk that no table entry names is free again: since the lowest free number is taken
/// first, and an entry has one number at most, no number reaches the count of entries.
pub(crate) fn space_is_free_again(image: &Image) -> Result<(), String> {
    let info = image.info();
    let Some(chunks) = info.geometry.chunks else {
        return Ok(());
    };
    if info.pending_chunks > 0 {
        return Err(format!(
            "{} chunks are pending after an open",
            info.pending_chunks
        ));
    }
    let numbers = info.allocated_chunks + info.free_chunks;
    match numbers <= chunks.entries {
        true => Ok(()),
        false => Err(format!(
            "{numbers} chunk numbers are in use for {} entries",
            chunks.entries
        )),
    }
}

/// The map covers the disk, piece by piece, and agrees with what was read: what the guest wrote is
/// in this image, and what is nowhere is zero.
pub(crate) fn map(image: &Image, disk: &[u8], first_write: u64) -> Result<(), String> {
    let mut at = 0;
    for piece in image.map(0, disk.len() as u64) {
        if piece.start != at || piece.len == 0 {
            return Err(format!("the map has {piece:?} where {at} comes next"));
        }
        at += piece.len;
        let is_here = piece.depth == 0 && matches!(piece.state, MapState::Data { .. });
        let bytes = &disk[index(piece.start)..index(at)];
        if piece.state == MapState::Zero && bytes.iter().any(|byte| *byte != 0) {
            return Err(format!(
                "the map says that {piece:?} reads zeros, and it does not"
            ));
        }
        let is_new = |bytes: &[u8; SECTOR]| {
            // The number of a write stands in the first word of its pattern, plus 1.
            u64::from_le_bytes(*bytes.first_chunk().expect("a sector has a word")) > first_write
        };
        if !is_here && bytes.as_chunks().0.iter().any(is_new) {
            return Err(format!(
                "the map says that {piece:?} holds what the guest wrote"
            ));
        }
    }
    match at == disk.len() as u64 {
        true => Ok(()),
        false => Err(format!("the map ends at {at} of {}", disk.len())),
    }
}

/// After the last session nobody holds on to the host.
pub(crate) fn nothing_is_left(host: &Rc<SimHost>) -> Result<(), String> {
    match (host.in_flight(), host.open_files()) {
        (0, 0) => Ok(()),
        (operations, files) => Err(format!(
            "{operations} operations and {files} open files are left over"
        )),
    }
}

fn index(n: u64) -> usize {
    usize::try_from(n).expect("a small file")
}
