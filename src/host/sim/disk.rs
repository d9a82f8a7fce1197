//! One simulated file: what reads see, what is durable, and everything in between.
//!
//! A file has two pictures. The *view* is what reads see: the cache. The *durable* picture is what
//! a flush has promised. Between them each sector written since has a list of versions, oldest
//! first:
//!
//! ```text
//!   durable ── version (write 7, completed at 31) ── version (write 9, in flight) = view
//! ```
//!
//! A power cut leaves each sector, independently, with the durable content or any one version. A
//! flush remembers when it was submitted ([`Stamp`]); when it has completed, the newest version
//! that had completed by then is the durable content, and what is older is gone. The file's length
//! has versions likewise: a sector that lies beyond the length that survives is gone, and reads as
//! zeros if the file grows again.
//!
//! A kill leaves the view alone and makes nothing durable. A failed flush may mark versions *lost*:
//! the system believes them clean, so reads see them, a power cut may show them or not, and no
//! later flush makes them durable; only a new write to the sector does. A change of the length is
//! not lost so: it is the file system's own, and a file system that cannot store what is its own
//! stops.

use super::index;
use super::pattern::SECTOR;
use super::prng::Prng;
use super::survival::Survival;
use crate::host::IoVecs;

#[cfg(test)]
mod tests;

/// Names one write (or change of length) to a file, in the order in which they took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteNo(pub u32);

/// The moment at which a flush was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

const IN_FLIGHT: Stamp = Stamp(u64::MAX);

/// One content that a sector may have after a power cut.
#[derive(Clone, Copy, Debug)]
struct Version {
    write: WriteNo,
    /// Where its bytes are kept; `None`: zeros.
    block: Option<u32>,
    /// The file was cut here, and reads zeros where it grew again.
    cut: bool,
    /// A failed flush lost it: no later flush covers it.
    lost: bool,
}

/// One length that the file may have after a power cut.
#[derive(Clone, Copy, Debug)]
struct Length {
    write: WriteNo,
    len: u64,
}

/// What a write leaves in a sector.
#[derive(Clone, Copy)]
enum Put<'a> {
    Bytes(&'a [u8; SECTOR]),
    Zeros,
    Nothing,
}

/// A file on a simulated disk. Lengths and offsets are bytes; all but the first length are whole
/// sectors.
#[derive(Debug)]
pub struct SimFile {
    /// As long as `sectors`; zero from `len` on.
    view: Vec<u8>,
    len: u64,
    /// As long as `sectors`; the same as `view` wherever a sector has no version.
    durable: Vec<u8>,
    durable_len: u64,
    lengths: Vec<Length>,
    sectors: Vec<Vec<Version>>,
    /// The sectors that have a version, in the order in which they got their first.
    dirty: Vec<u64>,
    blocks: Blocks,
    /// When each write completed.
    completed: Vec<Stamp>,
    clock: u64,
    is_device: bool,
}

impl SimFile {
    /// A file with this durable content. A device keeps its length.
    pub fn new(mut bytes: Vec<u8>, is_device: bool) -> Self {
        let len = bytes.len() as u64;
        let count = bytes.len().div_ceil(SECTOR);
        bytes.resize(count * SECTOR, 0);
        Self {
            view: bytes.clone(),
            len,
            durable: bytes,
            durable_len: len,
            lengths: Vec::new(),
            sectors: vec![Vec::new(); count],
            dirty: Vec::new(),
            blocks: Blocks::default(),
            completed: Vec::new(),
            clock: 0,
            is_device,
        }
    }

    /// Its length in bytes, as reads see it.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// True if it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True for a device: its length is fixed, and what was never written is garbage.
    pub fn is_device(&self) -> bool {
        self.is_device
    }

    /// The bytes, as reads see them.
    pub fn bytes(&self) -> &[u8] {
        &self.view[..index(self.len)]
    }

