//! Tiny images to search, each with the requests that its programs are made of.
//!
//! All disks have 24 sectors. With a block of 6 sectors and a chunk of 8, as most have, no border
//! of one is a border of the other but the ends:
//!
//! ```text
//!   sectors  0     6     12    18  22 24
//!   blocks   |--0--|--1--|--2--|-3-|            22: the base image ends
//!   chunks   |---0---|---1---|---2---|
//!                    8      16
//! ```

use std::ops::Range;
use std::rc::Rc;

use fvd::host::Host;
use fvd::{Attribute, CreateOptions, Image, OpenOptions};

use super::choice::Choices;
use super::content::{Content, SECTOR, ZERO};
use super::disk::{Cached, Disk, File};
use super::guest::Request::{self, Cancel, Durable, Fetch, Flush, Read, Write};
use super::host::{Faults, ModelHost};
use super::run::IMAGE;

/// Sectors of the guest's disk.
pub(crate) const SECTORS: u32 = 24;
/// Sectors of the base image.
pub(crate) const BASE: u32 = 22;
/// Sectors of the journal that are used, so that it is full after one or two rounds.
const JOURNAL_SECTORS: u64 = 2;

/// A tiny image.
#[derive(Clone, Debug)]
pub(crate) struct Story {
    /// How it is created, in the words of the create options.
    pub(crate) create: String,
    /// How it is opened.
    pub(crate) open: OpenOptions,
    /// What was written, flushed and closed before the story begins.
    pub(crate) before: Range<u32>,
    /// After a crash, an operation of the first open may fail.
    pub(crate) recovery_fails: bool,
    /// Attributes that are changed, in place of its use, after a crash; none: nothing is.
    pub(crate) update: Vec<Attribute>,
    /// The requests that programs are made of.
    pub(crate) alphabet: Vec<Request>,
}

/// Where most images here come from.
const COMPACT: &str = "compact_image=on,chunk_size=4096,storage_grow_unit=4096";
const JOURNAL: &str = "journal_size=4096";
const BASED: &str = "backing_file=base,block_size=3072";

impl Story {
    fn new(create: &[&str], alphabet: &[Request]) -> Self {
        Self {
            create: format!("size=12288,{}", create.join(",")),
            open: OpenOptions {
                journal_limit: Some(JOURNAL_SECTORS),
                ..OpenOptions::default()
            },
            before: 0..0,
            recovery_fails: false,
            update: Vec::new(),
            alphabet: alphabet.to_vec(),
        }
    }

    /// Bitmap and table: blocks that reach into two chunks, chunks that hold parts of three blocks.
    pub(crate) fn compact_over_base() -> Self {
        let alphabet = [
            Write(1..2),
            Write(3..4),
            Write(6..7),
            Write(15..17),
            Write(20..24),
            Durable(12..18),
            Fetch(6..24),
            Flush,
            Cancel,
        ];
        Self::new(&[BASED, COMPACT, JOURNAL], &alphabet)
    }

    /// Chunks of 16 sectors, blocks of 2: what one round changes goes into several sectors of the
    /// journal, which need the same entry.
    pub(crate) fn large_chunks() -> Self {
        let create = "backing_file=base,block_size=1024,compact_image=on,chunk_size=8192";
        let alphabet = [
            Write(0..1),
            Write(5..6),
            Write(15..17),
            Durable(20..24),
            Fetch(4..10),
            Flush,
        ];
        Self::new(&[create, "storage_grow_unit=8192", JOURNAL], &alphabet)
    }

    /// Block 1 is present, with chunks 0 and 1.
    pub(crate) fn partly_present() -> Self {
        let alphabet = [
            Write(1..2),
            Write(5..8),
            Write(20..24),
            Durable(10..13),
            Fetch(0..6),
            Flush,
        ];
        let story = Self::new(&[BASED, COMPACT, JOURNAL], &alphabet);
        Self {
            before: 9..11,
            ..story
        }
    }

    /// A bitmap, no table.
    pub(crate) fn flat_over_base() -> Self {
        let alphabet = [
            Write(1..2),
            Write(3..4),
            Write(5..13),
            Durable(21..24),
            Fetch(0..22),
            Flush,
            Cancel,
        ];
        Self::new(&[BASED, JOURNAL], &alphabet)
    }

    /// A table, no bitmap.
    pub(crate) fn compact_alone() -> Self {
        let alphabet = [
            Write(1..2),
            Write(6..10),
            Write(9..10),
            Durable(16..24),
            Flush,
            Cancel,
        ];
        Self::new(&[COMPACT, JOURNAL], &alphabet)
    }

    /// Bitmap and table, and no journal.
    pub(crate) fn without_journal() -> Self {
        let alphabet = [
            Write(1..2),
            Write(3..4),
            Write(7..9),
            Durable(20..24),
            Fetch(0..12),
            Flush,
        ];
        Self::new(&[BASED, COMPACT, "journal_size=-1"], &alphabet)
    }

