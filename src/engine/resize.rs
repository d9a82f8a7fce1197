//! Resize: a disk grows, and what becomes visible is zero.
//!
//! The new part is made to read zeros, durably, before the header says that it exists.

use crate::format::units::{SECTOR, round_up};

use super::error::Result;
use super::layer::{DataFile, Layer};
use super::table::{Table, entry_sectors, write_unallocated};

/// Prepares an image that is ready to be written for `size` bytes, which its table has room for.
pub(super) async fn prepare_for_size(layer: &Layer, size: u64) -> Result<()> {
    match &layer.table {
        Some(table) => grow_table(layer, table, size).await?,
        None => clear_behind(layer, size).await?,
    }
    layer.flush_files().await
}

/// A flat image: nothing of what lies behind the disk's end may show.
async fn clear_behind(layer: &Layer, size: u64) -> Result<()> {
    let DataFile {
        file,
        start,
        length,
    } = &layer.data;
    let (old_end, mut new_end) = (
        start.get() + layer.geometry.virtual_size,
        start.get() + size,
    );
    if file.is_device {
        file.require_length(new_end)?;
    } else {
        new_end = new_end.min(round_up(length.get(), SECTOR));
    }
    if old_end < new_end {
        file.write_zeroes(old_end..new_end).await
    } else {
        Ok(())
    }
}

/// A compact image: the rest of the last chunk is zero, and the new entries are unallocated.
async fn grow_table(layer: &Layer, table: &Table, size: u64) -> Result<()> {
    let (old_size, chunk_size) = (layer.geometry.virtual_size, table.chunks.chunk_size);
    let into_chunk = old_size % chunk_size;
    if into_chunk > 0
        && let Some(number) = table.get(old_size / chunk_size)
    {
        let chunk = table.place_of(number).expect("checked at open").get();
        let rest =
            chunk + into_chunk..(chunk + chunk_size).min(round_up(layer.data.length.get(), SECTOR));
        if !rest.is_empty() {
            layer.data.file.write_zeroes(rest).await?;
        }
    }
    table.clear_rest();
    let sectors = table.sectors();
    if sectors > 0 {
        let (at, bytes) = table.part(&(sectors - 1..sectors))?;
        layer.metadata.write(at.get(), bytes).await?;
    }
    let start = table.chunks.table.start.get();
    let end = start + entry_sectors(size.div_ceil(chunk_size)) * SECTOR;
    write_unallocated(&layer.metadata, start + sectors * SECTOR..end).await
}
