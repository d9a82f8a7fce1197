//! Create: a new image, of which nothing is visible until all of it is durable.
//!
//! The magic is in the header's first sector, which is written last: a creation that was cut leaves a file that
//! is no image.

use std::ops::Range;
use std::rc::Rc;

use crate::format::create::plan;
use crate::format::geometry::{Blocks, Geometry};
use crate::format::header::Header;
use crate::format::options::CreateOptions;
use crate::format::units::{PAGE, SECTOR, SECTOR_LEN};
use crate::host::{Access, OpenRequest, Role};

use super::bitmap::Bitmap;
use super::error::{Error, ErrorKind, Result};
use super::extents::{Backing, Layer, Source};
use super::file::{File, allocate, length};
use super::names::{Follow, follow};
use super::open::{OpenOptions, metadata_request, open_base};
use super::task::Executor;

/// Bytes of the table, or of the base in search of zeros, that are handled at once.
const STEP: u64 = 1 << 20;

/// Creates the image `name`, and its data file where it has one; files of these names are emptied.
///
/// # Errors
/// Options that do not fit together; what the host says of a file. Whatever stands at `name` then is no
/// image, unless the options were refused before anything was touched.
pub async fn create(executor: Rc<Executor>, name: String, options: CreateOptions) -> Result<()> {
    let base = open_named_base(&executor, &name, &options).await?;
    let (header, geometry) = plan(&options, base.as_ref().map(Backing::size))?;
    let file = File::open(
        &executor,
        metadata_request(&name, Role::Metadata, Access::Create),
    )
    .await?;
    file.write_zeroes(0, Header::LEN as u64).await?;
    file.flush().await?;
    empty(&file, geometry.metadata_size).await?;
    if header.data_file.is_empty() {
        clear_device(&file, &header, &geometry).await?;
    } else {
        create_data(&executor, &name, &header, &geometry).await?;
    }
    if let (Some(base), Some(blocks)) = (&base, &geometry.blocks)
        && let Some(region) = options.sparse_region(blocks.block_size)
    {
        mark_zeros(&file, base, blocks, region).await?;
    }
    write_table(&file, &geometry).await?;
    file.flush().await?;
    publish(&file, &header).await
}

/// The base image that the options name. The user who names it has the right to.
async fn open_named_base(
    executor: &Rc<Executor>,
    image: &str,
    options: &CreateOptions,
) -> Result<Option<Backing>> {
    let Some(base) = options
        .backing_file
        .as_ref()
        .filter(|name| !name.is_empty())
    else {
        return Ok(None);
    };
    let name = follow(image, "base_img", base, Follow::Any)?.name;
    if name == image {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("'{image}' cannot be its own base"),
        ));
    }
    let request = OpenRequest {
        role: Role::Base,
        name,
        beneath: None,
        access: Access::ReadOnly,
    };
    let open = OpenOptions {
        read_only: true,
        follow: Follow::Any,
        ..OpenOptions::default()
    };
    open_base(executor, request, &options.backing_fmt, &open, 0)
        .await
        .map(Some)
}

/// Makes the metadata regions read zeros.
async fn empty(file: &File, metadata_size: u64) -> Result<()> {
    if !file.is_device {
        return file.truncate(metadata_size).await;
    }
    if file.length_at_open < metadata_size {
        let what = format!(
            "the device '{}' has {} bytes",
            file.name(),
            file.length_at_open
        );
        let needed = format!("{what}, and the metadata alone needs {metadata_size}");
        return Err(Error::host(libc::ENOSPC, needed));
    }
    file.write_zeroes(0, metadata_size).await
}

