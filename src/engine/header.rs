//! The header on disk: changed one sector at a time (DESIGN.md, "Header").
//!
//! - A flag: its sector alone.
//! - A name: its first sector alone, where the new name ends there. Else the later sectors first;
//!   and where the old name needs them too, the name is marked as half changed while they disagree,
//!   so that whoever opens the image then is told which update to repeat.
//! - A new image: everything but the magic's sector, then that.

use crate::format::header::{
    Field, HALF_CHANGED, Header, changed_sectors, first_sector_room, sectors, span,
};
use crate::format::units::{SECTOR, SECTOR_LEN};

use super::error::Result;
use super::file::File;

/// Writes the one sector that holds `field`.
pub(super) async fn write_field(file: &File, header: &Header, field: Field) -> Result<()> {
    debug_assert_eq!(
        sectors(field).len(),
        1,
        "a name is not changed by one write"
    );
    write_sector(
        file,
        sectors(field).start,
        &sector(header, sectors(field).start)?,
    )
    .await
}

/// Writes the header of a new image, durably; the image exists when its first sector does.
pub(super) async fn publish(file: &File, header: &Header) -> Result<()> {
    let bytes = header.encode()?;
    let (first, rest) = bytes.split_at(SECTOR_LEN);
    file.write_bytes(SECTOR, rest).await?;
    file.flush().await?;
    write_sector(file, 0, first).await?;
    file.flush().await
}

/// Changes the name in `field`, on disk and in `header`, to what it is in `wanted`, durably.
pub(super) async fn set_name(
    file: &File,
    header: &mut Header,
    wanted: &Header,
    field: Field,
) -> Result<()> {
    let (old, new) = (
        name(header, field).to_owned(),
        name(wanted, field).to_owned(),
    );
    if old == new {
        return Ok(());
    }
    let first = sectors(field).start;
    let is_long = |name: &str| name.len() >= first_sector_room(field);
    if is_long(&new) {
        if is_long(&old) {
            let mut marked = sector(header, first)?;
            marked[span(field).start % SECTOR_LEN] = HALF_CHANGED;
            write_sector(file, first, &marked).await?;
            file.flush().await?;
        }
        let mut later = header.clone();
        name_mut(&mut later, field).clone_from(&new);
        for number in sectors(field).skip(1) {
            write_sector(file, number, &sector(&later, number)?).await?;
        }
        file.flush().await?;
    }
    *name_mut(header, field) = new;
    write_sector(file, first, &sector(header, first)?).await?;
    file.flush().await
}

/// Changes everything but the names, and says last how the image was left.
pub(super) async fn set_rest(file: &File, header: &Header, wanted: &Header) -> Result<()> {
    let before = Header {
        clean_shutdown: header.clean_shutdown,
        ..wanted.clone()
    };
    for number in changed_sectors(&*header.encode()?, &*before.encode()?) {
        write_sector(file, number, &sector(&before, number)?).await?;
    }
    file.flush().await?;
    write_field(file, wanted, Field::CleanShutdown).await?;
    file.flush().await
}

fn name(header: &Header, field: Field) -> &str {
    match field {
        Field::BaseImg => &header.base_img,
        Field::DataFile => &header.data_file,
        other => unreachable!("{other:?} is not a name"),
    }
}

fn name_mut(header: &mut Header, field: Field) -> &mut String {
    match field {
        Field::BaseImg => &mut header.base_img,
        Field::DataFile => &mut header.data_file,
        other => unreachable!("{other:?} is not a name"),
    }
}

fn sector(header: &Header, number: usize) -> Result<Vec<u8>> {
    let at = number * SECTOR_LEN;
    Ok(header.encode()?[at..at + SECTOR_LEN].to_vec())
}

async fn write_sector(file: &File, number: usize, bytes: &[u8]) -> Result<()> {
    file.write_bytes(number as u64 * SECTOR, bytes).await
}
