//! Opening the image: after a clean close, after a crash, crashing again, with faults.
//!
//! Whatever cut an attempt short, the next one goes on from there, and after a few it is let alone.
//! An open that succeeds is followed by a look at the whole disk.

use std::rc::Rc;

use fvd::host::Host;
use fvd::host::sim::{Crash, Faults, Knobs, SECTOR};
use fvd::{Image, OpenOptions};

use super::{Attempt, Life};
use crate::harness::inspect;
use crate::harness::world::IMAGE;

impl Life {
    /// The host died: everything under way is over. Opens the image again.
    pub(super) fn recover(&mut self) -> Result<(), String> {
        if let Some(image) = self.guest.take_image() {
            // SAFETY: a dead host touches no memory.
            unsafe { image.abandon() };
        }
        self.guest.flush_failed();
        self.guest.forget_requests();
        self.guest.oracle.borrow_mut().crashed();
        let crash = self.revive(Crash::Kill);
        self.reopen(Some(crash))
    }

    /// Starts the machine again. Returns the worse of `before` and how it died.
    fn revive(&mut self, before: Crash) -> Crash {
        let died = self.host.dead().expect("only a dead host is revived");
        match died {
            Crash::PowerCut => self.counts.power_cuts += 1,
            Crash::Kill => self.counts.kills += 1,
        }
        self.host.revive();
        if before == Crash::PowerCut {
            before
        } else {
            died
        }
    }

    /// Opens the image, after a crash or a clean close (`None`), however often that is cut short.
    pub(super) fn reopen(&mut self, mut after: Option<Crash>) -> Result<(), String> {
        for attempt in 0.. {
            let calm = attempt >= 5;
            if !calm && self.rng.chance(self.scenario.trouble.crash_again) {
                let plan = (self.draw_when(100), self.draw_crash());
                self.host.plan_crash(Some(plan));
            }
            let faults = !calm && self.rng.chance(300);
            let mut attempt = self.change(faults)?;
            if attempt == Attempt::Done {
                attempt = self.try_to_open(after, faults)?;
            }
            match attempt {
                Attempt::Done => break,
                Attempt::Died => {
                    self.give_up_session();
                    after = Some(self.revive(after.unwrap_or(Crash::Kill)));
                }
                Attempt::Failed => {
                    self.give_up_session();
                    after = Some(after.unwrap_or(Crash::Kill));
                }
            }
        }
        self.host.set_knobs(self.scenario.knobs);
        self.counts.sessions += 1;
        Ok(())
    }

    /// An open, or the look at the disk after it, came to nothing.
    fn give_up_session(&mut self) {
        if let Some(image) = self.guest.take_image() {
            // SAFETY: either the host is dead, or nothing is under way after a look.
            unsafe { image.abandon() };
        }
        self.guest.oracle.borrow_mut().crashed();
    }

    pub(super) fn knobs(&self, faults: bool) -> Knobs {
        let Knobs { faults: drawn, .. } = self.scenario.knobs;
        Knobs {
            faults: if faults { drawn } else { Faults::default() },
            ..self.scenario.knobs
        }
    }

    fn try_to_open(&mut self, after: Option<Crash>, faults: bool) -> Result<Attempt, String> {
        if self.rng.chance(self.scenario.trouble.look) {
            let looked = self.look_read_only(after)?;
            if looked != Attempt::Done {
                return Ok(looked);
            }
        }
        self.host.set_knobs(self.knobs(faults));
        let before = self.host.stats();
        let opened = self.open(false);
        let stats = self.host.stats();
        self.host.set_knobs(self.knobs(false));
        if stats.failed_flushes > before.failed_flushes {
            self.guest.oracle.borrow_mut().host_flush_failed();
        }
        match opened {
            Ok(image) if stats.failed_flushes > before.failed_flushes => {
                drop(image);
                Err("an open succeeded though a flush failed".into())
            }
            Ok(image) => {
                inspect::recovery_was_bounded(&image, stats.bytes - before.bytes)?;
                inspect::space_is_free_again(&image)?;
                self.settle_size(&image)?;
                self.guest.begin(image);
                self.look(after)
            }
            Err(_) if self.host.dead().is_some() => Ok(Attempt::Died),
            Err(_) if stats.errors > before.errors => Ok(Attempt::Failed),
            Err(error) => Err(format!("the image does not open by itself: {error}")),
        }
    }

    fn open(&self, read_only: bool) -> Result<Image, fvd::Error> {
        let host: Rc<dyn Host> = self.host.clone();
        let write_through = self.scenario.layout.write_through;
        let fast_path = self.fast_path;
        let journal_limit = self.scenario.layout.journal_limit;
        let options = OpenOptions {
            read_only,
            write_through,
            fast_path,
            journal_limit,
            ..OpenOptions::default()
        };
        Image::open(&host, IMAGE, &options)
    }

    /// Somebody looks at the image before it is recovered.
    pub(super) fn look_read_only(&mut self, after: Option<Crash>) -> Result<Attempt, String> {
        self.host.set_knobs(self.knobs(false));
        match self.open(true) {
            Ok(image) => self.guest.begin(image),
            Err(_) if self.host.dead().is_some() => return Ok(Attempt::Died),
            Err(error) => return Err(format!("the image does not open read-only: {error}")),
        }
        let looked = self.look(after)?;
        if looked == Attempt::Done {
            let image = self.guest.take_image().expect("it was looked at");
            if let Err(error) = image.close()
                && self.host.dead().is_none()
            {
                return Err(format!("closing a read-only image failed: {error}"));
            }
        }
        Ok(if self.host.dead().is_some() {
            Attempt::Died
        } else {
            looked
        })
    }

    /// Reads the whole disk, and compares.
    fn look(&mut self, after: Option<Crash>) -> Result<Attempt, String> {
        // An update that was cut may have given it another size, which is not judged yet.
        let size = self.guest.oracle.borrow().sectors() * SECTOR as u64;
        let piece = self.rng.pick(&[64 << 10, 256 << 10, 1 << 20]);
        let mut offset = 0;
        let mut disk = std::mem::take(&mut self.bytes);
        disk.resize(disk.len().max(index(size)), 0);
        while offset < size {
            let len = piece.min(size - offset);
            let bytes = &mut disk[index(offset)..index(offset + len)];
            let read = self.guest.oracle.borrow_mut().begin_read();
            let result = self.guest.with_image(|image| image.read_at(offset, bytes));
            if self.host.dead().is_some() {
                return Ok(Attempt::Died);
            }
            if let Some(Err(error)) = result {
                return Err(format!("a look at the disk failed: {error}"));
            }
            let mut oracle = self.guest.oracle.borrow_mut();
            let judged = match after {
                Some(crash) => oracle.observe(crash, offset / 512, bytes),
                None => oracle.check_read(read, offset / 512, bytes),
            };
            judged.map_err(|violation| violation.to_string())?;
            oracle.end_read(read);
            offset += len;
        }
        let map = |image: &Image| inspect::map(image, &disk[..index(size)], self.first_write);
        self.guest.with_image(map).unwrap_or(Ok(()))?;
        self.bytes = disk;
        Ok(Attempt::Done)
    }
}

/// A byte number as an index into what a look reads.
fn index(n: u64) -> usize {
    usize::try_from(n).expect("a small disk")
}