async fn create_data(
    executor: &Rc<Executor>,
    image: &str,
    header: &Header,
    geometry: &Geometry,
) -> Result<()> {
    let name = follow(image, "data_file", &header.data_file, Follow::Any)?.name;
    if name == image {
        let what = format!("'{image}' cannot be its own data file");
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    let file = File::open(
        executor,
        metadata_request(&name, Role::Data, Access::Create),
    )
    .await?;
    clear_device(&file, header, geometry).await?;
    file.flush().await
}

/// Zeroes the data region of a device, where the image takes it for zero.
async fn clear_device(file: &File, header: &Header, geometry: &Geometry) -> Result<()> {
    let takes_zeros = geometry.chunks.is_none() || header.need_zero_init;
    if !file.is_device || !takes_zeros {
        return Ok(());
    }
    let start = geometry.data_start().get();
    if file.length_at_open < start + geometry.virtual_size {
        let what = format!(
            "the device '{}' has {} bytes",
            file.name(),
            file.length_at_open
        );
        let needed = start + geometry.virtual_size;
        return Err(Error::host(
            libc::ENOSPC,
            format!("{what}, and the image needs {needed}"),
        ));
    }
    file.write_zeroes(start, geometry.virtual_size).await
}

/// Sets the bits of the regions of the base that are all zero (`detect_sparse_hole`).
async fn mark_zeros(file: &File, base: &Backing, blocks: &Blocks, region: u64) -> Result<()> {
    let sectors = blocks.count.div_ceil(SECTOR * 8);
    let mut buffer = allocate(length(&(0..sectors * SECTOR)))?;
    let bitmap = Bitmap::from_bytes(buffer.bytes());
    let mut at = 0;
    while at + region <= blocks.base_size {
        if is_zero(base, at..at + region).await? {
            bitmap.set(blocks.index_range(at, at + region));
        }
        at += region;
    }
    bitmap.write_sectors(0..sectors, buffer.bytes());
    file.write_bytes(blocks.bitmap.start.get(), buffer.bytes())
        .await
}

async fn is_zero(base: &Backing, range: Range<u64>) -> Result<bool> {
    let mut at = range.start;
    while at < range.end {
        let part = at..range.end.min(at + STEP);
        at = part.end;
        let zero = match base {
            Backing::Raw(file) => is_file_zero(file, part).await?,
            Backing::Layer(layer) => is_layer_zero(layer, part).await?,
        };
        if !zero {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_layer_zero(layer: &Layer, range: Range<u64>) -> Result<bool> {
    for extent in layer.extents(range) {
        let len = extent.range.end - extent.range.start;
        let zero = match extent.source {
            Source::Zero => true,
            Source::File(file, offset) => is_file_zero(file, offset..offset + len).await?,
            Source::Lost => false,
        };
        if !zero {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What lies past the end of the file is zero.
async fn is_file_zero(file: &File, range: Range<u64>) -> Result<bool> {
    let range = range.start..range.end.min(file.length_at_open);
    if range.is_empty() {
        return Ok(true);
    }
    let mut bytes = file.read(range.start, length(&range)).await?;
    Ok(bytes.bytes().iter().all(|byte| *byte == 0))
}

/// Says that no chunk is allocated.
async fn write_table(file: &File, geometry: &Geometry) -> Result<()> {
    let Some(chunks) = &geometry.chunks else {
        return Ok(());
    };
    let bytes = crate::format::table::table_len(chunks.entries);
    let unallocated = vec![0xFF; length(&(0..bytes.min(STEP)))];
    let mut at = 0;
    while at < bytes {
        let step = length(&(at..bytes)).min(unallocated.len());
        file.write_bytes(chunks.table.start.get() + at, &unallocated[..step])
            .await?;
        at += step as u64;
    }
    debug_assert!(bytes.is_multiple_of(PAGE));
    Ok(())
}

/// Writes the header, its first sector last.
async fn publish(file: &File, header: &Header) -> Result<()> {
    let bytes = header.encode()?;
    let (first, rest) = bytes.split_at(SECTOR_LEN);
    file.write_bytes(SECTOR, rest).await?;
    file.flush().await?;
    file.write_bytes(0, first).await?;
    file.flush().await
}