    /// How many sectors a power cut could change.
    pub fn dirty_sectors(&self) -> usize {
        self.dirty.len()
    }

    /// Reads into `iov`; returns how many bytes there were.
    pub fn read(&self, offset: u64, iov: &IoVecs) -> u64 {
        let end = self.len.min(offset + iov.len());
        if offset >= end {
            return 0;
        }
        iov.fill_from(&self.view[index(offset)..index(end)]);
        end - offset
    }

    /// The number of a write that takes effect now, and has not completed.
    pub fn begin(&mut self) -> WriteNo {
        let no = u32::try_from(self.completed.len()).expect("fewer than 2^32 writes to a file");
        self.completed.push(IN_FLIGHT);
        WriteNo(no)
    }

    /// Notes that a write has completed: a flush that is submitted from now on covers it.
    pub fn complete(&mut self, write: WriteNo) {
        self.clock += 1;
        self.completed[index(u64::from(write.0))] = Stamp(self.clock);
    }

    /// Lets a write of whole sectors take effect; with `tear`, an arbitrary subset of them.
    pub fn write(&mut self, write: WriteNo, offset: u64, bytes: &[u8], tear: Option<&mut Prng>) {
        let (sectors, rest) = bytes.as_chunks::<SECTOR>();
        assert!(rest.is_empty(), "a write of whole sectors");
        let first = sector_of(offset);
        self.each_sector(first, sectors.len() as u64, tear, |file, sector| {
            file.put(write, sector, Put::Bytes(&sectors[index(sector - first)]));
        });
    }

    /// Lets a range read zeros; with `tear`, an arbitrary subset of its sectors. A file that ends
    /// within the range grows.
    pub fn zero(&mut self, write: WriteNo, offset: u64, len: u64, tear: Option<&mut Prng>) {
        self.each_sector(sector_of(offset), sector_of(len), tear, |file, sector| {
            file.put(write, sector, Put::Zeros);
        });
    }

    /// Sets the length.
    pub fn truncate(&mut self, write: WriteNo, len: u64) {
        assert!(!self.is_device, "a device keeps its length");
        for sector in sector_of(len)..self.len.div_ceil(SECTOR as u64) {
            self.put(write, sector, Put::Nothing);
        }
        self.set_len(write, len);
    }

