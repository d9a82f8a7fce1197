//! Update: changes attributes of an image that nobody has open.
//!
//! Everything is checked on a copy of the header before anything is written. Then the image is recovered, its
//! journal emptied, and the header changed one sector at a time. A name that reaches beyond its first sector is
//! marked as half changed while its sectors disagree (DESIGN.md, "Header"), and whoever opens the image
//! then is told which update to repeat.
//!
//! The base image is not opened: this is how an image whose base has moved is mended.

use std::cell::Cell;
use std::rc::Rc;

use crate::format::attributes::Attribute;
use crate::format::error::FormatError;
use crate::format::geometry::Geometry;
use crate::format::header::{
    Field, HALF_CHANGED, Header, changed_sectors, first_sector_room, sectors,
};
use crate::format::units::{SECTOR, SECTOR_LEN};
use crate::host::{Access, Role};

use super::error::{Error, ErrorKind, Result};
use super::extents::{DataFile, Layer};
use super::file::File;
use super::load::{Loaded, Shutdown, load};
use super::names::{Follow, follow};
use super::open::metadata_request;
use super::recovery::{make_writable, write_field, zero_journal};
use super::resize::resize;
use super::task::Executor;

/// Changes `attributes` of the image `name`, in their order.
///
/// # Errors
/// A value that the image cannot have; an image that is in use, or that cannot be recovered. Where an
/// attribute is refused, nothing was changed.
pub async fn update(
    executor: Rc<Executor>,
    name: String,
    attributes: Vec<Attribute>,
    names: Follow,
) -> Result<()> {
    let request = metadata_request(&name, Role::Metadata, Access::ReadWrite);
    let loaded = load(&executor, request, |bytes| decode(bytes, &attributes)).await?;
    let wanted = check(&loaded, &attributes)?;
    let shutdown = loaded.shutdown;
    let mut header = loaded.header.clone();
    let layer = layer_of(&executor, loaded, &wanted, names).await?;

    make_writable(&layer, &mut header, shutdown).await?;
    if let (Shutdown::Crashed { .. }, Some(journal)) = (shutdown, layer.geometry.journal) {
        zero_journal(&layer.metadata, journal).await?;
    }
    if wanted.virtual_disk_size > header.virtual_disk_size {
        resize(&layer, wanted.virtual_disk_size).await?;
    }
    set_name(&layer.metadata, &mut header, &wanted, Field::BaseImg).await?;
    set_name(&layer.metadata, &mut header, &wanted, Field::DataFile).await?;
    set_rest(&layer.metadata, &header, &wanted).await
}

/// Reads the header; a half changed name is no error where one of the attributes sets it again.
fn decode(bytes: &[u8], attributes: &[Attribute]) -> Result<Header> {
    let header = Header::decode(bytes);
    let Err(FormatError::HalfChanged { field }) = header else {
        return Ok(header?);
    };
    let repeated = attributes.iter().find_map(|attribute| match attribute {
        Attribute::BaseImg(_) if field == "base_img" => Some(Field::BaseImg),
        Attribute::DataFile(_) if field == "data_file" => Some(Field::DataFile),
        _ => None,
    });
    match repeated {
        Some(name) => Ok(Header::decode_to_repeat(bytes, name)?),
        None => Ok(header?),
    }
}

