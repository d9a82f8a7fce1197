//! Loading: the metadata of one image, in memory and checked, with nothing written.
//!
//! Where the image was not shut down cleanly its journal is replayed into memory, so a read-only open sees
//! what a recovery would restore. Everything here comes from a file that may be hostile: it is
//! checked before it is believed, after the replay as well.

use std::rc::Rc;

use crate::format::geometry::{Geometry, Region};
use crate::format::header::Header;
use crate::format::journal::{Change, records};
use crate::format::table::{Entry, check_entries};
use crate::format::units::{SECTOR, SECTOR_LEN};
use crate::host::{Buffer, OpenRequest, Severity};

use super::bitmap::Bitmap;
use super::error::{Error, ErrorKind, Result};
use super::file::{File, length};
use super::table::Table;
use super::task::Executor;

/// Bytes of the journal that are read at once.
const JOURNAL_STEP: u64 = 1 << 20;

/// How the image was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// Closed, and its journal is empty.
    Clean,
    /// Closed, but records stand in its journal: whoever closed it leaves them behind.
    CleanWithRecords,
    /// Not closed. Records may stand in the first `journal_reach` bytes of its journal.
    Crashed {
        /// Bytes.
        journal_reach: u64,
    },
    /// It has no journal to recover from.
    NoJournal,
}

/// The metadata of an image.
pub(super) struct Loaded {
    pub(super) file: Rc<File>,
    pub(super) header: Header,
    pub(super) geometry: Geometry,
    pub(super) bitmap: Option<Bitmap>,
    pub(super) table: Option<Table>,
    pub(super) shutdown: Shutdown,
}

/// Opens an image's metadata file and reads all of it. `decode` reads the header.
pub(super) async fn load(
    executor: &Rc<Executor>,
    request: OpenRequest,
    decode: impl FnOnce(&[u8]) -> Result<Header>,
) -> Result<Loaded> {
    let name = request.name.clone();
    let file = Rc::new(File::open(executor, request).await?);
    load_from(executor, file, decode)
        .await
        .map_err(|error| error.context(format!("'{name}'")))
}

async fn load_from(
    executor: &Executor,
    file: Rc<File>,
    decode: impl FnOnce(&[u8]) -> Result<Header>,
) -> Result<Loaded> {
    if file.length_at_open < Header::LEN as u64 {
        let what = format!(
            "{} bytes are too short for an FVD image",
            file.length_at_open
        );
        return Err(Error::new(ErrorKind::Corrupt, what));
    }
    let header = decode(file.read(0, Header::LEN).await?.bytes())?;
    let geometry = Geometry::from_header(&header, file.length_at_open)?;
    let bitmap = match &geometry.blocks {
        Some(b) => Some(Bitmap::from_bytes(
            start_of(&file, b.bitmap, b.count, 4096).await?.bytes(),
        )),
        None => None,
    };
    let table = match &geometry.chunks {
        Some(c) => Some(Table::from_bytes(
            start_of(&file, c.table, c.entries, 128).await?.bytes(),
        )),
        None => None,
    };
    let mut loaded = Loaded {
        file,
        header,
        geometry,
        bitmap,
        table,
        shutdown: Shutdown::NoJournal,
    };
    if let Some(journal) = loaded.geometry.journal {
        loaded.shutdown = loaded.look_at(executor, journal).await?;
    }
    if let (Some(table), Some(chunks)) = (&loaded.table, &loaded.geometry.chunks) {
        let entries = (0..chunks.entries).map(|index| table.get(index));
        check_entries(entries, chunks, loaded.geometry.data_start())?;
    }
    Ok(loaded)
}

/// The sectors of a region that hold its first `items`, of which a sector has `per_sector`.
async fn start_of(file: &File, region: Region, items: u64, per_sector: u64) -> Result<Buffer> {
    let bytes = items.div_ceil(per_sector) * SECTOR;
    file.read(region.start.get(), length(&(0..bytes))).await
}

impl Loaded {
    /// Finds out how the image was left, and replays its journal where it must be.
    async fn look_at(&self, executor: &Executor, journal: Region) -> Result<Shutdown> {
        if !self.header.clean_shutdown {
            let journal_reach = self.replay(executor, journal).await?;
            return Ok(Shutdown::Crashed { journal_reach });
        }
        let mut first = self.file.read(journal.start.get(), SECTOR_LEN).await?;
        Ok(match first.bytes()[..4] {
            [0, 0, 0, 0] => Shutdown::Clean,
            _ => Shutdown::CleanWithRecords,
        })
    }

    /// Applies every record of the whole journal to bitmap and table; returns up to where something
    /// stands in it.
    async fn replay(&self, executor: &Executor, journal: Region) -> Result<u64> {
        let mut reach = 0;
        let mut at = 0;
        while at < journal.len {
            let step = JOURNAL_STEP.min(journal.len - at);
            let mut bytes = self
                .file
                .read(journal.start.get() + at, length(&(0..step)))
                .await?;
            let (sectors, _) = bytes.bytes().as_chunks::<SECTOR_LEN>();
            for (index, sector) in sectors.iter().enumerate() {
                if sector.iter().any(|byte| *byte != 0) {
                    let number = at / SECTOR + index as u64;
                    reach = (number + 1) * SECTOR;
                    self.apply(executor, number, sector);
                }
            }
            at += step;
        }
        Ok(reach)
    }

    /// Applies the records of one sector. What is out of range is skipped with a warning.
    fn apply(&self, executor: &Executor, number: u64, sector: &[u8; SECTOR_LEN]) {
        let warn = |warning: &dyn std::fmt::Display| {
            let place = format!("'{}': journal sector {number}", self.file.name());
            executor.log(Severity::Warning, format!("{place}: {warning}"));
        };
        for record in records(sector) {
            match record.as_ref().map(|record| record.change(&self.geometry)) {
                Ok(Ok(Change::Present(blocks))) => {
                    self.bitmap
                        .iter()
                        .for_each(|bitmap| bitmap.set(blocks.clone()));
                }
                Ok(Ok(Change::Entries { first, raw })) => self.set_entries(first, raw),
                Ok(Err(warning)) => warn(&warning),
                Err(warning) => warn(warning),
            }
        }
    }

    fn set_entries(&self, first: u32, raw: &[u32]) {
        let Some(table) = &self.table else { return };
        for (index, raw) in (u64::from(first)..).zip(raw) {
            if let Some(number) = Entry::from_raw(*raw).number() {
                table.set(index, number);
            }
        }
    }
}
