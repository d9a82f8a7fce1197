//! Create: a new image, of which nothing is visible until all of it is durable.

use std::rc::Rc;

use crate::format::create::plan;
use crate::format::geometry::Geometry;
use crate::format::header::Header;
use crate::format::options::CreateOptions;
use crate::format::table::table_len;
use crate::format::units::SECTOR;
use crate::host::{Access, Role};

use super::error::{Error, ErrorKind, Result};
use super::file::File;
use super::header::publish;
use super::layer::Backing;
use super::names::Named;
use super::open::Chain;
use super::sparse::mark_zeros;
use super::table::write_unallocated;
use super::task::Executor;

/// Creates the image `name`, and its data file where it has one; files of these names are emptied.
///
/// # Errors
/// Options that do not fit together; what the host says of a file. Whatever stands at `name` then
/// is no image, unless the options were refused before anything was touched.
pub(crate) async fn create(
    executor: Rc<Executor>,
    name: String,
    options: CreateOptions,
) -> Result<()> {
    let base = open_named_base(&executor, &name, &options).await?;
    let plan = plan(&options, base.as_ref().map(Backing::size));
    let (header, geometry) = plan.map_err(|error| Error::argument(&error))?;
    let data = other_than(&name, "data_file", &header.data_file)?;
    let request = Named::as_given(&name).request(Role::Metadata, Access::Create);
    let file = File::open(&executor, request).await?;
    // Whatever image was here is gone, with its magic, before its parts are.
    file.write_zeroes(0..SECTOR).await?;
    file.flush().await?;
    empty(&file, geometry.metadata_size).await?;
    match data {
        None => clear_device(&file, &header, &geometry).await?,
        Some(named) => {
            let data = File::open(&executor, named.request(Role::Data, Access::Create)).await?;
            clear_device(&data, &header, &geometry).await?;
            data.flush().await?;
        }
    }
    if let (Some(base), Some(blocks)) = (&base, &geometry.blocks)
        && let Some(region) = options.sparse_region(blocks.block_size)
    {
        mark_zeros(&file, base, *blocks, region).await?;
    }
    if let Some(chunks) = &geometry.chunks {
        let start = chunks.table.start.get();
        write_unallocated(&file, start..start + table_len(chunks.entries)).await?;
    }
    file.flush().await?;
    publish(&file, &header).await
}

/// The base image that the options name. The user who names it has the right to.
async fn open_named_base(
    executor: &Rc<Executor>,
    image: &str,
    options: &CreateOptions,
) -> Result<Option<Backing>> {
    let name = options.backing_file.as_deref().unwrap_or_default();
    let Some(named) = other_than(image, "backing_file", name)? else {
        return Ok(None);
    };
    let request = named.request(Role::Base, Access::ReadOnly);
    let mut chain = Chain::below_an_image(executor);
    chain
        .open_base(request, &options.backing_fmt)
        .await
        .map(Some)
}

/// The file that the option `option` names, if any; it cannot be the image itself.
fn other_than(image: &str, option: &str, name: &str) -> Result<Option<Named>> {
    if name.is_empty() {
        return Ok(None);
    }
    let named = Named::by_user(image, name);
    if named.is(image) {
        let what = format!("{option} '{name}' is the image itself");
        return Err(Error::new(ErrorKind::Invalid, what));
    }
    Ok(Some(named))
}

/// Makes the metadata regions read zeros.
async fn empty(file: &File, metadata_size: u64) -> Result<()> {
    if !file.is_device {
        return file.truncate(metadata_size).await;
    }
    file.require_length(metadata_size)?;
    file.write_zeroes(0..metadata_size).await
}

/// Zeroes the data region of a device, where the image takes it for zero.
async fn clear_device(file: &File, header: &Header, geometry: &Geometry) -> Result<()> {
    let takes_zeros = geometry.chunks.is_none() || header.need_zero_init;
    if !file.is_device || !takes_zeros {
        return Ok(());
    }
    let start = geometry.data_start().get();
    file.require_length(start + geometry.virtual_size)?;
    file.write_zeroes(start..start + geometry.virtual_size)
        .await
}
