//! Changing attributes of the image between two sessions, and being cut short in it.
//!
//! An update that did not end well happened or not. A size may be left at that, and is settled by
//! the next open; a name that spans sectors may be half changed, so that update is repeated until
//! it ends well.

use std::rc::Rc;

use fvd::host::Host;
use fvd::host::sim::SECTOR;
use fvd::{Attribute, Image, OpenOptions};

use super::{Attempt, Life};
use crate::harness::scenario::Base;
use crate::harness::world::IMAGE;

/// Disks grow up to this size, in bytes: they are read often.
const LARGEST: u64 = 6 << 20;

/// What updates have done, and may have done.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// The largest size that the image can be given, in bytes.
    pub(super) room: u64,
    /// The size in sectors that a cut update may have given it.
    maybe_sectors: Option<u64>,
    /// A cut update that must be repeated.
    unfinished: Option<String>,
}

impl Life {
    /// Changes something, now and then, or goes on with what was cut short.
    pub(super) fn change(&mut self, faults: bool) -> Result<Attempt, String> {
        let text = match self.changes.unfinished.take() {
            Some(text) => text,
            None if self.rng.chance(self.scenario.trouble.change) => self.draw_change(),
            None => return Ok(Attempt::Done),
        };
        let attribute = Attribute::parse(&text).map_err(|error| format!("{text}: {error}"))?;
        self.trace.note(&[], format_args!("update {text}"));
        self.host.set_knobs(self.knobs(faults));
        let before = self.host.stats();
        let host: Rc<dyn Host> = self.host.clone();
        let result = Image::update(
            &host,
            IMAGE,
            std::slice::from_ref(&attribute),
            &OpenOptions::default(),
        );
        let stats = self.host.stats();
        self.host.set_knobs(self.knobs(false));
        if stats.failed_flushes > before.failed_flushes {
            self.guest.oracle.borrow_mut().host_flush_failed();
        }
        let size = match attribute {
            Attribute::Size(bytes) => Some(bytes.div_ceil(SECTOR as u64)),
            _ => None,
        };
        if let Err(error) = result {
            self.changes.maybe_sectors = size.or(self.changes.maybe_sectors);
            self.changes.unfinished = size.is_none().then_some(text);
            return match self.host.dead() {
                Some(_) => Ok(Attempt::Died),
                None if stats.errors > before.errors => Ok(Attempt::Failed),
                None => Err(format!("an update failed for no reason: {error}")),
            };
        }
        if let Some(sectors) = size {
            self.guest.oracle.borrow_mut().grow(sectors);
        }
        match stats.failed_flushes > before.failed_flushes {
            true => Err("an update succeeded though a flush failed".into()),
            false => Ok(Attempt::Done),
        }
    }

    fn draw_change(&mut self) -> String {
        let size = self.guest.oracle.borrow().sectors() * SECTOR as u64;
        let largest = self.changes.room.min(LARGEST);
        if size < largest && self.changes.maybe_sectors.is_none() && self.rng.chance(600) {
            let more = self.rng.skewed(largest - size);
            return format!("size={}", size + more);
        }
        // Steps that lead nowhere make a name as long as need be.
        let detour = "./".repeat(usize::try_from(self.rng.skewed(480)).expect("a short name"));
        match (
            self.scenario.layout.base,
            self.scenario.layout.place.has_data_file(),
        ) {
            (_, true) if self.rng.chance(500) => format!("data_file={detour}disk.data"),
            (Base::Raw(_), _) => format!("base_img={detour}base.raw"),
            (Base::Fvd(_), _) => format!("base_img={detour}middle.fvd"),
            _ => format!("prefetch_start_delay={}", self.rng.below(100)),
        }
    }

    /// The image was opened for writing, and so says for good what size it has.
    pub(super) fn settle_size(&mut self, image: &Image) -> Result<(), String> {
        let info = image.info();
        let layout = &self.scenario.layout;
        let fixed = layout.chunk_size.is_none() && layout.place.is_device();
        self.changes.room = if fixed {
            0
        } else {
            info.geometry.max_virtual_size()
        };
        let sectors = image.virtual_size() / SECTOR as u64;
        let mut oracle = self.guest.oracle.borrow_mut();
        let maybe = self.changes.maybe_sectors.take();
        if sectors == oracle.sectors() {
            return Ok(());
        }
        if maybe == Some(sectors) {
            oracle.grow(sectors);
            return Ok(());
        }
        Err(format!(
            "the disk has {sectors} sectors instead of {}",
            oracle.sectors()
        ))
    }
}
