//! Resize: a disk grows, and what becomes visible is zero.
//!
//! The new part is made to read zeros, durably, before the header says that it exists.

use crate::format::table::Entry;
use crate::format::units::SECTOR;

use super::error::{Error, Result};
use super::extents::Layer;
use super::table::Table;

/// Prepares an image that is ready to be written for `size` bytes, which its table has room for.
pub(super) async fn resize(layer: &Layer, size: u64) -> Result<()> {
    match layer.chunks() {
        Some((table, _)) => grow_table(layer, table, size).await?,
        None => clear_behind(layer, size).await?,
    }
    layer.data.file.flush().await?;
    if layer.has_data_file() {
        layer.metadata.flush().await?;
    }
    Ok(())
}

/// A flat image: nothing of what lies behind the disk's end may show.
async fn clear_behind(layer: &Layer, size: u64) -> Result<()> {
    let data = &layer.data;
    let start = data.start.get();
    let (old_end, new_end) = (start + layer.geometry.virtual_size, start + size);
    if data.file.is_device {
        if data.length.get() < new_end {
            let (name, length) = (data.file.name(), data.length.get());
            let what = format!("the device '{name}' has {length} bytes, and {new_end} are needed");
            return Err(Error::host(libc::ENOSPC, what));
        }
        return data.file.write_zeroes(old_end, new_end - old_end).await;
    }
    if data.length.get() > old_end {
        data.file.truncate(old_end).await?;
    }
    Ok(())
}

/// A compact image: the new entries are unallocated, and the rest of the last chunk is zero.
async fn grow_table(layer: &Layer, table: &Table, size: u64) -> Result<()> {
    let chunks = layer
        .geometry
        .chunks
        .expect("only compact images have a table");
    let old_size = layer.geometry.virtual_size;
    let into_chunk = old_size % chunks.chunk_size;
    if into_chunk > 0
        && let Some(number) = table.get(chunks.entries - 1)
    {
        let place = chunks
            .offset_of(number, layer.data.start)
            .expect("checked at open")
            .get();
        let rest = place + into_chunk..(place + chunks.chunk_size).min(layer.data.length.get());
        if !rest.is_empty() {
            layer
                .data
                .file
                .write_zeroes(rest.start, rest.end - rest.start)
                .await?;
        }
    }
    let sectors = table.sectors();
    table.clear_from(chunks.entries);
    if sectors > 0 {
        let (at, mut last) = layer.table_part(sectors - 1..sectors)?;
        layer.metadata.write_bytes(at.get(), last.bytes()).await?;
    }
    let mut at = chunks.table.start.get() + sectors * SECTOR;
    let end = chunks.table.start.get() + size.div_ceil(chunks.chunk_size).div_ceil(128) * SECTOR;
    let unallocated = Entry::UNALLOCATED.raw().to_le_bytes().repeat(1 << 18);
    while at < end {
        let step = unallocated
            .len()
            .min(usize::try_from(end - at).unwrap_or(usize::MAX));
        layer.metadata.write_bytes(at, &unallocated[..step]).await?;
        at += step as u64;
    }
    Ok(())
}
