//! The disk below the library: files, what their cache holds, and what a power cut could leave of
//! them.
//!
//! Each sector, and the length of each file, is a [`Cached`] value: what is durable, and every
//! later version since. A flush moves the durable one up to what completed before the flush was
//! submitted. A power cut leaves, of each sector independently, the durable version or any later
//! one, or what an operation under way was writing; [`crash`](super::crash) enumerates that.
//!
//! After a failed flush the kernel takes the pages it could not write for clean: their versions are
//! *stuck*: no later flush makes them durable, though they may have reached the disk all the same.
//! Or it drops the pages, and reads show the durable version again. Lengths, and the zeros that a
//! truncation leaves, belong to the file system, which keeps an order of its own: they can be lost
//! in a power cut, but the next good flush saves them.

use std::hash::{Hash, Hasher};
use std::rc::Rc;

use super::content::{Content, SECTOR, ZERO};
use super::mix::{Mixer, hash};

/// Counts events; the order of any two of them can be told.
pub(crate) type Time = u32;

/// A version of a value that is not known to be durable.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Version<T> {
    pub(crate) value: T,
    /// When its operation completed.
    pub(crate) done: Time,
    pub(crate) kind: Kind,
}

/// What a failed flush does to a version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Kind {
    /// A page that was written: it gets stuck, or is dropped.
    Page,
    /// A flush of it failed: no later one saves it.
    Stuck,
    /// A length, or the zeros of a truncation: nothing; the next good flush makes it durable.
    Ordered,
}

/// What a flush did.
#[derive(Clone, Copy)]
enum Flushed {
    /// It made durable what completed before it was submitted, at this time.
    Since(Time),
    /// It failed, and the cache thinks that what it holds is clean.
    Stuck,
    /// It failed, and the cache holds nothing any more.
    Dropped,
}

/// A value on the disk, and in the cache above it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Cached<T> {
    pub(crate) durable: T,
    /// Later versions; reads see the last one.
    pub(crate) later: Vec<Version<T>>,
}

impl<T: Copy + Eq> Cached<T> {
    /// A value that is durable.
    pub(crate) fn new(value: T) -> Self {
        Self {
            durable: value,
            later: Vec::new(),
        }
    }

    /// What reads see.
    pub(crate) fn view(&self) -> T {
        self.later
            .last()
            .map_or(self.durable, |version| version.value)
    }

    /// A change of it has completed.
    pub(crate) fn put(&mut self, value: T, done: Time, kind: Kind) {
        if !self.later.is_empty() || self.durable != value {
            self.later.push(Version { value, done, kind });
        }
    }

    /// True if a flush of it failed, and no later one will save it.
    pub(crate) fn is_stuck(&self) -> bool {
        self.later.iter().any(|version| version.kind == Kind::Stuck)
    }

    /// A flush has ended.
    fn flush(&mut self, flushed: Flushed) {
        match flushed {
            Flushed::Since(since) => {
                let covered =
                    |version: &Version<T>| version.done <= since && version.kind != Kind::Stuck;
                if let Some(newest) = self.later.iter().rposition(covered) {
                    self.durable = self.later[newest].value;
                    self.later.drain(..=newest);
                }
                if self
                    .later
                    .iter()
                    .all(|version| version.value == self.durable)
                {
                    self.later.clear();
                }
            }
            Flushed::Stuck => {
                let pages = self
                    .later
                    .iter_mut()
                    .filter(|version| version.kind == Kind::Page);
                pages.for_each(|version| version.kind = Kind::Stuck);
            }
            Flushed::Dropped => self.later.retain(|version| version.kind == Kind::Ordered),
        }
    }

    /// What a power cut could leave of it, without what is under way.
    pub(crate) fn survivors(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::once(self.durable).chain(self.later.iter().map(|version| version.value))
    }
}

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) name: &'static str,
    /// Its length in sectors.
    pub(crate) length: Cached<u32>,
    /// As many as it can ever have.
    pub(crate) sectors: Vec<Cached<Content>>,
    /// The first so many are metadata, the others data.
    pub(crate) metadata: usize,
    /// The base image, which nobody writes.
    pub(crate) fixed: bool,
}

