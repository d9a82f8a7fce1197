//! Recovery: an image that was read and checked becomes one that can be written.
//!
//! Until here nothing was written, so an open that fails leaves the image as it was. Each step here
//! can be cut at any point, and the next open does all of it again:
//!
//! - *crashed*: flush; the header, with clean_shutdown = 0, and the whole table; flush; the whole
//!   bitmap; flush. Even where the replay changed nothing: what was read may stand in a cache that
//!   a failed flush left behind.
//! - *no journal*: the same, but the flag stays as it is.
//! - *closed with records left in the journal*: they are zeroed, the first sector last, so that it
//!   says "not empty" until the others are gone.
//! - then clean_shutdown = 0, durable before anything else is written.

use crate::format::geometry::Region;
use crate::format::header::{Field, Header};
use crate::format::units::SECTOR;

use super::buffer::steps;
use super::error::Result;
use super::file::File;
use super::header::write_field;
use super::layer::Layer;
use super::load::Shutdown;

/// Sectors of table or bitmap that are written at once.
const STEP: u64 = 2048;

/// Makes an image ready to be written. `header` is what its file holds, and is kept so.
pub(super) async fn make_writable(
    layer: &Layer,
    header: &mut Header,
    shutdown: Shutdown,
) -> Result<()> {
    let metadata = &layer.metadata;
    let has_metadata = layer.table.is_some() || layer.bitmap.is_some();
    match shutdown {
        Shutdown::NoJournal if !has_metadata => return Ok(()),
        Shutdown::NoJournal | Shutdown::Crashed => return rewrite(layer, header).await,
        Shutdown::CleanWithRecords => {
            let journal = layer.geometry.journal.expect("its first sector was read");
            zero_journal(metadata, journal).await?;
        }
        Shutdown::Clean => {}
    }
    header.clean_shutdown = false;
    write_field(metadata, header, Field::CleanShutdown).await?;
    metadata.flush().await
}

/// Writes the header, the whole table and the whole bitmap, in this order, durably, as they were
/// read: what was read may be in no more than a cache.
async fn rewrite(layer: &Layer, header: &Header) -> Result<()> {
    let metadata = &layer.metadata;
    layer.flush_files().await?;
    metadata.write_bytes(0, &*header.encode()?).await?;
    if let Some(table) = &layer.table {
        for step in steps(0..table.sectors(), STEP) {
            let (at, bytes) = table.part(&step)?;
            metadata.write(at.get(), bytes).await?;
        }
    }
    metadata.flush().await?;
    if let Some(bitmap) = &layer.bitmap {
        for step in steps(0..bitmap.sectors(), STEP) {
            let (at, bytes) = bitmap.part(&step)?;
            metadata.write(at.get(), bytes).await?;
        }
    }
    metadata.flush().await
}

/// Zeroes a journal whose records do not count: all but its first sector, then that.
pub(super) async fn zero_journal(metadata: &File, journal: Region) -> Result<()> {
    let (start, end) = (journal.start.get(), journal.end().get());
    if start + SECTOR < end {
        metadata.write_zeroes(start + SECTOR..end).await?;
        metadata.flush().await?;
    }
    metadata.write_zeroes(start..start + SECTOR).await?;
    metadata.flush().await
}
