//! The files of a seed: a base, and the image that is to be put through it all.

use std::rc::Rc;

use fvd::format::options::CreateOptions;
use fvd::host::Host;
use fvd::host::sim::{Content, Crash, FileSpec, Knobs, Prng, SECTOR, SimHost, When};
use fvd::{Image, OpenOptions};

use super::scenario::{Base, Layout, Place};

/// The image.
pub(crate) const IMAGE: &str = "vm/disk.fvd";
/// Its separate data file.
pub(crate) const DATA: &str = "vm/disk.data";
const RAW: &str = "vm/base.raw";
const MIDDLE: &str = "vm/middle.fvd";

/// What a guest finds on a new disk.
#[derive(Debug)]
pub(crate) struct Initial {
    /// The content of each sector.
    pub(crate) content: Vec<Content>,
    /// The first number that no write has used.
    pub(crate) next_write: u64,
}

/// Makes all files, and says what the disk holds. The host fails nothing while it lasts.
pub(crate) fn build(
    layout: &Layout,
    host: &Rc<SimHost>,
    knobs: Knobs,
    rng: &mut Prng,
) -> Result<Initial, String> {
    host.set_knobs(Knobs {
        faults: Default::default(),
        ..knobs
    });
    let mut initial = Initial {
        content: Vec::new(),
        next_write: 1,
    };
    let base = match layout.base {
        Base::None => None,
        Base::Raw(len) => {
            add_raw(layout, host, len, &mut initial);
            Some(("base.raw", "raw"))
        }
        Base::Fvd(len) => {
            add_raw(layout, host, len, &mut initial);
            add_middle(host, len, &mut initial, rng)?;
            Some(("middle.fvd", "fvd"))
        }
    };
    let sectors = usize::try_from(layout.sectors).expect("a small disk");
    initial.content.resize(sectors, Content::Zero);
    add_devices(layout, host, rng);
    let options = layout.create_options(base);
    if rng.chance(100) {
        cut_creation(host, &options, &initial, rng)?;
    }
    create(host, IMAGE, &options)?;
    host.set_knobs(knobs);
    Ok(initial)
}

/// Creates the image, perhaps where one is already, and crashes in the middle. If that left an
/// image, it is a whole one.
fn cut_creation(
    host: &Rc<SimHost>,
    options: &str,
    initial: &Initial,
    rng: &mut Prng,
) -> Result<(), String> {
    if rng.chance(500) {
        create(host, IMAGE, options)?;
    }
    let when = if rng.chance(500) {
        When::Events(rng.skewed(60))
    } else {
        When::Flushes(rng.below(6))
    };
    host.plan_crash(Some((when, Crash::PowerCut)));
    let created = create(host, IMAGE, options);
    if host.dead().is_none() {
        host.crash(Crash::PowerCut);
    }
    host.revive();
    let dyn_host: Rc<dyn Host> = host.clone();
    match Image::open(&dyn_host, IMAGE, &OpenOptions::default()) {
        Ok(image) => is_new(image, initial),
        Err(error) if created.is_ok() => Err(format!("a new image does not open: {error}")),
        Err(_) => Ok(()),
    }
}

/// Reads all of an image that nobody has written to, and closes it.
fn is_new(image: Image, initial: &Initial) -> Result<(), String> {
    let mut bytes = vec![0; initial.content.len() * SECTOR];
    let failed = |error: fvd::Error| format!("a new image: {error}");
    image.read_at(0, &mut bytes).map_err(failed)?;
    image.close().map_err(failed)?;
    for (sector, bytes) in (0..).zip(bytes.as_chunks::<SECTOR>().0) {
        let content = initial.content[usize::try_from(sector).expect("a small disk")];
        if !content.matches(sector, bytes) {
            let seen = Content::describe(sector, bytes);
            return Err(format!(
                "a new image has {seen} in sector {sector} instead of {content}"
            ));
        }
    }
    Ok(())
}

fn create(host: &Rc<SimHost>, name: &str, options: &str) -> Result<(), String> {
    let parsed = CreateOptions::parse(options).map_err(|error| format!("{options}: {error}"))?;
    let host: Rc<dyn Host> = host.clone();
    Image::create(&host, name, &parsed).map_err(|error| format!("creating with {options}: {error}"))
}