impl File {
    /// A file that is durably `length` sectors of zeros, and may grow to `capacity`.
    pub(crate) fn new(name: &'static str, length: u32, capacity: usize) -> Self {
        let sectors = vec![Cached::new(ZERO); capacity];
        Self {
            name,
            length: Cached::new(length),
            sectors,
            metadata: capacity,
            fixed: false,
        }
    }

    /// Its data sectors; a fixed file has none that anybody wonders about.
    pub(crate) fn data(&self) -> &[Cached<Content>] {
        if self.fixed {
            &[]
        } else {
            &self.sectors[self.metadata..]
        }
    }

    fn write(&mut self, first: usize, contents: &[Content], now: Time) {
        let end = first + contents.len();
        let name = self.name;
        let capacity = self.sectors.len();
        assert!(
            end <= capacity,
            "'{name}' grows to {end} sectors: a chunk was lost for ever"
        );
        for (sector, content) in self.sectors[first..end].iter_mut().zip(contents) {
            sector.put(*content, now, Kind::Page);
        }
        self.reach(end, now);
    }

    fn reach(&mut self, end: usize, now: Time) {
        let end = u32::try_from(end).expect("a small file");
        if end > self.length.view() {
            self.length.put(end, now, Kind::Ordered);
        }
    }

    fn flush(&mut self, flushed: Flushed) {
        self.length.flush(flushed);
        for sector in self
            .sectors
            .iter_mut()
            .filter(|sector| !sector.later.is_empty())
        {
            sector.flush(flushed);
        }
    }

    fn truncate(&mut self, length: u32, now: Time) {
        assert!(
            length as usize <= self.sectors.len(),
            "'{}' grows to {length} sectors",
            self.name
        );
        self.length.put(length, now, Kind::Ordered);
        for sector in &mut self.sectors[length as usize..] {
            sector.put(ZERO, now, Kind::Ordered);
        }
    }
}

/// What an operation under way does.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Action {
    /// Reads.
    Read { offset: u64, len: u64 },
    /// Writes sectors.
    Write {
        first: usize,
        contents: Vec<Content>,
    },
    /// Makes durable.
    Flush,
    /// Sets the length, in sectors.
    Truncate { length: u32 },
}

/// An operation under way.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) file: usize,
    pub(crate) action: Action,
    pub(crate) submitted: Time,
}

/// How an operation ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Ending {
    /// Well.
    Good,
    /// With an error, and nothing of it happened.
    Refused,
    /// A write, with an error, though some of it happened: of metadata the first sector that
    /// changes, of data nobody knows which sectors.
    Torn,
    /// With an error, though all of it happened.
    Deceived,
    /// A flush, with an error; the cache keeps what was to be written, and thinks it is clean.
    PagesKept,
    /// A flush, with an error; the cache has dropped what was to be written.
    PagesDropped,
}

/// All files, and what is under way on them, in the order of submission.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) files: Vec<Rc<File>>,
    pub(crate) pending: Vec<Pending>,
    pub(crate) now: Time,
    /// Tells apart what has ended, whatever the order.
    ended: u64,
}

impl Disk {
    /// A disk on which nothing is under way.
    pub(crate) fn new(files: Vec<Rc<File>>) -> Self {
        Self {
            files,
            ..Self::default()
        }
    }

    /// Starts an operation.
    pub(crate) fn submit(&mut self, file: usize, action: Action) {
        self.pending.push(Pending {
            file,
            action,
            submitted: self.now,
        });
    }

