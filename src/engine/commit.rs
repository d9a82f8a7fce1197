//! Commit: how what memory knows becomes what the disk knows.
//!
//! A *round* makes everything durable that was dirty when it began:
//!
//! ```text
//!   fix the dirty set and every byte to be written     (nothing is written from live memory)
//!   flush the data                                      (no metadata before the data it speaks of)
//!   journal:   sectors ──▶ flush
//!   in place:  table ──▶ flush ──▶ bitmap ──▶ flush     (no bit before the entry it needs)
//! ```
//!
//! Rounds never overlap. A flush that arrives during one shares the next, so any number of them
//! cost one round. A round in place is also a checkpoint: it writes what the journal had committed
//! as well, and the journal starts again at its first sector. A round that fails leaves everything
//! in it guest-dirty; a *flush* that fails ends all writing until the image is opened again,
//! because the kernel may have dropped what it could not write.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;

use crate::format::units::{MetaOffset, SECTOR};
use crate::host::{Buffer, Memory};

use super::bitmap::Bitmap;
use super::buffer::copy_of;
use super::canary::{Canary, planted};
use super::core::Core;
use super::dirty::Changes;
use super::error::Result;
use super::file::{File, join};
use super::journal::Journal;
use super::layer::Layer;
use super::record::record;
use super::table::Table;
use super::task::WaitList;

/// What one more write costs, in bytes written at the same time.
const COST_OF_A_WRITE: u64 = 4 << 10;
/// What one more flush costs, in bytes written at the same time.
const COST_OF_A_FLUSH: u64 = 64 << 10;
/// Writes in place that are under way at the same time.
const WRITES_AT_ONCE: usize = 64;

/// The state of an image's commits.
pub(super) struct Committer {
    pub(super) journal: RefCell<Option<Journal>>,
    /// The round that flushes which arrive now wait for. Who holds a share of it wants it to run.
    next: RefCell<Rc<Round>>,
    running: Cell<bool>,
    /// Completed writes of data.
    writes: Cell<u64>,
    /// What `writes` was when the last good flush of the data was submitted; `None`: none since
    /// open.
    flushed: Cell<Option<u64>>,
}

/// One round, as those who wait for it see it.
#[derive(Default)]
struct Round {
    /// Whatever is cheaper, it goes in place.
    in_place: Cell<bool>,
    result: RefCell<Option<Result<()>>>,
    waiting: WaitList,
}

impl Round {
    /// True if anybody but the committer holds it.
    fn is_wanted(self: &Rc<Self>) -> bool {
        Rc::strong_count(self) > 1
    }
}

impl Committer {
    pub(super) fn new(journal: Option<Journal>) -> Self {
        Self {
            journal: RefCell::new(journal),
            next: RefCell::default(),
            running: Cell::default(),
            writes: Cell::default(),
            flushed: Cell::default(),
        }
    }

    /// A write of data has completed.
    #[inline]
    pub(super) fn data_written(&self) {
        self.writes.set(self.writes.get() + 1);
    }
}

impl Core {
    /// Makes durable what has completed before this call.
    pub(super) async fn commit(self: &Rc<Self>) -> Result<()> {
        let round = Rc::clone(&self.committer.next.borrow());
        self.join(&round).await
    }

    /// A commit that brings bitmap and table up to date in place.
    pub(super) async fn checkpoint(self: &Rc<Self>) -> Result<()> {
        let round = Rc::clone(&self.committer.next.borrow());
        round.in_place.set(true);
        self.join(&round).await
    }

    async fn join(self: &Rc<Self>, round: &Rc<Round>) -> Result<()> {
        self.executor.step("committing");
        if !self.committer.running.replace(true) {
            self.executor.spawn(run_rounds(Rc::clone(self)));
        }
        loop {
            if let Some(result) = round.result.borrow().clone() {
                return result;
            }
            round.waiting.wait(&self.executor).await;
        }
    }
}

/// Runs rounds as long as anybody waits for one.
async fn run_rounds(core: Rc<Core>) {
    while core.committer.next.borrow().is_wanted() {
        let round = core.committer.next.take();
        let result = run_round(&core, round.in_place.get()).await;
        *round.result.borrow_mut() = Some(result);
        round.waiting.wake_all(&core.executor);
    }
    core.committer.running.set(false);
}

async fn run_round(core: &Core, in_place: bool) -> Result<()> {
    if core.config.read_only {
        return Ok(());
    }
    core.check_not_failed()?;
    if planted(Canary::DirtySetAfterDataFlush) {
        flush_data(core).await?;
    }
    let plan = Plan::make(core, in_place)?;
    let result = plan.carry_out(core).await;
    plan.conclude(core, result.is_ok());
    result
}

/// Everything that a round writes, with the bytes as they were when it began.
struct Plan {
    changes: Changes,
    way: Way,
}

enum Way {
    /// Nothing but data.
    DataOnly,
    /// Sectors for the journal, at this offset of the metadata file.
    Journal { at: u64, sectors: Rc<Buffer> },
    /// Parts of table and bitmap; `stale` is what only the journal had.
    InPlace {
        stale: Changes,
        table: Vec<Part>,
        bitmap: Vec<Part>,
    },
}

/// Bytes for the metadata file, and where they go.
type Part = (MetaOffset, Rc<Buffer>);