/// The header as it is to be, if the image can be so.
fn check(loaded: &Loaded, attributes: &[Attribute]) -> Result<Header> {
    let mut wanted = loaded.header.clone();
    for attribute in attributes {
        attribute.apply(&mut wanted)?;
    }
    let most = loaded.geometry.max_virtual_size();
    if wanted.virtual_disk_size > most {
        let what = format!(
            "size {} does not fit the image's table",
            wanted.virtual_disk_size
        );
        let hint = format!("it has room for {most} bytes; convert it into a larger image");
        return Err(Error::new(ErrorKind::Invalid, format!("{what}: {hint}")));
    }
    let sets_data = attributes
        .iter()
        .any(|a| matches!(a, Attribute::DataFile(_)));
    if sets_data && wanted.data_file.is_empty() == loaded.geometry.separate_data {
        let what = "data_file: data cannot move between the image and a file of its own";
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{what}; convert the image"),
        ));
    }
    Geometry::from_header(&wanted, loaded.file.length_at_open)?;
    let sets_clean = attributes
        .iter()
        .any(|a| matches!(a, Attribute::CleanShutdown(true)));
    if loaded.shutdown == Shutdown::NoJournal && !loaded.header.clean_shutdown && !sets_clean {
        let what = format!(
            "'{}' was not shut down cleanly and has no journal",
            loaded.file.name()
        );
        let hint = "check it, then set clean_shutdown=on too";
        return Err(Error::new(ErrorKind::Corrupt, format!("{what}; {hint}")));
    }
    let sets_flag = attributes
        .iter()
        .any(|a| matches!(a, Attribute::CleanShutdown(_)));
    if !sets_flag && loaded.geometry.journal.is_some() {
        wanted.clean_shutdown = true;
    }
    Ok(wanted)
}

/// The image without its base, over the data file that it is to have.
async fn layer_of(
    executor: &Rc<Executor>,
    loaded: Loaded,
    wanted: &Header,
    names: Follow,
) -> Result<Layer> {
    let Loaded {
        file,
        geometry,
        bitmap,
        table,
        ..
    } = loaded;
    let data = if wanted.data_file.is_empty() {
        Rc::clone(&file)
    } else {
        let named = follow(file.name(), "data_file", &wanted.data_file, names)?;
        let mut request = metadata_request(&named.name, Role::Data, Access::ReadWrite);
        request.beneath = named.beneath;
        Rc::new(File::open(executor, request).await?)
    };
    let length = Cell::new(data.length_at_open);
    let data = DataFile {
        file: data,
        start: geometry.data_start(),
        length,
    };
    Ok(Layer {
        geometry,
        bitmap,
        table,
        metadata: file,
        data,
        backing: None,
    })
}

/// Changes one name on disk and in `header`.
async fn set_name(file: &File, header: &mut Header, wanted: &Header, field: Field) -> Result<()> {
    let (old, new) = (
        name_of(header, field).clone(),
        name_of(wanted, field).clone(),
    );
    if old == new {
        return Ok(());
    }
    let room = first_sector_room(field);
    let is_long = |name: &str| name.len() + 1 > room;
    let first = sectors(field).start;
    if is_long(&new) {
        if is_long(&old) {
            let start = crate::format::header::span(field).start;
            let mut marked = sector(header, first)?;
            marked[start % SECTOR_LEN] = HALF_CHANGED;
            file.write_bytes(first as u64 * SECTOR, &marked).await?;
            file.flush().await?;
        }
        let mut later = header.clone();
        *name_mut(&mut later, field) = new.clone();
        for number in sectors(field).skip(1) {
            file.write_bytes(number as u64 * SECTOR, &sector(&later, number)?)
                .await?;
        }
        file.flush().await?;
    }
    *name_mut(header, field) = new;
    file.write_bytes(first as u64 * SECTOR, &sector(header, first)?)
        .await?;
    file.flush().await
}

fn name_of(header: &Header, field: Field) -> &String {
    match field {
        Field::BaseImg => &header.base_img,
        _ => &header.data_file,
    }
}

fn name_mut(header: &mut Header, field: Field) -> &mut String {
    match field {
        Field::BaseImg => &mut header.base_img,
        _ => &mut header.data_file,
    }
}

fn sector(header: &Header, number: usize) -> Result<Vec<u8>> {
    let at = number * SECTOR_LEN;
    Ok(header.encode()?[at..at + SECTOR_LEN].to_vec())
}

/// Changes everything else, and says last how the image was left.
async fn set_rest(file: &File, header: &Header, wanted: &Header) -> Result<()> {
    let before = Header {
        clean_shutdown: header.clean_shutdown,
        ..wanted.clone()
    };
    let (old, new) = (header.encode()?, before.encode()?);
    for number in changed_sectors(&old, &new) {
        file.write_bytes(number as u64 * SECTOR, &sector(&before, number)?)
            .await?;
    }
    file.flush().await?;
    write_field(file, wanted, Field::CleanShutdown).await?;
    file.flush().await
}
