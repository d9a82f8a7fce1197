//! What a 512-byte sector holds, as a small number.
//!
//! The search compares, hashes and copies disks all the time, so a disk is a list of numbers, and a
//! pool (one for each thread) knows the bytes behind each. Most contents mean something to the
//! search, which finds the meaning again in whatever the library reads back:
//!
//! - a *pattern*: what a write of the guest put into one sector of its disk; write 0 is the base
//!   image;
//! - a *place*: "whatever stood in this sector of the data region when the crash fell". Recovery
//!   does not
//!   look at data, so one run of it answers for all data that the same metadata can have;
//! - *one of* several contents: a data sector of which a crash may have left any of these versions.
//!
//! All other contents are what the library itself wrote: headers, bitmaps, tables, journal sectors.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use super::mix::Map;

/// Bytes of a sector.
pub(crate) const SECTOR: usize = 512;

/// The bytes of one sector, by their number in the pool.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Content(u32);

/// Zeros; also what a file holds where nobody wrote.
pub(crate) const ZERO: Content = Content(0);

/// What a content stands for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Meaning {
    /// Just bytes.
    Bytes,
    /// What write `write` put into sector `sector` of the guest's disk.
    Pattern { write: u32, sector: u32 },
    /// What reads of a data sector returned when the crash fell.
    Cached { place: u32 },
    /// What a power cut leaves, or left, of a data sector.
    Kept { place: u32 },
    /// One of these, at this place; always the same one until the place is written again.
    OneOf { place: u32, of: Rc<[Content]> },
}

#[derive(Default)]
struct Pool {
    items: Vec<(Box<[u8; SECTOR]>, Meaning)>,
    by_bytes: Map<Box<[u8; SECTOR]>, Content>,
    by_meaning: Map<Meaning, Content>,
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::new(Pool::new());
}

/// Contents with a meaning begin with this, and hold it again and again.
const MARK: [u8; 8] = *b"meaning!";

impl Pool {
    fn new() -> Self {
        let mut pool = Self::default();
        pool.add([0; SECTOR], Meaning::Bytes);
        pool
    }

    fn add(&mut self, bytes: [u8; SECTOR], meaning: Meaning) -> Content {
        let content = Content(u32::try_from(self.items.len()).expect("few contents"));
        self.by_bytes.insert(Box::new(bytes), content);
        self.items.push((Box::new(bytes), meaning));
        content
    }

    fn of_bytes(&mut self, bytes: &[u8; SECTOR]) -> Content {
        match self.by_bytes.get(bytes) {
            Some(content) => *content,
            None => self.add(*bytes, Meaning::Bytes),
        }
    }

    fn of_meaning(&mut self, meaning: Meaning) -> Content {
        if let Some(content) = self.by_meaning.get(&meaning) {
            return *content;
        }
        let mut bytes = [0; SECTOR];
        for (i, word) in bytes.chunks_exact_mut(16).enumerate() {
            word[..8].copy_from_slice(&MARK);
            word[8..].copy_from_slice(&((self.items.len() as u64) << 8 | i as u64).to_le_bytes());
        }
        let content = self.add(bytes, meaning.clone());
        self.by_meaning.insert(meaning, content);
        content
    }
}

impl Content {
    /// The content of a sector with these bytes.
    pub(crate) fn of_bytes(bytes: &[u8; SECTOR]) -> Self {
        if bytes.iter().all(|b| *b == 0) {
            return ZERO;
        }
        POOL.with_borrow_mut(|pool| pool.of_bytes(bytes))
    }

    /// What write `write` puts into sector `sector`; write 0 is the base image.
    pub(crate) fn pattern(write: u32, sector: u32) -> Self {
        Self::meaning_of(Meaning::Pattern { write, sector })
    }

    /// What reads of a data sector returned when the crash fell.
    pub(crate) fn cached(place: u32) -> Self {
        Self::meaning_of(Meaning::Cached { place })
    }

    /// What a power cut leaves of a data sector.
    pub(crate) fn kept(place: u32) -> Self {
        Self::meaning_of(Meaning::Kept { place })
    }