    /// Adds `bytes` at the end, durable at once: somebody made the device, or the file, larger.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.lengths.clear();
        self.reserve(sector_of(self.len + bytes.len() as u64));
        let at = index(self.len);
        for picture in [&mut self.view, &mut self.durable] {
            picture[at..at + bytes.len()].copy_from_slice(bytes);
        }
        self.len += bytes.len() as u64;
        self.durable_len = self.len;
    }

    /// Cuts the file down to `len`, durable at once: somebody copied only so much of it.
    pub fn shorten(&mut self, len: u64) {
        assert!(!self.is_device && len <= self.len, "a file gets shorter");
        for sector in sector_of(len)..self.sectors.len() as u64 {
            sector_mut(&mut self.durable, sector).fill(0);
            self.settle(sector, None);
        }
        self.dirty
            .retain(|sector| !self.sectors[index(*sector)].is_empty());
        self.lengths.clear();
        (self.len, self.durable_len) = (len, len);
    }

    /// Makes the file empty, durably: nobody who asks for that wants to see the old content again.
    pub fn make_empty(&mut self) {
        assert!(!self.is_device, "a device keeps its length");
        *self = Self::new(Vec::new(), false);
    }

    /// Puts durable bytes at `offset`, behind everybody's back: somebody else had the file.
    pub fn poke(&mut self, offset: u64, bytes: &[u8]) {
        let (sectors, rest) = bytes.as_chunks::<SECTOR>();
        assert!(rest.is_empty(), "whole sectors");
        for (sector, bytes) in (sector_of(offset)..).zip(sectors) {
            *sector_mut(&mut self.durable, sector) = *bytes;
            self.settle(sector, None);
        }
        self.dirty
            .retain(|sector| !self.sectors[index(*sector)].is_empty());
    }

    fn each_sector(
        &mut self,
        first: u64,
        count: u64,
        tear: Option<&mut Prng>,
        mut apply: impl FnMut(&mut Self, u64),
    ) {
        self.reserve(first + count);
        match tear {
            None => (first..first + count).for_each(|sector| apply(self, sector)),
            Some(rng) => {
                let likelihood = rng.pick(&[100, 500, 900]);
                for sector in first..first + count {
                    if rng.chance(likelihood) {
                        apply(self, sector);
                    }
                }
            }
        }
    }

    fn reserve(&mut self, sectors: u64) {
        let sectors = index(sectors).max(self.sectors.len());
        self.sectors.resize_with(sectors, Vec::new);
        self.view.resize(sectors * SECTOR, 0);
        self.durable.resize(sectors * SECTOR, 0);
    }

    fn put(&mut self, write: WriteNo, sector: u64, content: Put<'_>) {
        let place = sector_mut(&mut self.view, sector);
        let block = match content {
            Put::Bytes(bytes) => {
                *place = *bytes;
                Some(self.blocks.keep(bytes))
            }
            Put::Zeros | Put::Nothing => {
                place.fill(0);
                None
            }
        };
        let versions = &mut self.sectors[index(sector)];
        if versions.is_empty() {
            self.dirty.push(sector);
        }
        let cut = matches!(content, Put::Nothing);
        versions.push(Version {
            write,
            block,
            cut,
            lost: false,
        });
        let end = (sector + 1) * SECTOR as u64;
        if !cut && end > self.durable_len {
            self.set_len(write, end.max(self.len));
        }
    }

    /// The length from this write on. A write that does not reach the end needs the length too, as
    /// long as none that reaches it is durable.
    fn set_len(&mut self, write: WriteNo, len: u64) {
        assert!(
            !self.is_device || len == self.len,
            "a write past the end of a device"
        );
        self.reserve(len.div_ceil(SECTOR as u64));
        self.len = len;
        match self.lengths.last_mut() {
            Some(last) if last.write == write => last.len = len,
            _ => self.lengths.push(Length { write, len }),
        }
    }

    /// Notes that a flush is submitted.
    pub fn flush_begin(&self) -> Stamp {
        Stamp(self.clock)
    }

    /// Carries out a flush that was submitted at `stamp`.
    pub fn flush_end(&mut self, stamp: Stamp) {
        let Self {
            sectors,
            dirty,
            durable,
            blocks,
            completed,
            lengths,
            durable_len,
            ..
        } = self;
        let covered = |write: WriteNo| completed[index(u64::from(write.0))] <= stamp;
        dirty.retain(|sector| {
            let versions = &mut sectors[index(*sector)];
            if let Some(newest) = versions.iter().rposition(|v| !v.lost && covered(v.write)) {
                *sector_mut(durable, *sector) = blocks.content(versions[newest].block);
                blocks.release(versions.drain(..=newest));
            }
            !versions.is_empty()
        });
        if let Some(newest) = lengths.iter().rposition(|l| covered(l.write)) {
            *durable_len = lengths[newest].len;
            lengths.drain(..=newest);
        }
    }

    /// Fails a flush that was submitted at `stamp`, as a system does that drops what it could not
    /// store: of the sectors that it should have covered, `dropped` per mille are lost. Of those,
    /// `reverted` per mille are read again from the disk, where any of their contents may be.
    pub fn flush_failed(&mut self, stamp: Stamp, rng: &mut Prng, dropped: u32, reverted: u32) {
        for sector in std::mem::take(&mut self.dirty) {
            self.lose_sector(sector, stamp, rng, [dropped, reverted]);
            if !self.sectors[index(sector)].is_empty() {
                self.dirty.push(sector);
            }
        }
    }

    fn lose_sector(&mut self, sector: u64, stamp: Stamp, rng: &mut Prng, odds: [u32; 2]) {
        let versions = &mut self.sectors[index(sector)];
        let covered = |v: &Version| !v.cut && self.completed[index(u64::from(v.write.0))] <= stamp;
        if !versions.iter().any(covered) || !rng.chance(odds[0]) {
            return;
        }
        let all = versions.iter().all(covered);
        versions
            .iter_mut()
            .filter(|v| covered(v))
            .for_each(|v| v.lost = true);
        if all && rng.chance(odds[1]) {
            let survivor = rng.below(versions.len() as u64 + 1);
            self.settle(sector, index(survivor).checked_sub(1));
        }
    }

    /// Cuts the power: everything in flight is over, and each sector and the length have,
    /// independently, what was durable or any version since.
    pub fn power_cut(&mut self, rng: &mut Prng, survival: Survival) {
        let mut writes: Vec<WriteNo> = Vec::new();
        for sector in std::mem::take(&mut self.dirty) {
            writes.clear();
            writes.extend(self.sectors[index(sector)].iter().map(|v| v.write));
            let survivor = survival.choose(rng, sector, &writes);
            self.settle(sector, survivor);
        }
        writes.clear();
        writes.extend(self.lengths.iter().map(|l| l.write));
        if let Some(survivor) = survival.choose(rng, u64::MAX, &writes) {
            self.durable_len = self.lengths[survivor].len;
        }
        self.lengths.clear();
        self.len = self.durable_len;
        let end = index(self.len.next_multiple_of(SECTOR as u64));
        self.view[end..].fill(0);
        self.durable[end..].fill(0);
    }

    /// Makes one version (`None`: the durable content) the only content of a sector.
    fn settle(&mut self, sector: u64, survivor: Option<usize>) {
        let versions = &mut self.sectors[index(sector)];
        let durable = sector_mut(&mut self.durable, sector);
        if let Some(survivor) = survivor {
            *durable = self.blocks.content(versions[survivor].block);
        }
        *sector_mut(&mut self.view, sector) = *durable;
        self.blocks.release(versions.drain(..));
    }

    /// Ends the process that used the file: nothing is in flight any more, the view stays, and a
    /// later flush covers what it did.
    pub fn kill(&mut self) {
        self.clock += 1;
        let now = Stamp(self.clock);
        self.completed
            .iter_mut()
            .filter(|at| **at == IN_FLIGHT)
            .for_each(|at| *at = now);
    }
}

