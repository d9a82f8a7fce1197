//! What the guest's disk may read: DESIGN.md's promises, sector by sector.
//!
//! For each sector the oracle keeps every version that was ever submitted. After a crash the sector
//! may read as the last version that a completed flush covered, or as any later one; a flush covers
//! the writes that completed before it was submitted. Two writes that were under way at the same
//! time have no order; a write that failed may or may not have happened, and replaces nothing for
//! certain.
//!
//! A run that sets out from a crashed disk does not know what the sectors may read: it *inherits*
//! that. What its open then reads becomes a version like any other, for the next flush to make
//! binding.

use std::hash::{Hash, Hasher};
use std::ops::Range;

use super::content::{Content, Meaning};
use super::disk::Time;
use super::mix::Mixer;

/// One version of a sector.
#[derive(Clone, Debug)]
struct Version {
    content: Content,
    /// Which write it came by; 0: it was there before.
    write: u32,
    submitted: Time,
    ended: Option<Time>,
    /// It ended well.
    good: bool,
    /// A flush covered a later version.
    gone: bool,
}

/// What one sector may read after a crash.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Allowed {
    /// Whatever it could read before the run.
    pub(crate) inherits: bool,
    /// Any of these.
    pub(crate) contents: Vec<Content>,
}

/// The versions of all sectors.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    sectors: Vec<Vec<Version>>,
    /// For each sector, true until a flush covered something later.
    inherits: Vec<bool>,
}

impl Oracle {
    /// A disk whose content is known, and durable.
    pub(crate) fn known(contents: &[Content]) -> Self {
        let mut oracle = Self::inheriting(contents.len());
        oracle.inherits.fill(false);
        oracle.observed(contents, 0, true);
        oracle
    }

    /// A disk of which only whoever started the run knows what it may read.
    pub(crate) fn inheriting(sectors: usize) -> Self {
        Self {
            sectors: vec![Vec::new(); sectors],
            inherits: vec![true; sectors],
        }
    }

    /// How many sectors the disk has.
    pub(crate) fn sectors(&self) -> usize {
        self.sectors.len()
    }

    /// The disk was read. Where nothing was lost to a failed flush (`binding`), that is what the
    /// next flush makes durable.
    pub(crate) fn observed(&mut self, contents: &[Content], now: Time, binding: bool) {
        for (versions, content) in self.sectors.iter_mut().zip(contents) {
            let (submitted, ended) = (now, Some(now));
            let content = *content;
            versions.push(Version {
                content,
                write: 0,
                submitted,
                ended,
                good: binding,
                gone: false,
            });
        }
    }

    /// Write number `write` was submitted.
    pub(crate) fn write(&mut self, write: u32, range: Range<u32>, now: Time) {
        for sector in range {
            let content = Content::pattern(write, sector);
            let version = Version {
                content,
                write,
                submitted: now,
                ended: None,
                good: false,
                gone: false,
            };
            self.sectors[sector as usize].push(version);
        }
    }

    /// Write number `write` has ended; where it was `durable`, it covers itself.
    pub(crate) fn ended(&mut self, write: u32, now: Time, good: bool, durable: bool) {
        let of_write = self.sectors.iter_mut().zip(&mut self.inherits);
        for (versions, inherits) in of_write {
            let Some(at) = versions.iter().position(|v| v.write == write) else {
                continue;
            };
            versions[at].ended = Some(now);
            versions[at].good = good;
            if good && durable {
                cover(versions, inherits, &|v| v.write == write);
            }
        }
    }

    /// A flush has completed that was submitted at `since`.
    pub(crate) fn flushed(&mut self, since: Time) {
        for (versions, inherits) in self.sectors.iter_mut().zip(&mut self.inherits) {
            cover(versions, inherits, &|v| {
                v.ended.is_some_and(|ended| ended <= since)
            });
        }
    }

