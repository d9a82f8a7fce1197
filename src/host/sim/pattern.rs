//! What a sector holds, told from its 512 bytes alone.
//!
//! Each write fills each of its sectors with a pattern that names the write and the sector, and in
//! which every byte depends on both: a sector from elsewhere, an old one, or one with a single
//! wrong byte is recognised for what it is.

use std::fmt;

use super::prng::splitmix;

/// Bytes in a sector.
pub const SECTOR: usize = 512;

const WORDS: usize = SECTOR / 8;
const STEP: u64 = 0x9E6C_63D0_876A_3F2B;

/// The content of one sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// All bytes are zero.
    Zero,
    /// The pattern of this write, whole.
    Pattern(u64),
    /// The first bytes of the pattern of this write, then zeros: the last sector of a base whose
    /// length is not a whole number of sectors.
    Cut(u64, u16),
}

impl Content {
    /// The bytes of this content in `sector`.
    pub fn fill(self, sector: u64, bytes: &mut [u8; SECTOR]) {
        match self {
            Self::Zero => bytes.fill(0),
            Self::Pattern(id) => fill_pattern(id, sector, bytes),
            Self::Cut(id, len) => {
                fill_pattern(id, sector, bytes);
                bytes[usize::from(len)..].fill(0);
            }
        }
    }

    /// True if `bytes`, read from `sector`, are this content.
    pub fn matches(self, sector: u64, bytes: &[u8; SECTOR]) -> bool {
        let mut expected = [0; SECTOR];
        self.fill(sector, &mut expected);
        expected == *bytes
    }

    /// What `bytes`, read from `sector`, are; `None` if no write ever made them.
    pub fn decode(sector: u64, bytes: &[u8; SECTOR]) -> Option<Self> {
        let first = word(bytes, 0);
        if first == 0 {
            return Self::Zero.matches(sector, bytes).then_some(Self::Zero);
        }
        let mut expected = [0; SECTOR];
        fill_pattern(first - 1, sector, &mut expected);
        if expected == *bytes {
            return Some(Self::Pattern(first - 1));
        }
        let same = expected
            .iter()
            .zip(bytes)
            .take_while(|(a, b)| a == b)
            .count();
        let cut = u16::try_from(same).expect("a sector is short");
        bytes[same..]
            .iter()
            .all(|b| *b == 0)
            .then_some(Self::Cut(first - 1, cut))
    }

    /// What `bytes` look like, for a message: also where they belong to another sector.
    pub fn describe(sector: u64, bytes: &[u8; SECTOR]) -> String {
        if let Some(content) = Self::decode(sector, bytes) {
            return content.to_string();
        }
        let (id, of) = (word(bytes, 0).wrapping_sub(1), word(bytes, 1));
        match Self::Pattern(id).matches(of, bytes) {
            true => format!("write {id} of sector {of}"),
            false => format!("no write's pattern (it begins {:02x?})", &bytes[..16]),
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => write!(f, "zeros"),
            Self::Pattern(id) => write!(f, "write {id}"),
            Self::Cut(id, len) => write!(f, "write {id} cut after {len} bytes"),
        }
    }
}

fn word(bytes: &[u8; SECTOR], n: usize) -> u64 {
    u64::from_le_bytes(bytes[n * 8..][..8].try_into().expect("eight bytes"))
}

/// Word 0 names the write (plus 1: never zero), word 1 the sector, the others are their mixture.
fn fill_pattern(id: u64, sector: u64, bytes: &mut [u8; SECTOR]) {
    let mut state = id.wrapping_mul(STEP) ^ sector.rotate_left(32);
    let mut value = splitmix(&mut state);
    let (words, _) = bytes.as_chunks_mut::<8>();
    debug_assert_eq!(words.len(), WORDS);
    for word in &mut *words {
        value = value.wrapping_add(STEP);
        *word = (value | 1).to_le_bytes();
    }
    words[0] = (id + 1).to_le_bytes();
    words[1] = sector.to_le_bytes();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(content: Content, sector: u64) -> [u8; SECTOR] {
        let mut bytes = [0xEE; SECTOR];
        content.fill(sector, &mut bytes);
        bytes
    }

    #[test]
    fn content_is_known_by_its_bytes() {
        for content in [
            Content::Zero,
            Content::Pattern(0),
            Content::Pattern(77),
            Content::Cut(3, 100),
        ] {
            let bytes = bytes(content, 9);
            assert_eq!(Content::decode(9, &bytes), Some(content));
            assert!(content.matches(9, &bytes));
        }
    }

    #[test]
    fn any_wrong_byte_is_noticed() {
        for content in [Content::Zero, Content::Pattern(5)] {
            for n in 0..SECTOR {
                let mut bytes = bytes(content, 2);
                bytes[n] ^= 0x10;
                assert_ne!(Content::decode(2, &bytes), Some(content), "byte {n}");
            }
        }
    }

    #[test]
    fn another_sectors_content_is_wrong_here_and_is_named() {
        let bytes = bytes(Content::Pattern(5), 3);
        assert_eq!(Content::decode(4, &bytes), None);
        assert_eq!(Content::describe(4, &bytes), "write 5 of sector 3");
    }
}
