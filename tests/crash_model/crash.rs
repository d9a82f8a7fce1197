//! Crashes: every disk that a power cut or a kill can leave.
//!
//! A crash leaves a [`Start`], from which recovery sets out, and [`Places`], the data below it.
//! They are apart because recovery reads metadata only: sectors of metadata, and lengths of files,
//! are enumerated in every combination, while each data sector is one unknown (*kept*: what a power
//! cut leaves of it; *cached*: what a read returned when a kill fell) whose possibilities stand in
//! `Places`. This loses nothing: data sectors survive independently of each other, so a disk that
//! shows a wrong content in one combination shows it for that sector alone.

use std::fmt::Write as _;
use std::rc::Rc;

use super::content::{Content, SECTOR, ZERO};
use super::disk::{Action, Cached, Disk, File, Kind, Pending, Version};

/// How the machine stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Crash {
    /// The cache is lost.
    PowerCut,
    /// The process ends; the cache lives on. What was under way has happened in part.
    Kill,
}

/// What is known of all data when recovery sets out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Data {
    Durable,
    Cached,
    /// A flush of it failed before: no later one saves it.
    Stuck,
}

/// The disk after a crash, with unknowns for data.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Start {
    /// For each file that is not fixed: its length, then its metadata sectors.
    slots: Vec<Cached<u32>>,
    data: Data,
    /// Places where what is not durable are the zeros of a truncation, which a failed flush spares.
    ordered: Vec<u32>,
}

/// What the unknowns of a [`Start`] can be, by the place of the sector.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Places {
    /// What reads return.
    pub(crate) cached: Vec<Content>,
    /// What a power cut would leave.
    pub(crate) kept: Vec<Content>,
}

/// Hands every disk that a crash could leave now to `each`. `places` are those of now.
pub(crate) fn each_start(disk: &Disk, places: &Places, crash: Crash, each: &mut dyn FnMut(Start)) {
    let is_stuck = disk
        .files
        .iter()
        .any(|file| file.data().iter().any(Cached::is_stuck));
    let data = match crash {
        Crash::PowerCut => Data::Durable,
        Crash::Kill if is_stuck => Data::Stuck,
        Crash::Kill if places.cached != places.kept => Data::Cached,
        Crash::Kill => Data::Durable,
    };
    let ordered = if data == Data::Durable {
        Vec::new()
    } else {
        ordered_places(disk)
    };
    let ways = alternatives(disk, crash);
    let mut at = vec![0; ways.len()];
    loop {
        let slots = ways
            .iter()
            .zip(&at)
            .map(|(ways, at)| ways[*at].clone())
            .collect();
        each(Start {
            slots,
            data,
            ordered: ordered.clone(),
        });
        let Some(slot) = (0..at.len())
            .rev()
            .find(|slot| at[*slot] + 1 < ways[*slot].len())
        else {
            return;
        };
        at[slot] += 1;
        at[slot + 1..].fill(0);
    }
}

/// What can become of each slot.
fn alternatives(disk: &Disk, crash: Crash) -> Vec<Vec<Cached<u32>>> {
    let mut ways = Vec::new();
    for (number, file) in disk
        .files
        .iter()
        .enumerate()
        .filter(|(_, file)| !file.fixed)
    {
        ways.push(ways_of(
            &file.length,
            pending_lengths(disk, number),
            crash,
            Kind::Ordered,
        ));
        for (at, sector) in file.sectors[..file.metadata].iter().enumerate() {
            let numbers = Cached {
                durable: sector.durable.number(),
                later: sector
                    .later
                    .iter()
                    .map(|v| with_value(v, v.value.number()))
                    .collect(),
            };
            let pending = pending_contents(disk, number, at)
                .map(Content::number)
                .collect();
            ways.push(ways_of(&numbers, pending, crash, Kind::Page));
        }
    }
    ways
}

fn ways_of(value: &Cached<u32>, pending: Vec<u32>, crash: Crash, kind: Kind) -> Vec<Cached<u32>> {
    if value.later.is_empty() && pending.is_empty() {
        return vec![value.clone()];
    }
    let mut ways: Vec<_> = match crash {
        Crash::PowerCut => value.survivors().chain(pending).map(Cached::new).collect(),
        Crash::Kill => {
            let applied = pending.into_iter().map(|value_written| {
                let mut value = value.clone();
                value.put(value_written, 0, kind);
                value
            });
            std::iter::once(value.clone())
                .chain(applied)
                .map(|value| aged(&value, kind))
                .collect()
        }
    };
    ways.sort_by_key(|way| (way.view(), way.later.len()));
    ways.dedup();
    ways
}