    /// A number that tells apart what sectors may read after a crash.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut mixer = Mixer::default();
        for (versions, inherits) in self.sectors.iter().zip(&self.inherits) {
            inherits.hash(&mut mixer);
            versions
                .iter()
                .filter(|v| !v.gone)
                .for_each(|v| v.content.hash(&mut mixer));
        }
        mixer.finish()
    }

    /// What each sector may read after a crash now.
    pub(crate) fn after_crash(&self) -> Vec<Allowed> {
        let allowed = |(versions, inherits): (&Vec<Version>, &bool)| {
            let alive = versions.iter().filter(|version| !version.gone);
            let mut contents: Vec<_> = alive.map(|version| version.content).collect();
            contents.sort_unstable();
            contents.dedup();
            Allowed {
                inherits: *inherits,
                contents,
            }
        };
        self.sectors
            .iter()
            .zip(&self.inherits)
            .map(allowed)
            .collect()
    }

    /// True if a read under way from `since` until now may return `content` for a sector.
    pub(crate) fn may_read(&self, sector: u32, content: Content, since: Time) -> bool {
        let versions = &self.sectors[sector as usize];
        let replaced = |v: &Version| {
            versions
                .iter()
                .filter(|w| w.is_after(v))
                .any(|w| w.good && w.ended.is_some_and(|e| e <= since))
        };
        let current = versions.iter().filter(|v| !replaced(v));
        admits(
            &current.map(|version| version.content).collect::<Vec<_>>(),
            content,
        )
    }
}

impl Version {
    /// True if it was submitted when the other one had ended.
    fn is_after(&self, other: &Self) -> bool {
        other.submitted < self.submitted && other.ended.is_some_and(|ended| ended <= self.submitted)
    }
}

/// Marks what no crash can bring back, now that every good version that is `covered` is durable.
fn cover(versions: &mut [Version], inherits: &mut bool, covered: &dyn Fn(&Version) -> bool) {
    let good = versions
        .iter()
        .filter(|version| version.good && covered(version));
    let Some(newest) = good.max_by_key(|version| version.submitted).cloned() else {
        return;
    };
    *inherits = false;
    for version in versions {
        version.gone |= newest.is_after(version);
    }
}

/// True if `content`, whichever it is of several, is one of `allowed`.
pub(crate) fn admits(allowed: &[Content], content: Content) -> bool {
    allowed.contains(&content)
        || match content.meaning() {
            Meaning::OneOf { of, .. } => of.iter().all(|one| admits(allowed, *one)),
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reads(oracle: &Oracle, sector: usize) -> Vec<String> {
        oracle.after_crash()[sector]
            .contents
            .iter()
            .map(Content::to_string)
            .collect()
    }

    fn disk_of(sectors: u32) -> Oracle {
        Oracle::known(
            &(0..sectors)
                .map(|s| Content::pattern(0, s))
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn a_flush_covers_what_completed_before_it_was_submitted() {
        let mut oracle = disk_of(2);
        oracle.write(1, 0..1, 1);
        oracle.write(2, 1..2, 2);
        oracle.ended(1, 3, true, false);
        oracle.ended(2, 5, true, false);
        oracle.flushed(4);
        assert_eq!(reads(&oracle, 0), ["w1:0"]);
        assert_eq!(reads(&oracle, 1), ["base:1", "w2:1"]);
    }

    #[test]
    fn two_writes_at_once_have_no_order() {
        let mut oracle = disk_of(1);
        oracle.write(1, 0..1, 1);
        oracle.write(2, 0..1, 2);
        oracle.ended(2, 3, true, false);
        oracle.ended(1, 4, true, false);
        oracle.flushed(5);
        assert_eq!(reads(&oracle, 0), ["w1:0", "w2:0"]);
        assert!(oracle.may_read(0, Content::pattern(1, 0), 5));
        assert!(!oracle.may_read(0, Content::pattern(0, 0), 5));
    }

    #[test]
    fn a_failed_write_replaces_nothing_and_is_replaced() {
        let mut oracle = disk_of(1);
        oracle.write(1, 0..1, 1);
        oracle.ended(1, 2, false, false);
        oracle.flushed(3);
        assert_eq!(reads(&oracle, 0), ["base:0", "w1:0"]);
        oracle.write(2, 0..1, 4);
        oracle.ended(2, 5, true, true);
        assert_eq!(reads(&oracle, 0), ["w2:0"]);
    }

    #[test]
    fn what_was_inherited_ends_with_a_flush_of_what_was_read() {
        let mut oracle = Oracle::inheriting(1);
        oracle.observed(&[Content::kept(4)], 1, true);
        assert!(oracle.after_crash()[0].inherits);
        oracle.flushed(2);
        assert_eq!(
            oracle.after_crash()[0],
            Allowed {
                inherits: false,
                contents: vec![Content::kept(4)]
            }
        );
    }
}
