//! What a guest may read: for each sector of its disk, the contents that the contract allows.
//!
//! The contract speaks of what the guest did and was told, so that is all the oracle hears: a write
//! is submitted, a write ends, a flush ends well, the disk crashed. Time is a counter of these
//! moments. Each sector has a list of [`Version`]s, oldest first; the oldest is the initial
//! content.
//!
//! - A version is **superseded** by a write that was submitted after the version had ended, and was
//!   itself told as done. Two writes under way at once do not supersede each other, and a failed or
//!   cancelled write supersedes nothing, though it may have happened.
//! - A **live read** may give any version that was submitted before the read ended, and not
//!   superseded by a write which was done before the read was submitted.
//! - A **flush** covers the writes that were done before it was submitted: what they supersede can
//!   no longer come back after a crash. A durable write (FUA, write-through) covers itself.
//! - After a **crash** each sector must be one of its candidates: the versions that can still come
//!   back. A power cut settles which it is; after a kill it is what reads see, and the others
//!   remain possible until a flush of a later session covers it.
//! - After a **failed flush of the host** what was done since the last good flush is *tainted*: it
//!   may be lost at any later power cut, and no flush covers it any more.

use std::collections::BTreeMap;

use super::index;
use super::knobs::Crash;
use super::pattern::{Content, SECTOR};

mod history;
#[cfg(test)]
mod tests;

use history::{History, What};

/// A moment.
type Time = u64;

const NOT_ENDED: Time = Time::MAX;

/// Names a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub u64);

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Done.
    Done,
    /// Done, and as durable as if a flush had followed.
    Durable,
    /// Failed or cancelled: it happened, in part or wholly, or not.
    Unsure,
}

/// The contract is broken; says how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// One content that a sector has, had, or may have.
#[derive(Clone, Copy, Debug)]
struct Version {
    content: Content,
    submitted: Time,
    ended: Time,
    done: bool,
    tainted: bool,
    /// It may be there after a crash.
    candidate: bool,
}

/// A write under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    first: u64,
    count: u64,
    submitted: Time,
}

/// What the oracle knows of one sector.
#[derive(Debug)]
struct Sector {
    versions: Vec<Version>,
    /// It is on the list of unsettled sectors.
    listed: bool,
}

/// The judge of what a guest reads.
#[derive(Debug)]
pub struct Oracle {
    sectors: Vec<Sector>,
    /// The sectors that may have more than one version.
    unsettled: Vec<u64>,
    writes: BTreeMap<WriteId, Pending>,
    /// When the reads under way were submitted, with how many of that moment.
    reads: BTreeMap<Time, u32>,
    next_write: u64,
    now: Time,
    /// When the last flush that ended well was submitted.
    flushed: Time,
    /// A flush of the host failed in this session: nothing is judged until the disk is opened
    /// again.
    failed: bool,
    history: History,
}