/// The value with its history reduced to what can still matter.
fn aged(value: &Cached<u32>, kind: Kind) -> Cached<u32> {
    let version = |value, kind| Version {
        value,
        done: 0,
        kind,
    };
    if value.is_stuck() {
        let later = value
            .later
            .iter()
            .map(|v| version(v.value, v.kind))
            .collect();
        return Cached {
            durable: value.durable,
            later,
        };
    }
    let view = value.view();
    let mut others: Vec<u32> = value.survivors().filter(|other| *other != view).collect();
    others.sort_unstable();
    others.dedup();
    match others.split_first() {
        None => Cached::new(view),
        Some((durable, others)) => {
            let later = others
                .iter()
                .chain([&view])
                .map(|other| version(*other, kind));
            Cached {
                durable: *durable,
                later: later.collect(),
            }
        }
    }
}

fn with_value<T: Copy, U>(version: &Version<T>, value: U) -> Version<U> {
    Version {
        value,
        done: version.done,
        kind: version.kind,
    }
}

/// Lengths that operations under way would give a file.
fn pending_lengths(disk: &Disk, file: usize) -> Vec<u32> {
    let length = disk.files[file].length.view();
    let given = |pending: &Pending| match &pending.action {
        Action::Truncate { length } => Some(*length),
        Action::Write { first, contents } => {
            let end = u32::try_from(first + contents.len()).expect("a small file");
            Some(end).filter(|end| *end > length)
        }
        _ => None,
    };
    disk.pending
        .iter()
        .filter(|pending| pending.file == file)
        .filter_map(given)
        .collect()
}

/// Contents that operations under way would give a sector.
fn pending_contents(disk: &Disk, file: usize, at: usize) -> impl Iterator<Item = Content> {
    disk.pending
        .iter()
        .filter(move |pending| pending.file == file)
        .filter_map(move |pending| match &pending.action {
            Action::Write { first, contents } => contents.get(at.checked_sub(*first)?).copied(),
            Action::Truncate { length } if at >= *length as usize => Some(ZERO),
            _ => None,
        })
}

/// Data sectors of which only truncations are not durable.
fn ordered_places(disk: &Disk) -> Vec<u32> {
    let mut places = Vec::new();
    for (number, file) in disk.files.iter().enumerate() {
        for (at, sector) in (file.metadata..).zip(file.data()) {
            let ordered = sector
                .later
                .iter()
                .all(|version| version.kind == Kind::Ordered);
            if ordered && !sector.later.is_empty() {
                places.push(disk.place(number, at));
            }
        }
    }
    places
}

impl Places {
    /// What each data sector can be after a crash now.
    pub(crate) fn of(disk: &Disk) -> Self {
        let (mut cached, mut kept) = (Vec::new(), Vec::new());
        for (number, file) in disk.files.iter().enumerate() {
            for (at, sector) in (file.metadata..).zip(file.data()) {
                let pending = || pending_contents(disk, number, at);
                if sector.later.is_empty() && pending().next().is_none() {
                    cached.push(sector.durable);
                    kept.push(sector.durable);
                    continue;
                }
                let place = disk.place(number, at);
                cached.push(Content::one_of(place, pending().chain([sector.view()])));
                kept.push(Content::one_of(place, pending().chain(sector.survivors())));
            }
        }
        Self { cached, kept }
    }
}

impl Start {
    /// The disk from which recovery sets out; `like` says how its files are cut.
    pub(crate) fn disk(&self, like: &Disk) -> Disk {
        let mut slots = self.slots.iter();
        let mut files = Vec::new();
        for (number, model) in like.files.iter().enumerate() {
            if model.fixed {
                files.push(Rc::clone(model));
                continue;
            }
            let mut file = File::clone(model);
            file.length = slots.next().expect("a slot for each length").clone();
            for (sector, slot) in file.sectors[..model.metadata].iter_mut().zip(&mut slots) {
                sector.durable = Content::of_number(slot.durable);
                let later = slot
                    .later
                    .iter()
                    .map(|v| with_value(v, Content::of_number(v.value)));
                sector.later = later.collect();
            }
            let longest = file.length.survivors().max().expect("at least one") as usize;
            let view = file.length.view() as usize;
            let first = like.place(number, model.metadata);
            let data = file.sectors.iter_mut().enumerate().skip(model.metadata);
            for ((at, sector), place) in data.zip(first..) {
                *sector = match at < longest {
                    true => self.data_sector(place, at < view),
                    false => Cached::new(ZERO),
                };
            }
            files.push(Rc::new(file));
        }
        Disk::new(files)
    }

    /// A data sector within any length that the file may come to have; `visible` where reads see
    /// it.
    fn data_sector(&self, place: u32, visible: bool) -> Cached<Content> {
        let mut sector = Cached::new(Content::kept(place));
        if self.data == Data::Durable && visible {
            return sector;
        }
        let value = if visible {
            Content::cached(place)
        } else {
            ZERO
        };
        let kind = match self.data {
            _ if !visible || self.ordered.contains(&place) => Kind::Ordered,
            Data::Stuck => Kind::Stuck,
            Data::Durable | Data::Cached => Kind::Page,
        };
        sector.later.push(Version {
            value,
            done: 0,
            kind,
        });
        sector
    }