/// The number of the sector that begins at `offset`, or of sectors in a length.
fn sector_of(offset: u64) -> u64 {
    assert_eq!(
        offset % SECTOR as u64,
        0,
        "an offset or a length in whole sectors"
    );
    offset / SECTOR as u64
}

fn sector_mut(picture: &mut [u8], sector: u64) -> &mut [u8; SECTOR] {
    picture[index(sector) * SECTOR..]
        .first_chunk_mut()
        .expect("a picture of whole sectors")
}

/// The bytes of versions, in memory that is used again.
#[derive(Debug, Default)]
struct Blocks {
    bytes: Vec<[u8; SECTOR]>,
    free: Vec<u32>,
}

impl Blocks {
    fn keep(&mut self, bytes: &[u8; SECTOR]) -> u32 {
        if let Some(block) = self.free.pop() {
            self.bytes[index(u64::from(block))] = *bytes;
            return block;
        }
        self.bytes.push(*bytes);
        u32::try_from(self.bytes.len() - 1).expect("fewer than 2^32 versions")
    }

    fn content(&self, block: Option<u32>) -> [u8; SECTOR] {
        block.map_or([0; SECTOR], |block| self.bytes[index(u64::from(block))])
    }

    fn release(&mut self, versions: impl Iterator<Item = Version>) {
        self.free
            .extend(versions.filter_map(|version| version.block));
    }
}