    /// One of several contents, of which nobody knows which one it is.
    pub(crate) fn one_of(place: u32, options: impl IntoIterator<Item = Self>) -> Self {
        let mut of: Vec<Self> = options.into_iter().collect();
        of.sort_unstable();
        of.dedup();
        if of.len() == 1 {
            return of[0];
        }
        // A member of another member adds nothing.
        let implied = |c: &Self, by: &Self| match by.meaning() {
            Meaning::OneOf { of, .. } => c != by && of.contains(c),
            _ => false,
        };
        let all = of.clone();
        of.retain(|c| !all.iter().any(|by| implied(c, by)));
        if of.len() == 1 {
            of[0]
        } else {
            Self::meaning_of(Meaning::OneOf {
                place,
                of: of.into(),
            })
        }
    }

    fn meaning_of(meaning: Meaning) -> Self {
        POOL.with_borrow_mut(|pool| pool.of_meaning(meaning))
    }

    /// Puts the bytes into `out`, which may be the part of a sector from `skip` on.
    pub(crate) fn copy_to(self, skip: usize, out: &mut [u8]) {
        POOL.with_borrow(|pool| {
            out.copy_from_slice(&pool.items[self.index()].0[skip..skip + out.len()]);
        });
    }

    /// What it stands for.
    pub(crate) fn meaning(self) -> Meaning {
        POOL.with_borrow(|pool| pool.items[self.index()].1.clone())
    }

    /// True if it says nothing definite: what it is depends on a crash.
    pub(crate) fn is_unknown(self) -> bool {
        let known = |meaning: &Meaning| matches!(meaning, Meaning::Bytes | Meaning::Pattern { .. });
        POOL.with_borrow(|pool| !known(&pool.items[self.index()].1))
    }

    /// The bytes, for those who look into metadata.
    pub(crate) fn bytes(self) -> [u8; SECTOR] {
        POOL.with_borrow(|pool| *pool.items[self.index()].0)
    }

    /// Its number in the pool.
    pub(crate) fn number(self) -> u32 {
        self.0
    }

    /// The content with this number in the pool.
    pub(crate) fn of_number(number: u32) -> Self {
        Self(number)
    }

    fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == ZERO {
            return f.write_str("zeros");
        }
        match self.meaning() {
            Meaning::Bytes => write!(f, "bytes {:02x?}…", &self.bytes()[..16]),
            Meaning::Pattern { write: 0, sector } => write!(f, "base:{sector}"),
            Meaning::Pattern { write, sector } => write!(f, "w{write}:{sector}"),
            Meaning::Cached { place } => write!(f, "cached@{place}"),
            Meaning::Kept { place } => write!(f, "kept@{place}"),
            Meaning::OneOf { of, .. } => {
                f.write_str("{")?;
                for (i, content) in of.iter().enumerate() {
                    write!(f, "{}{content}", if i > 0 { " | " } else { "" })?;
                }
                f.write_str("}")
            }
        }
    }
}

#[test]
fn a_meaning_is_found_again_in_the_bytes() {
    let content = Content::pattern(3, 7);
    assert_eq!(Content::of_bytes(&content.bytes()), content);
    assert_eq!(Content::of_bytes(&[0; SECTOR]), ZERO);
    assert_eq!(Content::of_bytes(&[1; SECTOR]).meaning(), Meaning::Bytes);
    assert_ne!(content, Content::pattern(7, 3));
}

#[test]
fn one_of_names_each_possibility_once() {
    let [a, b, c] = [1, 2, 3].map(|write| Content::pattern(write, 0));
    let ab = Content::one_of(5, [b, a, a]);
    assert_eq!(ab, Content::one_of(5, [a, b]));
    assert_ne!(ab, Content::one_of(6, [a, b]));
    assert_eq!(Content::one_of(5, [c, c]), c);
    assert_eq!(Content::one_of(5, [ab, b]), ab);
    assert_eq!(ab.to_string(), "{w1:0 | w2:0}");
}