impl Plan {
    /// Takes the dirty set, and fixes every byte.
    fn make(core: &Core, in_place: bool) -> Result<Self> {
        let mut dirty = core.dirty.borrow_mut();
        if dirty.guest.is_empty() && !in_place {
            return Ok(Self {
                changes: Changes::default(),
                way: Way::DataOnly,
            });
        }
        if !in_place && let Some(way) = Self::by_journal(core, &dirty.guest)? {
            return Ok(Self {
                changes: std::mem::take(&mut dirty.guest),
                way,
            });
        }
        let mut all = dirty.guest.clone();
        all.merge(&dirty.copied);
        all.merge(&dirty.stale);
        let Layer { table, bitmap, .. } = &core.layer;
        let table = parts(table.as_ref(), all.entries.sectors(), Table::part)?;
        let bitmap = parts(bitmap.as_ref(), all.blocks.sectors(), Bitmap::part)?;
        let mut changes = std::mem::take(&mut dirty.guest);
        changes.merge(&std::mem::take(&mut dirty.copied));
        let stale = std::mem::take(&mut dirty.stale);
        Ok(Self {
            changes,
            way: Way::InPlace {
                stale,
                table,
                bitmap,
            },
        })
    }

    /// The journal's sectors for `guest`, if there is room for them and they cost less than writing
    /// its own sectors in place would (what else such a round writes must be written one day).
    fn by_journal(core: &Core, guest: &Changes) -> Result<Option<Way>> {
        let mut journal = core.committer.journal.borrow_mut();
        let Some(journal) = journal.as_mut() else {
            return Ok(None);
        };
        let in_place = cost(guest.blocks.sectors()) + cost(guest.entries.sectors());
        let room = journal.room().min(in_place + COST_OF_A_FLUSH);
        let Some(mut sectors) = record(&core.layer, guest, room) else {
            return Ok(None);
        };
        let at = journal.place(&mut sectors);
        let sectors = copy_of(&sectors).inspect_err(|_| journal.take_back(at))?;
        Ok(Some(Way::Journal {
            at,
            sectors: Rc::new(sectors),
        }))
    }

    async fn carry_out(&self, core: &Core) -> Result<()> {
        let metadata = &core.layer.metadata;
        core.executor.step("flushing the data");
        if !planted(Canary::DirtySetAfterDataFlush) && !planted(Canary::NoDataFlush) {
            flush_data(core).await?;
        }
        match &self.way {
            Way::DataOnly => Ok(()),
            Way::Journal { at, sectors } => {
                core.executor.step("writing the journal");
                core.count(|stats| stats.journal_rounds += 1);
                metadata
                    .start_write(*at, Memory::of(sectors))
                    .done()
                    .await?;
                flush_or_stop(core, metadata).await
            }
            Way::InPlace { table, bitmap, .. } => {
                core.executor.step("writing table and bitmap");
                core.count(|stats| stats.in_place_rounds += 1);
                let swapped = planted(Canary::BitmapBeforeTable);
                let (first, second) = if swapped {
                    (bitmap, table)
                } else {
                    (table, bitmap)
                };
                write_parts(core, first).await?;
                write_parts(core, second).await
            }
        }
    }

    /// Takes note of what is durable now, or dirty again.
    fn conclude(self, core: &Core, good: bool) {
        let mut dirty = core.dirty.borrow_mut();
        let mut journal = core.committer.journal.borrow_mut();
        match (self.way, good) {
            (Way::Journal { .. }, true) => dirty.stale.merge(&self.changes),
            (Way::InPlace { .. }, true) => journal.iter_mut().for_each(Journal::restart),
            (Way::DataOnly, _) => {}
            (Way::Journal { at, .. }, false) => {
                dirty.guest.merge(&self.changes);
                journal.iter_mut().for_each(|journal| journal.take_back(at));
            }
            (Way::InPlace { stale, .. }, false) => {
                dirty.guest.merge(&self.changes);
                dirty.stale.merge(&stale);
            }
        }
    }
}

/// Flushes the data, unless nothing was written to it since the last time; the first time after
/// open always, and the metadata too, since an earlier process may have left something in a cache.
async fn flush_data(core: &Core) -> Result<()> {
    let committer = &core.committer;
    let writes = committer.writes.get();
    let before = committer.flushed.get();
    if before == Some(writes) {
        return Ok(());
    }
    flush_or_stop(core, &core.layer.data.file).await?;
    if before.is_none() && core.layer.has_data_file() {
        flush_or_stop(core, &core.layer.metadata).await?;
    }
    committer.flushed.set(Some(writes));
    Ok(())
}

/// Flushes a file; where that fails, nothing is written any more.
pub(super) async fn flush_or_stop(core: &Core, file: &File) -> Result<()> {
    core.count(|stats| stats.host_flushes += 1);
    file.flush()
        .await
        .inspect_err(|error| core.flush_failed(error))
}

/// Writes parts of table or bitmap, and makes them durable.
async fn write_parts(core: &Core, parts: &[Part]) -> Result<()> {
    let metadata = &core.layer.metadata;
    for some in parts.chunks(WRITES_AT_ONCE) {
        let write = |(at, bytes): &Part| metadata.start_write(at.get(), Memory::of(bytes));
        join(some.iter().map(write).collect()).await?;
    }
    if parts.is_empty() {
        Ok(())
    } else {
        flush_or_stop(core, metadata).await
    }
}

/// The bytes of runs of sectors of table or bitmap, as they are now.
fn parts<T>(
    source: Option<&T>,
    runs: impl Iterator<Item = Range<u64>>,
    part: impl Fn(&T, &Range<u64>) -> Result<(MetaOffset, Buffer)>,
) -> Result<Vec<Part>> {
    let Some(source) = source else {
        return Ok(Vec::new());
    };
    runs.map(|run| part(source, &run).map(|(at, bytes)| (at, Rc::new(bytes))))
        .collect()
}

/// What it costs to write these runs of sectors.
fn cost(runs: impl Iterator<Item = Range<u64>>) -> u64 {
    runs.map(|run| COST_OF_A_WRITE + (run.end - run.start) * SECTOR)
        .sum()
}
