//! A hash that is fast on the many small numbers that a disk is here, and the same in every run.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// Multiplies each word in, and folds the upper half of the product onto the lower one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mixer(u64);

pub(crate) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;
pub(crate) type Set<K> = HashSet<K, BuildHasherDefault<Mixer>>;

/// An odd number without a pattern.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.write_u64(u64::from_le_bytes(padded));
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.write_u64(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // The rotation keeps a zero word, and a state of zero, from being absorbing.
        let word = number ^ self.0.rotate_left(23) ^ FACTOR;
        let product = u128::from(word) * u128::from(FACTOR);
        let bytes = product.to_le_bytes();
        let (low, high) = bytes.split_at(8);
        let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        self.0 = self.0.wrapping_add(half(low) ^ half(high));
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// A number that tells values apart.
pub(crate) fn hash(value: &impl Hash) -> u64 {
    let mut mixer = Mixer::default();
    value.hash(&mut mixer);
    mixer.finish()
}

#[test]
fn similar_values_have_different_hashes() {
    let mut seen = Set::default();
    for a in 0..200u32 {
        for b in 0..200u32 {
            assert!(seen.insert(hash(&(a, b))) && seen.insert(hash(&[a, 0, b])));
        }
    }
    assert_eq!(hash(&"a text"), hash(&"a text"));
}