impl Oracle {
    /// The oracle for a disk that holds `initial`; write ids begin at `first_write`.
    pub fn new(initial: &[Content], first_write: u64) -> Self {
        Self {
            sectors: initial
                .iter()
                .map(|content| Sector::settled(*content, 0))
                .collect(),
            unsettled: Vec::new(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            next_write: first_write,
            now: 1,
            flushed: 0,
            failed: false,
            history: History::default(),
        }
    }

    /// Length of the disk in sectors.
    pub fn sectors(&self) -> u64 {
        self.sectors.len() as u64
    }

    /// The disk has become longer, by sectors of zeros.
    pub fn grow(&mut self, sectors: u64) {
        let now = self.tick();
        let new = || Sector::settled(Content::Zero, now);
        self.sectors
            .resize_with(index(sectors).max(self.sectors.len()), new);
    }

    fn tick(&mut self) -> Time {
        self.now += 1;
        self.now
    }

    /// A write of `count` sectors is submitted. Its content is zeros, or the pattern of the id
    /// returned.
    pub fn begin_write(&mut self, first: u64, count: u64, zeros: bool) -> WriteId {
        let submitted = self.tick();
        let id = WriteId(self.next_write);
        self.next_write += 1;
        let content = if zeros {
            Content::Zero
        } else {
            Content::Pattern(id.0)
        };
        let version = Version {
            ended: NOT_ENDED,
            done: false,
            ..Version::settled(content, submitted)
        };
        for number in first..first + count {
            let sector = &mut self.sectors[index(number)];
            sector.versions.push(version);
            if !std::mem::replace(&mut sector.listed, true) {
                self.unsettled.push(number);
            }
        }
        self.writes.insert(
            id,
            Pending {
                first,
                count,
                submitted,
            },
        );
        self.history
            .note(submitted, first, count, What::Submitted(id));
        id
    }

    /// A write has ended: its callback ran, or its cancel returned.
    pub fn end_write(&mut self, id: WriteId, ending: Ending) {
        let now = self.tick();
        let Pending {
            first,
            count,
            submitted,
        } = self.writes.remove(&id).expect("a write under way");
        let (oldest_read, failed) = (self.oldest_read(), self.failed);
        for sector in first..first + count {
            let versions = &mut self.sectors[index(sector)].versions;
            let version = versions.iter_mut().find(|v| v.submitted == submitted);
            let version = version.expect("a write under way keeps its version");
            (version.ended, version.done) = (now, ending != Ending::Unsure);
            version.tainted = failed;
            if ending == Ending::Durable && !failed {
                forget_candidates(versions, submitted);
            }
            forget_versions(versions, oldest_read);
        }
        self.history
            .note(now, first, count, What::Ended(id, ending));
    }

    /// A read is submitted. Returns what [`check_read`](Self::check_read) and
    /// [`end_read`](Self::end_read) want.
    pub fn begin_read(&mut self) -> u64 {
        let now = self.tick();
        *self.reads.entry(now).or_default() += 1;
        now
    }

    /// A read that was submitted at `read` has ended, well or not.
    pub fn end_read(&mut self, read: u64) {
        let count = self.reads.get_mut(&read).expect("a read under way");
        *count -= 1;
        if *count == 0 {
            self.reads.remove(&read);
        }
    }

    fn oldest_read(&self) -> Time {
        self.reads.keys().next().copied().unwrap_or(self.now)
    }

    /// Judges what a read that was submitted at `read` gives now: `bytes` from sector `first` on.
    ///
    /// # Errors
    /// A sector has a content that the contract does not allow.
    pub fn check_read(&mut self, read: u64, first: u64, bytes: &[u8]) -> Result<(), Violation> {
        if self.failed {
            return Ok(());
        }
        for (sector, bytes) in (first..).zip(bytes.as_chunks::<SECTOR>().0) {
            let versions = &self.sectors[index(sector)].versions;
            let bound = superseded_before(versions, |v| v.done && v.ended <= read);
            let mut allowed = versions.iter().rev().filter(|v| v.ended > bound);
            if !allowed.any(|v| v.content.matches(sector, bytes)) {
                let allowed: Vec<_> = versions.iter().filter(|v| v.ended > bound).collect();
                return Err(self.violation("a read", sector, bytes, &allowed));
            }
        }
        Ok(())
    }

    /// A flush is submitted. Returns what [`end_flush`](Self::end_flush) wants.
    pub fn begin_flush(&mut self) -> u64 {
        self.tick()
    }

    /// A flush that was submitted at `flush` has ended well.
    pub fn end_flush(&mut self, flush: u64) {
        let now = self.tick();
        self.note_all(now, What::Flushed(flush));
        self.flushed = self.flushed.max(flush);
        let oldest_read = self.oldest_read();
        let sectors = &mut self.sectors;
        self.unsettled.retain(|sector| {
            let Sector { versions, listed } = &mut sectors[index(*sector)];
            let bound = superseded_before(versions, |v| v.done && !v.tainted && v.ended <= flush);
            forget_candidates(versions, bound);
            forget_versions(versions, oldest_read);
            *listed = versions.len() > 1;
            *listed
        });
    }

    /// A flush of the host failed, and the engine was told: what no flush has covered is tainted,
    /// and the session is lost.
    pub fn host_flush_failed(&mut self) {
        let now = self.tick();
        self.failed = true;
        self.note_all(now, What::HostFlushFailed);
        for sector in &self.unsettled {
            for version in &mut self.sectors[index(*sector)].versions {
                // A flush has nothing to do with a write that was not done, so it saved none.
                version.tainted |= version.ended > self.flushed || !version.done;
            }
        }
    }

    /// True if a flush of the host failed in this session.
    pub fn session_failed(&self) -> bool {
        self.failed
    }

    /// The session ended with everything told and covered: a clean close.
    pub fn closed(&mut self) {
        assert!(
            self.writes.is_empty() && self.reads.is_empty(),
            "a close with requests under way"
        );
        if !self.failed {
            let now = self.begin_flush();
            self.end_flush(now);
        }
        self.failed = false;
    }

    /// The session ended without a word: what was under way has ended, somehow.
    pub fn crashed(&mut self) {
        let now = self.tick();
        self.note_all(now, What::Crashed);
        self.reads.clear();
        while let Some((id, _)) = self.writes.first_key_value() {
            self.end_write(*id, Ending::Unsure);
        }
        self.failed = false;
    }

    /// Judges the content of the disk after a session that ended with `crash`: `bytes` from sector
    /// `first` on, read with nothing else under way. From here on it is the content of the disk.
    ///
    /// # Errors
    /// A sector has a content that the contract does not allow.
    pub fn observe(&mut self, crash: Crash, first: u64, bytes: &[u8]) -> Result<(), Violation> {
        let now = self.tick();
        for (sector, bytes) in (first..).zip(bytes.as_chunks::<SECTOR>().0) {
            let versions = &mut self.sectors[index(sector)].versions;
            let mut candidates = versions.iter().rev().filter(|v| v.candidate);
            let Some(seen) = candidates
                .find(|v| v.content.matches(sector, bytes))
                .copied()
            else {
                let versions = &self.sectors[index(sector)].versions;
                let allowed: Vec<_> = versions.iter().filter(|v| v.candidate).collect();
                return Err(self.violation("after a crash, the disk", sector, bytes, &allowed));
            };
            versions.retain(|v| v.candidate && crash == Crash::Kill);
            if versions.len() != 1 {
                versions.push(Version {
                    tainted: seen.tainted,
                    ..Version::settled(seen.content, now)
                });
            }
        }
        self.tick();
        self.history.note(
            now,
            first,
            (bytes.len() / SECTOR) as u64,
            What::Observed(crash),
        );
        Ok(())
    }

    /// How many sectors have more than one content that may come back after a crash.
    pub fn undecided(&self) -> usize {
        let several = |s: &&Sector| s.versions.iter().filter(|v| v.candidate).count() > 1;
        self.sectors.iter().filter(several).count()
    }

    fn note_all(&mut self, now: Time, what: What) {
        self.history.note(now, 0, self.sectors.len() as u64, what);
    }

    fn violation(
        &self,
        who: &str,
        sector: u64,
        bytes: &[u8; SECTOR],
        allowed: &[&Version],
    ) -> Violation {
        let allowed: Vec<String> = allowed.iter().map(|v| v.content.to_string()).collect();
        Violation(format!(
            "{who} has {} in sector {sector} (byte {:#x}); allowed: {}\n{}",
            Content::describe(sector, bytes),
            sector * SECTOR as u64,
            allowed.join(", "),
            self.history.of(sector),
        ))
    }
}

impl Sector {
    /// A sector whose content is known.
    fn settled(content: Content, at: Time) -> Self {
        Self {
            versions: vec![Version::settled(content, at)],
            listed: false,
        }
    }
}

impl Version {
    /// A content that is there and known to be.
    fn settled(content: Content, at: Time) -> Self {
        Self {
            content,
            submitted: at,
            ended: at + 1,
            done: true,
            tainted: false,
            candidate: true,
        }
    }
}

/// Versions that ended at or before this moment are superseded by the writes that `counts` admits.
fn superseded_before(versions: &[Version], counts: impl Fn(&Version) -> bool) -> Time {
    versions
        .iter()
        .filter(|v| counts(v))
        .map(|v| v.submitted)
        .max()
        .unwrap_or(0)
}

/// A write that was submitted at `bound` is durable: what had ended by then cannot come back.
fn forget_candidates(versions: &mut [Version], bound: Time) {
    for version in versions {
        version.candidate &= version.ended > bound;
    }
}

/// Drops what can neither be read, by the oldest read under way or a later one, nor come back.
fn forget_versions(versions: &mut Vec<Version>, oldest_read: Time) {
    let bound = superseded_before(versions, |v| v.done && v.ended <= oldest_read);
    versions.retain(|v| v.candidate || v.ended > bound);
}
