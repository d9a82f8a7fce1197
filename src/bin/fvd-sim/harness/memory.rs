//! The guest's memory: scatter lists of odd pieces, with guards between them.
//!
//! Memory that a request has used is poisoned and kept aside for a while: whoever still writes to
//! it is caught, and whoever still reads from it writes poison, which no sector may ever show.

use std::collections::VecDeque;

use fvd::host::IoVecs;
use fvd::host::sim::Prng;
use libc::iovec;

/// Between the pieces lie guards of this length and content.
const GUARD_LEN: usize = 16;
const GUARD: u8 = 0xA5;
const POISON: u8 = 0xDD;
/// How many used memories are kept aside.
const ASIDE: usize = 24;

/// The memory of one request.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    list: Vec<iovec>,
    /// Where the pieces lie in `bytes`, and how long they are.
    pieces: Vec<(usize, usize)>,
}

impl Memory {
    /// Memory for `len` bytes, in pieces that `rng` draws.
    fn shape(&mut self, len: usize, rng: &mut Prng) {
        let most = rng.pick(&[1, 1, 1, 2, 5, 30]);
        self.pieces.clear();
        let (mut left, mut at) = (len, GUARD_LEN);
        for _ in 1..most {
            let piece = usize::try_from(rng.below(left as u64 + 1)).expect("a part of a usize");
            self.pieces.push((at, piece));
            (left, at) = (left - piece, at + piece + GUARD_LEN);
        }
        self.pieces.push((at, left));
        self.bytes.clear();
        self.bytes.resize(at + left + GUARD_LEN, GUARD);
        let base = self.bytes.as_mut_ptr();
        self.list.clear();
        self.list.extend(self.pieces.iter().map(|(at, len)| iovec {
            iov_base: base.wrapping_add(*at).cast(),
            iov_len: *len,
        }));
    }

    /// The scatter list. The memory must not be touched until the request that uses it is over.
    pub(crate) fn iovecs(&self) -> IoVecs {
        // SAFETY: list and bytes live on the heap, and their owner, a request, keeps this value
        // untouched until it is over.
        unsafe { IoVecs::from_raw(self.list.as_ptr(), self.list.len()) }
    }

    /// Distributes `content` over the pieces.
    pub(crate) fn scatter(&mut self, content: &[u8]) {
        let mut rest = content;
        for (at, len) in &self.pieces {
            let (piece, next) = rest.split_at(*len);
            self.bytes[*at..at + len].copy_from_slice(piece);
            rest = next;
        }
    }

    /// Puts the pieces together again.
    pub(crate) fn gather(&self, content: &mut Vec<u8>) {
        content.clear();
        for (at, len) in &self.pieces {
            content.extend_from_slice(&self.bytes[*at..at + len]);
        }
    }

    /// True if nobody wrote between the pieces.
    pub(crate) fn guards_hold(&self) -> bool {
        let mut end = 0;
        let mut gaps = self.pieces.iter().map(|(at, len)| {
            let gap = end..*at;
            end = at + len;
            gap
        });
        let inner = gaps.all(|gap| all_are(&self.bytes[gap], GUARD));
        inner && all_are(&self.bytes[end..], GUARD)
    }
}

/// True if every byte is `wanted`. Without an early exit, which makes it fast where it holds.
fn all_are(bytes: &[u8], wanted: u8) -> bool {
    bytes
        .iter()
        .fold(0, |different, byte| different | (byte ^ wanted))
        == 0
}

/// Memory that was used, and will be again.
#[derive(Debug, Default)]
pub(crate) struct Pool(VecDeque<Memory>);

impl Pool {
    /// Memory for `len` bytes. `Err`: somebody wrote to memory of a request that was over.
    pub(crate) fn take(&mut self, len: usize, rng: &mut Prng) -> Result<Memory, String> {
        let mut memory = Memory::default();
        if self.0.len() >= ASIDE {
            memory = self.0.pop_front().unwrap_or_default();
            if !all_are(&memory.bytes, POISON) {
                return Err("memory was written to after its request was over".into());
            }
        }
        memory.shape(len, rng);
        Ok(memory)
    }

    /// Poisons memory whose request is over.
    pub(crate) fn give_back(&mut self, mut memory: Memory) {
        memory.bytes.fill(POISON);
        self.0.push_back(memory);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_goes_in_and_comes_out_whatever_the_pieces() {
        for seed in 0..100 {
            let mut rng = Prng::new(seed);
            let mut memory = Memory::default();
            memory.shape(1024, &mut rng);
            let content: Vec<u8> = (0..1024u32).map(|n| n.to_le_bytes()[0]).collect();
            memory.scatter(&content);
            let mut seen = Vec::new();
            memory.gather(&mut seen);
            assert_eq!(seen, content);
            assert_eq!(memory.iovecs().len(), 1024);
            assert!(memory.guards_hold());
        }
    }

    #[test]
    fn a_byte_behind_a_piece_is_noticed() {
        let mut memory = Memory::default();
        memory.shape(512, &mut Prng::new(1));
        let (at, len) = *memory.pieces.last().unwrap();
        memory.bytes[at + len] ^= 1;
        assert!(!memory.guards_hold());
    }

    #[test]
    fn a_late_write_is_noticed() {
        let mut pool = Pool::default();
        let mut rng = Prng::new(1);
        for _ in 0..ASIDE {
            pool.give_back(Memory {
                bytes: vec![0; 10],
                ..Memory::default()
            });
        }
        assert!(pool.take(512, &mut rng).is_ok());
        pool.give_back(Memory {
            bytes: vec![0; 10],
            ..Memory::default()
        });
        pool.0[0].bytes[3] = 0;
        assert!(pool.take(512, &mut rng).is_err());
    }
}
