//! Recovery: an image that was read and checked becomes one that can be written.
//!
//! Until here nothing was written, so an open that fails leaves the image as it was. Each step here can be
//! cut at any point, and the next open does all of it again:
//!
//! - *crashed*: flush; clean_shutdown = 0 and the whole table; flush; the whole bitmap; flush. Even where
//!   the replay changed nothing: what was read may stand in a cache that a failed flush left behind.
//! - *no journal*: the same, but the flag stays as it is.
//! - *closed with records left in the journal*: they are zeroed, the first sector last, so that it says
//!   "not empty" until the others are gone.
//! - then clean_shutdown = 0, durable before anything else is written.

use crate::format::geometry::Region;
use crate::format::header::{Field, Header, sectors};
use crate::format::units::{SECTOR, SECTOR_LEN, index};

use super::error::Result;
use super::extents::Layer;
use super::file::File;
use super::load::Shutdown;

/// Bytes of table or bitmap that are written at once.
const STEP_SECTORS: u64 = 2048;

/// Makes an image ready to be written. `header` is what its file holds, and is kept so.
pub(super) async fn make_writable(
    layer: &Layer,
    header: &mut Header,
    shutdown: Shutdown,
) -> Result<()> {
    let metadata = &layer.metadata;
    match shutdown {
        Shutdown::NoJournal => return rewrite(layer, None).await,
        Shutdown::Crashed { .. } => return rewrite(layer, Some(header)).await,
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

/// Writes the whole table and the whole bitmap, in this order, durably; `header` where its flag is to
/// be written with them.
async fn rewrite(layer: &Layer, header: Option<&Header>) -> Result<()> {
    if layer.table.is_none() && layer.bitmap.is_none() {
        return Ok(());
    }
    let metadata = &layer.metadata;
    layer.data.file.flush().await?;
    if layer.has_data_file() {
        metadata.flush().await?;
    }
    if let Some(header) = header {
        write_field(metadata, header, Field::CleanShutdown).await?;
    }
    for step in steps(layer.table.as_ref().map_or(0, |table| table.sectors())) {
        let (at, mut bytes) = layer.table_part(step)?;
        metadata.write_bytes(at.get(), bytes.bytes()).await?;
    }
    metadata.flush().await?;
    for step in steps(layer.bitmap.as_ref().map_or(0, |bitmap| bitmap.sectors())) {
        let (at, mut bytes) = layer.bitmap_part(step)?;
        metadata.write_bytes(at.get(), bytes.bytes()).await?;
    }
    metadata.flush().await
}

fn steps(sectors: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let starts = (0..sectors).step_by(index(STEP_SECTORS));
    starts.map(move |at| at..sectors.min(at + STEP_SECTORS))
}

/// Zeroes a journal whose records do not count: all but its first sector, then that.
pub(super) async fn zero_journal(metadata: &File, journal: Region) -> Result<()> {
    let start = journal.start.get();
    if journal.len > SECTOR {
        metadata
            .write_zeroes(start + SECTOR, journal.len - SECTOR)
            .await?;
        metadata.flush().await?;
    }
    metadata.write_zeroes(start, SECTOR).await?;
    metadata.flush().await
}

/// Writes the one sector of the header that holds `field`.
pub(super) async fn write_field(metadata: &File, header: &Header, field: Field) -> Result<()> {
    let sectors = sectors(field);
    debug_assert_eq!(sectors.len(), 1, "a name is not changed by one write");
    let at = sectors.start * SECTOR_LEN;
    metadata
        .write_bytes(at as u64, &header.encode()?[at..at + SECTOR_LEN])
        .await
}
