//! The guest of the demonstration: what it writes, and the model of what must then be read.

use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::failure::Failure;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;

/// The most sectors of one write.
const MOST_SECTORS: usize = 64;

/// One write of a guest.
pub(super) struct Write {
    pub(super) offset: usize,
    pub(super) bytes: Vec<u8>,
}

/// What the disk must hold.
pub(super) struct Model(Vec<u8>);

impl Model {
    /// A disk of `size` bytes over a base.
    pub(super) fn new(base: Vec<u8>, size: usize) -> Self {
        let mut bytes = base;
        bytes.resize(size, 0);
        Self(bytes)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn write(&mut self, write: &Write) {
        self.0[write.offset..][..write.bytes.len()].copy_from_slice(&write.bytes);
    }

    /// Compares every sector of the disk as it was read.
    pub(super) fn compare(&self, read: &[u8]) -> Result<(), Failure> {
        if read.len() != self.0.len() {
            let (len, expected) = (read.len(), self.0.len());
            return Err(Failure::Failed(format!(
                "the disk has {len} bytes, not {expected}"
            )));
        }
        let sectors = self.0.chunks(SECTOR).zip(read.chunks(SECTOR));
        match sectors
            .into_iter()
            .position(|(expected, found)| expected != found)
        {
            None => Ok(()),
            Some(sector) => Err(Failure::Failed(format!(
                "sector {sector} is not what was written"
            ))),
        }
    }
}

/// Randomness that is the same in every run (splitmix64).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.bits() % n as u64).expect("below a usize")
    }
}

/// `len` bytes that look random, a multiple of 8.
pub(super) fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random(seed);
    (0..len / 8)
        .flat_map(|_| random.bits().to_le_bytes())
        .collect()
}

/// The disk with a few stretches of its first `len` bytes overwritten.
pub(super) fn overwritten(disk: &[u8], len: usize) -> Vec<u8> {
    let mut later = disk.to_vec();
    for write in random_writes(0..len, 200) {
        later[write.offset..][..write.bytes.len()].copy_from_slice(&write.bytes);
    }
    later
}

/// Writes of a few sectors each, anywhere in `place`.
pub(super) fn random_writes(place: Range<usize>, count: usize) -> Vec<Write> {
    let mut random = Random(place.start as u64 + 7);
    let room = place.len() / SECTOR - MOST_SECTORS;
    let mut write = || {
        let offset = place.start + random.below(room) * SECTOR;
        let len = (1 + random.below(MOST_SECTORS)) * SECTOR;
        Write {
            offset,
            bytes: pattern(random.bits(), len),
        }
    };
    (0..count).map(|_| write()).collect()
}

/// The writes that turn `old` into `new`, which may be shorter: runs of sectors that differ.
pub(super) fn difference(old: &[u8], new: &[u8]) -> Vec<Write> {
    let mut writes: Vec<Write> = Vec::new();
    for (index, (old, new)) in old.chunks(SECTOR).zip(new.chunks(SECTOR)).enumerate() {
        if old == new {
            continue;
        }
        let offset = index * SECTOR;
        let grows = |write: &&mut Write| {
            write.offset + write.bytes.len() == offset && write.bytes.len() < MOST_SECTORS * SECTOR
        };
        match writes.last_mut().filter(grows) {
            Some(write) => write.bytes.extend_from_slice(new),
            None => writes.push(Write {
                offset,
                bytes: new.to_vec(),
            }),
        }
    }
    writes
}

/// Puts the writes into an arbitrary order.
pub(super) fn shuffle(writes: &mut [Write]) {
    let mut random = Random(42);
    for last in (1..writes.len()).rev() {
        writes.swap(last, random.below(last + 1));
    }
}

/// Bytes that a file really takes.
pub(super) fn allocated(path: &Path) -> Result<u64, Failure> {
    let metadata = std::fs::metadata(path);
    let metadata = metadata.map_err(|error| Failure::of_file(&path.to_string_lossy(), &error))?;
    Ok(metadata.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_turns_the_old_disk_into_the_new_one() {
        let old = vec![0; 200 * SECTOR];
        let mut new = old.clone();
        new[3 * SECTOR + 1] = 1;
        new[100 * SECTOR..199 * SECTOR].fill(2);
        let mut writes = difference(&old, &new);
        shuffle(&mut writes);
        let mut model = Model::new(old, 200 * SECTOR);
        writes.iter().for_each(|write| model.write(write));
        assert!(model.compare(&new).is_ok());
        new[0] = 9;
        assert!(
            model
                .compare(&new)
                .unwrap_err()
                .to_string()
                .contains("sector 0")
        );
    }
}
