//! How a simulated host dies, and comes back.

use super::World;
use super::flight::FlightKey;
use crate::host::OpKind;
use crate::host::sim::knobs::Crash;
use crate::host::sim::survival::Survival;

impl World {
    /// Ends everything: what is in flight took effect or not, and the disks suffer what the crash
    /// does.
    pub(super) fn die(&mut self, crash: Crash) {
        self.trace.note(&[crash as u64], format_args!("{crash:?}"));
        let mut keys: Vec<FlightKey> = self.flights.keys().collect();
        while !keys.is_empty() {
            let next = super::index(self.rng.below(keys.len() as u64));
            self.end_flight(keys.swap_remove(next), crash);
        }
        for named in &mut self.files {
            match crash {
                Crash::Kill => named.file.kill(),
                Crash::PowerCut => {
                    let survival = Survival::draw(&mut self.rng, named.file.len() / 512);
                    named.file.power_cut(&mut self.rng, survival);
                }
            }
        }
        self.flights.clear();
        self.queue.clear();
        self.planned = None;
        self.dead = Some(crash);
    }

    /// What was submitted but not reported may have happened: wholly, partly, or not.
    fn end_flight(&mut self, key: FlightKey, crash: Crash) {
        let flight = &self.flights[key];
        if flight.result.is_some() && !matches!(flight.kind, OpKind::Flush) {
            return;
        }
        match flight.kind {
            OpKind::Write { .. } | OpKind::WriteZeroes { .. } | OpKind::Truncate { .. } => {
                let (offset, len) = flight.range();
                let file = &self.files[flight.file].file;
                let fits = !file.is_device() || offset + len <= file.len();
                let tear = self.rng.chance(500);
                if fits && self.rng.chance(667) {
                    self.take_effect(key, tear);
                }
            }
            OpKind::Flush if crash == Crash::Kill && self.rng.chance(500) => {
                let (file, stamp) = (flight.file, flight.stamp);
                self.files[file].file.flush_end(stamp);
            }
            OpKind::Flush | OpKind::Read { .. } | OpKind::Grow { .. } => {}
        }
    }

    pub(super) fn revive(&mut self) {
        assert!(
            self.flights.is_empty(),
            "a host comes back with nothing under way"
        );
        self.dead = None;
        self.planned = None;
        self.opened.iter_mut().for_each(|opened| *opened = None);
        for named in &mut self.files {
            (named.readers, named.writers) = (0, 0);
        }
    }
}
