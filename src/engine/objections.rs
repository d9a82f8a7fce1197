//! Objections: why an image that can be read must not be given to a guest.
//!
//! Tools may look at such an image, read-only, and are warned.

use crate::format::header::Header;
use crate::format::units::{SECTOR, round_up};
use crate::host::Severity;

use super::error::{Error, ErrorKind, Result};
use super::layer::Layer;
use super::load::Shutdown;
use super::task::Executor;

/// Raises what there is against `layer`: as an error, or as warnings where `tools` ask.
pub(super) fn object(
    executor: &Executor,
    layer: &Layer,
    header: &Header,
    shutdown: Shutdown,
    tools: bool,
) -> Result<()> {
    let objections = [
        unrecoverable(layer, header, shutdown),
        short_base(layer, header),
        short_device(layer),
        lost_chunks(layer),
    ];
    for objection in objections.into_iter().flatten() {
        let message = format!("'{}' {objection}", layer.metadata.name());
        if !tools {
            let hint = "only tools may read what is left of it, as `fvd convert` does";
            return Err(Error::new(ErrorKind::Corrupt, format!("{message}; {hint}")));
        }
        executor.log(Severity::Warning, message);
    }
    Ok(())
}

/// A crashed image without a journal may be wrong.
fn unrecoverable(layer: &Layer, header: &Header, shutdown: Shutdown) -> Option<String> {
    let has_metadata = layer.table.is_some() || layer.bitmap.is_some();
    (shutdown == Shutdown::NoJournal && !header.clean_shutdown && has_metadata).then(|| {
        let what = "was not shut down cleanly and has no journal, so its metadata may be wrong";
        format!("{what}; check it, then allow it with `fvd update clean_shutdown=on`")
    })
}

/// The base image became shorter.
fn short_base(layer: &Layer, header: &Header) -> Option<String> {
    let needed = layer.bitmap.as_ref()?.blocks.base_size;
    let size = layer.backing.as_ref()?.size();
    (round_up(size, SECTOR) < needed).then(|| {
        let base = &header.base_img;
        format!("needs {needed} bytes of its base image '{base}', which has {size} bytes now")
    })
}

/// The data of a flat image does not fit its device.
fn short_device(layer: &Layer) -> Option<String> {
    let data = &layer.data;
    let needed = data.start.get() + layer.geometry.virtual_size;
    let too_short = layer.table.is_none() && data.file.is_device && data.length.get() < needed;
    too_short.then(|| {
        let (name, length) = (data.file.name(), data.length.get());
        format!("needs {needed} bytes of the device '{name}', which has {length}")
    })
}

/// Entries that point past the end of the data file.
fn lost_chunks(layer: &Layer) -> Option<String> {
    let table = layer.table.as_ref()?;
    let length = layer.data.length.get();
    let is_lost = |number: &u32| {
        table
            .place_of(*number)
            .is_none_or(|place| place.get() >= length)
    };
    let lost = table.numbers().flatten().filter(is_lost).count();
    (lost > 0).then(|| {
        let name = layer.data.file.name();
        format!("lost {lost} chunks, which its table says are past the end of '{name}'")
    })
}
