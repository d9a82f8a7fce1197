//! What a guest asks for: which request, where, and with what memory.

use std::ffi::{c_int, c_void};

use fvd::host::sim::{Content, Ending, SECTOR, WriteId};

use fvd::{Callback, Image};

use super::{Guest, Memory, What};

impl Guest {
    /// Submits a request of whatever kind. True: its end means that something is durable.
    pub(crate) fn submit(&self) -> bool {
        if self.draw(5) {
            self.submit_nonsense();
        }
        let kind = self.rng.borrow_mut().weighted(&self.mix.weights);
        match kind {
            0 => self.submit_read(),
            1 => return self.submit_write(),
            2 => self.submit_flush(),
            _ => self.submit_fetch(),
        }
        kind == 2
    }

    /// What is not whole sectors of the disk is refused, and its callback never runs.
    fn submit_nonsense(&self) {
        let size = self.oracle.borrow().sectors() * SECTOR as u64;
        let offset = self
            .rng
            .borrow_mut()
            .pick(&[size, size - 512, 1, u64::MAX - 511]);
        let Some(memory) = self.memory(2) else { return };
        let callback = Callback {
            func: never,
            opaque: std::ptr::null_mut(),
        };
        let iov = memory.iovecs();
        // SAFETY: the memory outlives the call, and the request is refused.
        let result = self.with_image(|image| unsafe { image.submit_read(offset, iov, callback) });
        if let Some(Ok(_)) = result {
            self.fail(format!(
                "a read of 1024 bytes at {offset} of {size} was not refused"
            ));
        }
        self.pool.borrow_mut().give_back(memory);
    }

    fn submit_read(&self) {
        let (first, count) = self.place();
        let Some(memory) = self.memory(count) else {
            return;
        };
        let read = self.oracle.borrow_mut().begin_read();
        let iov = memory.iovecs();
        self.count(|tally| tally.reads += 1);
        self.start(What::Read(read), first, memory, |image, callback| {
            // SAFETY: the memory belongs to the request, which keeps it until it is over.
            unsafe { image.submit_read(first * SECTOR as u64, iov, callback) }
        });
    }

    fn submit_write(&self) -> bool {
        let (first, count) = self.place_to_write();
        let Some(mut memory) = self.memory(count) else {
            return false;
        };
        let (zeros, fua) = (self.draw(self.mix.zeros), self.draw(self.mix.fua));
        let id = self.oracle.borrow_mut().begin_write(first, count, zeros);
        memory.scatter(&pattern(id, first, count, zeros));
        let iov = memory.iovecs();
        let ending = if fua || self.write_through {
            Ending::Durable
        } else {
            Ending::Done
        };
        self.count(|tally| tally.writes += 1);
        self.start(What::Write(id, ending), first, memory, |image, callback| {
            // SAFETY: the memory belongs to the request, which keeps it until it is over.
            unsafe { image.submit_write(first * SECTOR as u64, iov, fua, callback) }
        });
        fua
    }

    fn submit_flush(&self) {
        let flush = self.oracle.borrow_mut().begin_flush();
        self.count(|tally| tally.flushes += 1);
        self.start(
            What::Flush(flush),
            0,
            Memory::default(),
            Image::submit_flush,
        );
    }

    fn submit_fetch(&self) {
        let (first, count) = self.place();
        self.count(|tally| tally.fetches += 1);
        self.start(What::Fetch, first, Memory::default(), |image, callback| {
            image.submit_fetch(first * SECTOR as u64, count * SECTOR as u64, callback)
        });
    }

    /// A range of sectors, most often near a hot spot, with neighbours that touch each other.
    fn place(&self) -> (u64, u64) {
        let sectors = self.oracle.borrow().sectors();
        let mut rng = self.rng.borrow_mut();
        let mut first = rng.below(sectors);
        let mut spots = self.spots.borrow_mut();
        if rng.chance(self.mix.wander) {
            let spot = rng.below(self.mix.hot_spots);
            spots[usize::try_from(spot).expect("few spots")] = first / self.unit * self.unit;
        }
        if rng.chance(700) {
            let reach = rng.pick(&[0, 2, self.unit, self.unit, self.mix.max_sectors]);
            let from = rng.pick(&spots).saturating_sub(reach);
            first = (from + rng.below(2 * reach + 1)).min(sectors - 1);
        }
        let mut count = 1 + rng.skewed(self.mix.max_sectors - 1);
        if rng.chance(self.mix.aligned) {
            first = first / self.unit * self.unit;
            count = count
                .next_multiple_of(self.unit)
                .min(self.unit.max(self.mix.max_sectors));
        }
        if rng.chance(5) {
            count = 0;
        }
        (first, count.min(sectors - first))
    }

    /// A place as [`place`](Self::place) draws it, often one where nothing was written yet.
    fn place_to_write(&self) -> (u64, u64) {
        let place = self.place();
        if !self.draw(self.mix.fresh) {
            return place;
        }
        let is_fresh = |(first, count)| {
            let (start, len) = (first * SECTOR as u64, count * SECTOR as u64);
            self.with_image(|image| image.is_allocated(start, len)) == Some((false, len))
        };
        (0..8)
            .map(|_| self.place())
            .find(|place| is_fresh(*place))
            .unwrap_or(place)
    }

    fn memory(&self, sectors: u64) -> Option<Memory> {
        let len = usize::try_from(sectors).expect("a small request") * SECTOR;
        let memory = self.pool.borrow_mut().take(len, &mut self.rng.borrow_mut());
        memory.map_err(|error| self.fail(error)).ok()
    }
}

/// The callback of a request that is refused.
unsafe extern "C" fn never(_: *mut c_void, _: c_int) {
    eprintln!("a request that was refused called back");
    std::process::abort();
}

/// What a write puts into its sectors.
fn pattern(id: WriteId, first: u64, count: u64, zeros: bool) -> Vec<u8> {
    let content = if zeros {
        Content::Zero
    } else {
        Content::Pattern(id.0)
    };
    let mut bytes = vec![0; usize::try_from(count).expect("a small request") * SECTOR];
    for (sector, bytes) in (first..).zip(bytes.as_chunks_mut::<SECTOR>().0) {
        content.fill(sector, bytes);
    }
    bytes
}
