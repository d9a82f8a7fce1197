//! Update: changes attributes of an image that nobody has open.
//!
//! Everything is checked on a copy of the header before anything is written. Then the image is
//! recovered, its journal emptied, and the [header](super::header) changed one sector at a time.
//!
//! The base image is not opened: this is how an image whose base has moved is mended.

use std::rc::Rc;

use crate::format::attributes::Attribute;
use crate::format::error::FormatError;
use crate::format::geometry::Geometry;
use crate::format::header::{Field, HALF_CHANGED_NAME, Header};
use crate::format::limits::MAX_BITMAP_AND_TABLE;
use crate::host::{Access, Role};

use super::error::{Error, ErrorKind, Result};
use super::file::File;
use super::header::{set_name, set_rest};
use super::load::{Loaded, Shutdown, load};
use super::names::{Follow, Named};
use super::open::data_request;
use super::recovery::{make_writable, zero_journal};
use super::resize::prepare_for_size;
use super::task::Executor;

/// Changes `attributes` of the image `name`, in their order.
///
/// # Errors
/// A value that the image cannot have; an image that is in use, or that cannot be recovered. Where
/// an attribute is refused, nothing was changed.
pub(crate) async fn update(
    executor: Rc<Executor>,
    name: String,
    attributes: Vec<Attribute>,
    follow: Follow,
) -> Result<()> {
    let request = Named::as_given(&name).request(Role::Metadata, Access::ReadWrite);
    let mut memory = MAX_BITMAP_AND_TABLE;
    let decode = |bytes: &[u8]| decode(bytes, &attributes);
    let loaded = load(&executor, request, &mut memory, decode).await?;
    let wanted = wanted(&loaded, &attributes)?;
    let shutdown = loaded.shutdown;
    let mut header = loaded.header.clone();
    let request = data_request(&name, &wanted, follow, Role::Data, Access::ReadWrite)?;
    let data = match request {
        Some(request) => Rc::new(File::open(&executor, request).await?),
        None => Rc::clone(&loaded.file),
    };
    let layer = loaded.with(data, None);

    make_writable(&layer, &mut header, shutdown).await?;
    if let (Shutdown::Crashed, Some(journal)) = (shutdown, layer.geometry.journal) {
        zero_journal(&layer.metadata, journal).await?;
    }
    if wanted.virtual_disk_size > header.virtual_disk_size {
        prepare_for_size(&layer, wanted.virtual_disk_size).await?;
    }
    set_name(&layer.metadata, &mut header, &wanted, Field::BaseImg).await?;
    set_name(&layer.metadata, &mut header, &wanted, Field::DataFile).await?;
    set_rest(&layer.metadata, &header, &wanted).await
}

/// Reads the header; a half changed name is no error where one of the attributes sets it again.
fn decode(bytes: &[u8], attributes: &[Attribute]) -> Result<Header> {
    let header = Header::decode(bytes);
    let sets_base = attributes
        .iter()
        .any(|a| matches!(a, Attribute::BaseImg(_)));
    let Err(FormatError::HalfChanged { field }) = header else {
        let mut header = header?;
        if sets_base && header.base_img.is_empty() {
            // Its layout may be that of an image whose base has no name yet.
            HALF_CHANGED_NAME.clone_into(&mut header.base_img);
        }
        return Ok(header);
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
fn wanted(loaded: &Loaded, attributes: &[Attribute]) -> Result<Header> {
    let invalid = |error: FormatError| Error::argument(&error);
    let mut wanted = loaded.header.clone();
    for attribute in attributes {
        attribute.apply(&mut wanted).map_err(invalid)?;
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
    if wanted.data_file.is_empty() == loaded.geometry.separate_data {
        let what = "data_file: data cannot move between the image and a file of its own";
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("{what}; convert the image"),
        ));
    }
    Geometry::from_header(&wanted, loaded.file.length_at_open).map_err(invalid)?;
    wanted.encode().map_err(invalid)?;

    let sets_flag = attributes
        .iter()
        .any(|a| matches!(a, Attribute::CleanShutdown(_)));
    if loaded.shutdown == Shutdown::NoJournal && !loaded.header.clean_shutdown && !sets_flag {
        let what = format!(
            "'{}' was not shut down cleanly and has no journal",
            loaded.file.name()
        );
        let hint = "check it, then set clean_shutdown=on too";
        return Err(Error::new(ErrorKind::Corrupt, format!("{what}; {hint}")));
    }
    // Recovered and with an empty journal, it is clean unless somebody wants it otherwise.
    wanted.clean_shutdown |= !sets_flag && loaded.geometry.journal.is_some();
    Ok(wanted)
}
