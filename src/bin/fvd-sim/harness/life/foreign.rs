//! What others do to the files of a closed image.
//!
//! - The first implementation leaves its journal records behind at a close.
//! - A copy of a file may end earlier, where only zeros follow, though never before its last chunk
//!   begins;
//! - or go on behind its last chunk with whatever was on the storage before.

use fvd::Image;
use fvd::host::sim::{SECTOR, SimFile};

use super::Life;
use crate::harness::scenario::Place;
use crate::harness::world::{DATA, IMAGE};

/// What must be known from the time when the image was open.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Where the journal is in the image's file, and what it held.
    journal: Option<(u64, Vec<u8>)>,
    /// Of a compact image: where the last chunk in use begins and ends in the data file.
    last_chunk: Option<(u64, u64)>,
}

impl Life {
    /// Takes note of what others could leave behind.
    pub(super) fn before_close(&self) -> Before {
        let look = |image: &Image| {
            if image.live_requests() > 0 {
                return Before::default(); // the close will still take chunks
            }
            let info = image.info();
            let journal = info.geometry.journal.and_then(|journal| {
                let (start, end) = (journal.start.get(), journal.end().get());
                let bytes = |file: &SimFile| file.bytes()[index(start)..index(end)].to_vec();
                Some((start, self.host.look(IMAGE, bytes)?))
            });
            let used = info.allocated_chunks + info.free_chunks;
            let last_chunk = info.geometry.chunks.filter(|_| used > 0).map(|chunks| {
                let end = info.geometry.data_start().get() + used * chunks.chunk_size;
                (end - chunks.chunk_size, end)
            });
            Before {
                journal,
                last_chunk,
            }
        };
        self.guest.with_image(look).unwrap_or_default()
    }

    /// Somebody has the files of an image that was closed cleanly.
    pub(super) fn meddle(&mut self, before: Before) {
        // A journal whose first sector is empty says that all of it is.
        let in_use = |records: &[u8]| records[0] != 0;
        if let Some((start, records)) = before.journal.filter(|(_, records)| in_use(records))
            && self.rng.chance(200)
        {
            self.host.poke(IMAGE, start, &records);
        }
        let data = match self.scenario.layout.place {
            Place::Files => IMAGE,
            Place::DataFile => DATA,
            Place::Device | Place::DataDevice => return,
        };
        if let Some((start, end)) = before.last_chunk
            && self.rng.chance(200)
        {
            self.change_length(data, start, end);
        }
    }

    fn change_length(&mut self, data: &str, start: u64, end: u64) {
        let sector = SECTOR as u64;
        let look = |file: &SimFile| {
            let zeros = file.bytes().iter().rev().take_while(|byte| **byte == 0);
            (file.len(), (zeros.count() as u64) / sector * sector)
        };
        let (len, zeros) = self.host.look(data, look).expect("the data file exists");
        let shortest = (len - zeros).max(start + sector);
        if self.rng.chance(500) && shortest < len {
            let cut = self.rng.below((len - shortest) / sector + 1);
            self.host.shorten(data, len - cut * sector);
        } else if len >= end {
            let more = index(self.rng.between(1, 200));
            self.host.lengthen(data, &vec![0x5A; more * SECTOR]);
        }
    }
}

/// A byte number as an index into a file.
fn index(n: u64) -> usize {
    usize::try_from(n).expect("a small file")
}