    /// The metadata that is not as `before`, for a reader.
    pub(crate) fn describe(&self, before: &Disk) -> String {
        let (mut text, mut slots) = (String::new(), self.slots.iter());
        for file in before.files.iter().filter(|file| !file.fixed) {
            let length = slots.next().expect("a slot for each length");
            let _ = write!(
                text,
                "{} of {}",
                file.name,
                shown(length, |length| length.to_string())
            );
            for (at, (slot, old)) in (&mut slots)
                .take(file.metadata)
                .zip(&file.sectors)
                .enumerate()
            {
                if *slot != Cached::new(old.durable.number()) {
                    let content = |number| digest(&Content::of_number(number).bytes());
                    let _ = write!(text, ", sector {at}: {}", shown(slot, content));
                }
            }
            text.push_str("; ");
        }
        text + &format!("data: {:?}", self.data)
    }

    /// True if a failed flush left something that no later flush saves.
    pub(crate) fn is_stuck(&self) -> bool {
        self.data == Data::Stuck || self.slots.iter().any(Cached::is_stuck)
    }
}

fn shown(value: &Cached<u32>, content: impl Fn(u32) -> String) -> String {
    let mut text = content(value.durable);
    for version in &value.later {
        let mark = if version.kind == Kind::Stuck {
            "stuck "
        } else {
            ""
        };
        let _ = write!(text, " < {mark}{}", content(version.value));
    }
    text
}

/// The words of a sector of metadata, as far as there are any.
fn digest(bytes: &[u8; SECTOR]) -> String {
    let words: Vec<_> = bytes
        .chunks(4)
        .map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]))
        .collect();
    let used = words
        .iter()
        .rposition(|word| !matches!(*word, 0 | u32::MAX))
        .map_or(0, |last| last + 1);
    let words: Vec<_> = words[..used]
        .iter()
        .map(|word| format!("{word:x}"))
        .collect();
    format!("[{}]", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::super::disk::Ending;
    use super::*;

    /// One file: a sector of metadata, and data behind it.
    fn disk() -> Disk {
        let mut file = File::new("image", 1, 3);
        file.metadata = 1;
        Disk::new(vec![Rc::new(file)])
    }

    fn write(write: u32, first: usize, sectors: u32) -> Action {
        Action::Write {
            first,
            contents: (0..sectors).map(|s| Content::pattern(write, s)).collect(),
        }
    }

    fn all(disk: &Disk, crash: Crash) -> Vec<Start> {
        let mut starts = Vec::new();
        each_start(disk, &Places::of(disk), crash, &mut |start| {
            starts.push(start);
        });
        starts
    }

    #[test]
    fn a_power_cut_combines_metadata_and_lengths_and_leaves_data_open() {
        let mut disk = disk();
        disk.submit(0, write(1, 0, 1));
        disk.submit(0, write(2, 1, 2));
        disk.complete(0, Ending::Good);
        let starts = all(&disk, Crash::PowerCut);
        assert_eq!(
            starts.len(),
            4,
            "the sector or not, and the longer file or not"
        );
        let kept: Vec<_> = Places::of(&disk)
            .kept
            .iter()
            .map(Content::to_string)
            .collect();
        assert_eq!(kept, ["{zeros | w2:0}", "{zeros | w2:1}"]);
    }

    #[test]
    fn a_kill_leaves_the_cache_and_what_a_power_cut_may_still_take() {
        let mut disk = disk();
        disk.submit(0, write(1, 0, 1));
        disk.complete(0, Ending::Good);
        let starts = all(&disk, Crash::Kill);
        assert_eq!(starts.len(), 1);
        let recovering = starts[0].disk(&disk);
        let sector = &recovering.files[0].sectors[0];
        assert_eq!(
            (sector.view(), sector.durable),
            (Content::pattern(1, 0), ZERO)
        );
    }

    #[test]
    fn after_a_power_cut_data_is_what_the_file_still_reaches() {
        let mut disk = disk();
        disk.submit(0, write(2, 1, 2));
        let [short, long] = [0, 1].map(|at| all(&disk, Crash::PowerCut)[at].disk(&disk));
        assert_eq!(short.files[0].sectors[1].view(), ZERO);
        assert_eq!(long.files[0].sectors[1].view(), Content::kept(0));
    }

    #[test]
    fn equal_histories_are_one_start() {
        let mut disk = disk();
        for round in [1, 2, 1] {
            disk.submit(0, write(round, 0, 1));
            disk.complete(0, Ending::Good);
        }
        let again = all(&disk, Crash::Kill);
        disk.submit(0, write(1, 0, 1));
        disk.complete(0, Ending::Good);
        assert_eq!(again[0], all(&disk, Crash::Kill)[0]);
    }
}