/// A raw base whose sectors hold write 0, but for holes and what its length cuts off.
fn add_raw(layout: &Layout, host: &SimHost, len: u64, initial: &mut Initial) {
    let mut bytes = Vec::new();
    for sector in 0..len.div_ceil(SECTOR as u64) {
        let in_hole = layout.holes > 0 && sector % layout.holes >= layout.holes / 2;
        let left = len - sector * SECTOR as u64;
        let content = match u16::try_from(left) {
            _ if in_hole => Content::Zero,
            Ok(left) if left < 512 => Content::Cut(0, left),
            _ => Content::Pattern(0),
        };
        let mut sector_bytes = [0; SECTOR];
        content.fill(sector, &mut sector_bytes);
        bytes.extend_from_slice(&sector_bytes);
        initial.content.push(content);
    }
    bytes.truncate(usize::try_from(len).expect("a small base"));
    host.add_file(FileSpec {
        name: RAW.into(),
        bytes,
        is_device: false,
        protected: true,
    });
}

/// An FVD image over the raw base, in which a few regions were written. Nobody will ever recover
/// it, if it crashed: a base is only read.
fn add_middle(
    host: &Rc<SimHost>,
    len: u64,
    initial: &mut Initial,
    rng: &mut Prng,
) -> Result<(), String> {
    let sectors = initial.content.len() as u64;
    let bytes = sectors * SECTOR as u64;
    let compact = match rng.chance(500) {
        true => ",compact_image=on,chunk_size=8192,storage_grow_unit=65536",
        false => "",
    };
    let block = rng.pick(&[512, 4096, 7680]);
    let base = "backing_file=base.raw,backing_fmt=raw";
    let options = format!("size={bytes},{base},block_size={block},journal_size=4096{compact}");
    create(host, MIDDLE, &options)?;
    let dyn_host: Rc<dyn Host> = host.clone();
    let failed = |error: fvd::Error| format!("writing the middle image over {len} bytes: {error}");
    let image = Image::open(&dyn_host, MIDDLE, &OpenOptions::default()).map_err(failed)?;
    for _ in 0..rng.below(6) {
        let first = rng.below(sectors);
        let count = rng.between(1, 40).min(sectors - first);
        let content = Content::Pattern(initial.next_write);
        initial.next_write += 1;
        let mut bytes = Vec::new();
        for sector in first..first + count {
            let mut sector_bytes = [0; SECTOR];
            content.fill(sector, &mut sector_bytes);
            bytes.extend_from_slice(&sector_bytes);
            initial.content[usize::try_from(sector).expect("a small disk")] = content;
        }
        image
            .write_at(first * SECTOR as u64, &bytes)
            .map_err(failed)?;
    }
    if rng.chance(700) {
        image.close().map_err(failed)?;
    } else {
        image.flush().map_err(failed)?;
        host.crash(rng.pick(&[Crash::PowerCut, Crash::Kill]));
        // SAFETY: a dead host touches no memory.
        unsafe { image.abandon() };
        host.revive();
    }
    host.protect(MIDDLE);
    Ok(())
}

/// Devices, full of what was on them before: enough for all of the disk, or for little more than
/// the metadata.
fn add_devices(layout: &Layout, host: &SimHost, rng: &mut Prng) {
    let name = match layout.place {
        Place::Files | Place::DataFile => return,
        Place::Device => IMAGE,
        Place::DataDevice => DATA,
    };
    let whole = layout.sectors * SECTOR as u64 + layout.chunk_size.unwrap_or(0);
    let metadata = 300 << 10;
    let len = match layout.chunk_size {
        Some(_) if rng.chance(300) => metadata + whole / 2,
        _ => metadata + whole,
    };
    let mut bytes = vec![0; usize::try_from(len).expect("a small device")];
    let sectors = bytes.as_chunks_mut::<SECTOR>().0;
    for (sector, bytes) in (0..).zip(sectors) {
        Content::Pattern(u64::MAX >> 1).fill(sector, bytes);
    }
    bytes.truncate(bytes.len() / SECTOR * SECTOR);
    host.add_file(FileSpec {
        name: name.into(),
        bytes,
        is_device: true,
        protected: false,
    });
}
