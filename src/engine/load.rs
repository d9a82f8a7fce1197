//! Loading: the metadata of one image, in memory and checked, with nothing written.
//!
//! Where the image was not shut down cleanly its journal is replayed into memory, so a read-only
//! open sees what a recovery would restore. Everything here comes from a file that may be hostile:
//! it is checked before it is believed, after the replay as well.

use std::rc::Rc;

use crate::format::geometry::{Geometry, Region};
use crate::format::header::Header;
use crate::format::journal::{Change, Warning, records};
use crate::format::limits::MAX_BITMAP_AND_TABLE;
use crate::format::table::{Entry, check_entries};
use crate::format::units::{SECTOR, SECTOR_LEN};
use crate::host::{OpenRequest, Severity};

use super::bitmap::Bitmap;
use super::buffer::steps;
use super::error::{Error, ErrorKind, Result};
use super::file::File;
use super::layer::{Backing, DataFile, Layer};
use super::range_set::RangeSet;
use super::table::Table;
use super::task::Executor;

/// Bytes of the journal that are read at once.
const JOURNAL_STEP: u64 = 1 << 20;
/// Ranges of present blocks that a replay collects before it sets their bits.
const MOST_RANGES: usize = 1 << 16;
/// Warnings of a replay that are logged one by one.
const MOST_WARNINGS: u64 = 10;

/// How the image was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    /// Closed, and its journal is empty.
    Clean,
    /// Closed, but records stand in its journal: whoever closed it leaves them behind.
    CleanWithRecords,
    /// Not closed: its journal counts.
    Crashed,
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

/// Opens an image's metadata file and reads all of it. `decode` reads the header; bitmap and table
/// may take `memory` bytes, of which what they take is taken off.
pub(super) async fn load(
    executor: &Rc<Executor>,
    request: OpenRequest,
    memory: &mut u64,
    decode: impl FnOnce(&[u8]) -> Result<Header>,
) -> Result<Loaded> {
    let name = request.name.clone();
    let file = Rc::new(File::open(executor, request).await?);
    let loaded = load_from(executor, file, memory, decode).await;
    loaded.map_err(|error| error.context(format!("'{name}'")))
}

async fn load_from(
    executor: &Executor,
    file: Rc<File>,
    memory: &mut u64,
    decode: impl FnOnce(&[u8]) -> Result<Header>,
) -> Result<Loaded> {
    let len = Header::LEN as u64;
    if file.length_at_open < len {
        let what = format!(
            "{} bytes are too short for an FVD image",
            file.length_at_open
        );
        return Err(Error::new(ErrorKind::Corrupt, what));
    }
    let header = decode(file.read(0, len).await?.bytes_mut())?;
    let geometry = Geometry::from_header(&header, file.length_at_open)?;
    let needed = geometry.blocks.as_ref().map_or(0, Bitmap::stored_len)
        + geometry.chunks.as_ref().map_or(0, Table::stored_len);
    *memory = memory.checked_sub(needed).ok_or_else(|| {
        let what = format!("bitmap and table need {needed} bytes of memory");
        let hint = format!("with its base images only {memory} of {MAX_BITMAP_AND_TABLE} are left");
        Error::new(ErrorKind::Corrupt, format!("{what}; {hint}"))
    })?;
    let mut loaded = Loaded {
        bitmap: load_bitmap(&file, &geometry).await?,
        table: load_table(&file, &geometry).await?,
        file,
        header,
        geometry,
        shutdown: Shutdown::NoJournal,
    };
    if let Some(journal) = loaded.geometry.journal {
        loaded.shutdown = loaded.read_journal(executor, journal).await?;
    }
    if let Some(table) = &loaded.table {
        check_entries(table.numbers(), &table.chunks, loaded.geometry.data_start())?;
    }
    Ok(loaded)
}

async fn load_bitmap(file: &File, geometry: &Geometry) -> Result<Option<Bitmap>> {
    let Some(blocks) = geometry.blocks else {
        return Ok(None);
    };
    let mut bytes = file
        .read(blocks.bitmap.start.get(), Bitmap::stored_len(&blocks))
        .await?;
    Ok(Some(Bitmap::from_bytes(blocks, bytes.bytes_mut())))
}