    /// Ends the operation at place `at` of the list.
    pub(crate) fn complete(&mut self, at: usize, ending: Ending) {
        let ended = hash(&(hash_pending(&self.pending[at]), ending));
        self.ended = self.ended.wrapping_add(ended);
        let Pending {
            file,
            action,
            submitted,
        } = self.pending.remove(at);
        self.now += 1;
        let now = self.now;
        match (action, ending) {
            (Action::Read { .. }, _) | (_, Ending::Refused) => {}
            (Action::Flush, Ending::Good) => self.file_mut(file).flush(Flushed::Since(submitted)),
            (Action::Flush, Ending::PagesDropped) => self.file_mut(file).flush(Flushed::Dropped),
            (Action::Flush, _) => self.file_mut(file).flush(Flushed::Stuck),
            (Action::Truncate { length }, _) => self.file_mut(file).truncate(length, now),
            (Action::Write { first, contents }, Ending::Torn) => self.tear(file, first, &contents),
            (Action::Write { first, contents }, _) => {
                self.file_mut(file).write(first, &contents, now);
            }
        }
    }

    fn file_mut(&mut self, file: usize) -> &mut File {
        Rc::make_mut(&mut self.files[file])
    }

    /// Some of a write happens.
    fn tear(&mut self, file: usize, first: usize, contents: &[Content]) {
        let now = self.now;
        let metadata = self.files[file].metadata;
        let place = self.place(file, first.max(metadata));
        let file = self.file_mut(file);
        if first < metadata {
            let old = file.sectors[first..].iter().map(Cached::view);
            let changed = contents.iter().zip(old).position(|(new, old)| *new != old);
            if let Some(at) = changed {
                file.write(first + at, &contents[at..=at], now);
            }
            return;
        }
        for ((at, content), place) in (first..).zip(contents).zip(place..) {
            let old = file.sectors[at].view();
            file.write(at, &[Content::one_of(place, [old, *content])], now);
        }
    }

    /// Reads sectors from `offset` bytes on, as far as the file goes; returns the bytes read.
    pub(crate) fn read(&self, file: usize, offset: u64, out: &mut [u8]) -> usize {
        let file = &self.files[file];
        let length = file.length.view() as usize * SECTOR;
        let offset = usize::try_from(offset).expect("a small offset").min(length);
        let len = out.len().min(length - offset);
        let mut done = 0;
        while done < len {
            let (sector, skip) = ((offset + done) / SECTOR, (offset + done) % SECTOR);
            let part = (SECTOR - skip).min(len - done);
            file.sectors[sector]
                .view()
                .copy_to(skip, &mut out[done..done + part]);
            done += part;
        }
        len
    }

    /// The number of a data sector among all data sectors.
    pub(crate) fn place(&self, file: usize, sector: usize) -> u32 {
        let before: usize = self.files[..file]
            .iter()
            .map(|file| file.data().len())
            .sum();
        u32::try_from(before + sector - self.files[file].metadata).expect("a small disk")
    }

    /// Makes everything durable, as time does.
    pub(crate) fn settle(&mut self) {
        assert!(self.pending.is_empty(), "something is under way");
        for file in 0..self.files.len() {
            self.file_mut(file).flush(Flushed::Since(Time::MAX));
        }
        (self.now, self.ended) = (0, 0);
    }

    /// A number that tells apart what has ended so far, in whatever order.
    pub(crate) fn history(&self) -> u64 {
        self.ended
    }

    /// A number that tells states of the disk apart, what is under way included. Of times it sees
    /// only what matters: which flushes under way cover which versions.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = Mixer::default();
        for (number, file) in self.files.iter().enumerate() {
            self.hash_value(number, 0, &file.length, &mut hasher);
            for (at, sector) in file.sectors.iter().enumerate() {
                self.hash_value(number, at + 1, sector, &mut hasher);
            }
        }
        let mut pending: Vec<u64> = self.pending.iter().map(hash_pending).collect();
        pending.sort_unstable();
        pending.hash(&mut hasher);
        hasher.finish()
    }

    fn hash_value<T: Hash>(&self, file: usize, at: usize, value: &Cached<T>, hasher: &mut Mixer) {
        value.durable.hash(hasher);
        for version in &value.later {
            (file, at, &version.value, version.kind).hash(hasher);
            for flush in self
                .pending
                .iter()
                .filter(|p| p.file == file && p.action == Action::Flush)
            {
                (version.done <= flush.submitted).hash(hasher);
            }
        }
    }
}

fn hash_pending(pending: &Pending) -> u64 {
    hash(&(pending.file, &pending.action))
}

#[cfg(test)]
mod tests;