    /// Bitmap, table and journal in one file, the data in another.
    pub(crate) fn with_data_file() -> Self {
        let alphabet = [
            Write(1..2),
            Write(3..4),
            Write(7..9),
            Durable(20..24),
            Fetch(0..12),
            Flush,
        ];
        Self::new(&[BASED, COMPACT, JOURNAL, "data_file=data"], &alphabet)
    }

    /// The same story, where no request takes the fast path.
    pub(crate) fn on_the_slow_path(mut self) -> Self {
        self.open.fast_path = false;
        self
    }

    /// The same story, where the guest reads, too.
    pub(crate) fn read_too(mut self) -> Self {
        self.alphabet.push(Read(0..SECTORS));
        self
    }

    /// The same story, where every write is durable when it completes.
    pub(crate) fn written_through(mut self) -> Self {
        self.open.write_through = true;
        self
    }

    /// The same story; after each crash, an operation of the next open may fail.
    pub(crate) fn badly_recovered(mut self) -> Self {
        self.recovery_fails = true;
        self
    }

    /// The same story; after each crash attributes are changed, too.
    pub(crate) fn updated(mut self, attributes: &[&str]) -> Self {
        let parse = |text: &&str| Attribute::parse(text).expect("the attribute is right");
        self.update = attributes.iter().map(parse).collect();
        self
    }

    /// The image as it is when the story begins, and what its disk reads.
    pub(crate) fn begin(&self) -> (Disk, Vec<Content>) {
        let host = ModelHost::new(empty_disk(), Choices::default(), Faults::None);
        let library_host: Rc<dyn Host> = Rc::<ModelHost>::clone(&host);
        let options = CreateOptions::parse(&self.create).expect("the options are right");
        Image::create(&library_host, IMAGE, &options).expect("an image can be created");
        self.cut_files(&host, &library_host);
        let mut contents: Vec<_> = (0..SECTORS).map(|sector| self.initial(sector)).collect();
        self.write_before(&library_host, &mut contents);
        let mut disk = host.disk.borrow().clone();
        disk.settle();
        (disk, contents)
    }

    fn initial(&self, sector: u32) -> Content {
        if self.create.contains("backing_file") && sector < BASE {
            Content::pattern(0, sector)
        } else {
            ZERO
        }
    }

    /// Tells metadata from data, now that the image has a size, and leaves room for no more data
    /// than a disk of this size can need: a chunk that is lost for ever is one too many.
    fn cut_files(&self, host: &ModelHost, library_host: &Rc<dyn Host>) {
        let read_only = OpenOptions {
            read_only: true,
            ..self.open.clone()
        };
        let image = Image::open(library_host, IMAGE, &read_only).expect("a new image opens");
        let geometry = image.info().geometry;
        image.close().expect("a read-only image closes");
        let chunk = geometry
            .chunks
            .map_or(1, |chunks| chunks.chunk_size / SECTOR as u64);
        let room = u64::from(SECTORS).next_multiple_of(chunk);
        let metadata = sectors(geometry.metadata_size);
        let mut disk = host.disk.borrow_mut();
        let image = Rc::make_mut(&mut disk.files[0]);
        image.metadata = metadata;
        let room = usize::try_from(room).expect("a tiny disk");
        let data = if geometry.separate_data { 1 } else { 0 };
        image
            .sectors
            .truncate(metadata + if data == 0 { room } else { 0 });
        let file = Rc::make_mut(&mut disk.files[1]);
        file.metadata = 0;
        file.sectors.truncate(if data == 1 { room } else { 0 });
    }

    fn write_before(&self, host: &Rc<dyn Host>, contents: &mut [Content]) {
        if self.before.is_empty() {
            return;
        }
        let image = Image::open(host, IMAGE, &self.open).expect("a new image opens");
        for sector in self.before.clone() {
            let content = Content::pattern(u32::MAX, sector);
            let at = u64::from(sector) * SECTOR as u64;
            let written = image.write_at(at, &content.bytes());
            written.expect("a sector can be written");
            contents[sector as usize] = content;
        }
        image.close().expect("the image closes");
    }
}

/// Files without content: the image, its data file, its base.
fn empty_disk() -> Disk {
    let mut base = File::new("base", BASE, BASE as usize);
    base.fixed = true;
    for (sector, content) in (0..).zip(&mut base.sectors) {
        *content = Cached::new(Content::pattern(0, sector));
    }
    let capacity = 128;
    let files = [
        File::new("image", 0, capacity),
        File::new("data", 0, capacity),
        base,
    ];
    Disk::new(files.into_iter().map(Rc::new).collect())
}

fn sectors(bytes: u64) -> usize {
    usize::try_from(bytes).expect("a tiny file") / SECTOR
}