async fn load_table(file: &File, geometry: &Geometry) -> Result<Option<Table>> {
    let Some(chunks) = geometry.chunks else {
        return Ok(None);
    };
    let mut bytes = file
        .read(chunks.table.start.get(), Table::stored_len(&chunks))
        .await?;
    Ok(Some(Table::from_bytes(
        chunks,
        geometry.data_start(),
        bytes.bytes_mut(),
    )))
}

impl Loaded {
    /// The layer that this metadata describes, over its data file and base image.
    pub(super) fn with(self, data: Rc<File>, backing: Option<Backing>) -> Layer {
        let Self {
            file,
            geometry,
            bitmap,
            table,
            ..
        } = self;
        let data = DataFile::new(data, geometry.data_start());
        Layer {
            geometry,
            bitmap,
            table,
            metadata: file,
            data,
            backing,
        }
    }

    /// Reads the journal as far as it counts: replays it where the image was not closed. Says how
    /// the image was left.
    async fn read_journal(&self, executor: &Executor, journal: Region) -> Result<Shutdown> {
        if !self.header.clean_shutdown {
            self.replay(executor, journal).await?;
            return Ok(Shutdown::Crashed);
        }
        let mut first = self.file.read(journal.start.get(), SECTOR).await?;
        Ok(match first.bytes_mut()[..4] {
            [0, 0, 0, 0] => Shutdown::Clean,
            _ => Shutdown::CleanWithRecords,
        })
    }

    /// Applies every record of the whole journal to bitmap and table.
    async fn replay(&self, executor: &Executor, journal: Region) -> Result<()> {
        let mut replay = Replay {
            loaded: self,
            present: RangeSet::default(),
            warnings: 0,
        };
        for step in steps(0..journal.len, JOURNAL_STEP) {
            let start = journal.start + step.start;
            let mut bytes = self.file.read(start.get(), step.end - step.start).await?;
            let (sectors, _) = bytes.bytes_mut().as_chunks::<SECTOR_LEN>();
            for (number, sector) in (step.start / SECTOR..).zip(sectors) {
                replay.apply(executor, number, sector);
            }
        }
        replay.finish(executor);
        Ok(())
    }
}

/// A replay under way.
struct Replay<'a> {
    loaded: &'a Loaded,
    /// Blocks to be set at the end, once each: records may say the same of a long range many times.
    present: RangeSet,
    warnings: u64,
}

impl Replay<'_> {
    /// Applies the records of one sector. What is out of range is skipped with a warning.
    fn apply(&mut self, executor: &Executor, number: u64, sector: &[u8; SECTOR_LEN]) {
        for record in records(sector) {
            let change = record
                .as_ref()
                .map(|record| record.change(&self.loaded.geometry));
            match change {
                Ok(Ok(Change::Present(blocks))) => {
                    self.present.insert(&blocks);
                    if self.present.ranges() == MOST_RANGES {
                        self.set_present();
                    }
                }
                Ok(Ok(Change::Entries { first, raw })) => self.set_entries(first, raw),
                Ok(Err(warning)) => self.warn(executor, number, &warning),
                Err(warning) => self.warn(executor, number, warning),
            }
        }
    }

    /// Sets the bits of what was collected.
    fn set_present(&mut self) {
        let present = std::mem::take(&mut self.present);
        if let Some(bitmap) = &self.loaded.bitmap {
            present.iter().for_each(|blocks| bitmap.set(blocks));
        }
    }

    fn set_entries(&self, first: u32, raw: &[u32]) {
        let Some(table) = &self.loaded.table else {
            return;
        };
        for (entry, raw) in (u64::from(first)..).zip(raw) {
            if let Some(number) = Entry::from_raw(*raw).number() {
                table.set(entry, number);
            }
        }
    }

    fn warn(&mut self, executor: &Executor, number: u64, warning: &Warning) {
        self.warnings += 1;
        if self.warnings <= MOST_WARNINGS {
            let place = format!("'{}': journal sector {number}", self.loaded.file.name());
            executor.log(Severity::Warning, format!("{place}: {warning}"));
        }
    }

    fn finish(mut self, executor: &Executor) {
        self.set_present();
        if self.warnings > MOST_WARNINGS {
            let (name, all) = (self.loaded.file.name(), self.warnings);
            let message = format!("'{name}': {all} journal records in all were skipped");
            executor.log(Severity::Warning, message);
        }
    }
}
