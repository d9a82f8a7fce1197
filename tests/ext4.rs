//! Real input: what a real file system writes goes through images of many shapes, and comes back
//! whole.
//!
//! `mkfs.ext4` makes a file system from a folder of files; `debugfs` turns a copy of it into a
//! later version, with files added, changed and removed. The sectors that differ are what a guest
//! would have written. They are replayed in an arbitrary order, many at once, with flushes in
//! between, into images of many shapes: over the first version as base, and alone. Each image is
//! closed, opened again, compared whole, and converted to a raw disk, which `e2fsck` must find
//! clean and whose files must all be equal to the originals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/file_system.rs"]
mod file_system;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/tools.rs"]
mod tools;

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::OnceLock;

use fvd::format::options::CreateOptions;
use fvd::host::file::FileHost;
use fvd::host::{Host, IoVecs};
use fvd::{Callback, Image, OpenOptions};
use libc::iovec;
use tempfile::TempDir;

use file_system::{FileSystem, Version};
use rng::Rng;
use tools::{command, run};

/// Bytes of the disks.
const DISK: usize = 24 << 20;
const SECTOR: usize = 512;

/// The file systems, made once for all tests.
fn file_system() -> &'static FileSystem {
    static MADE: OnceLock<FileSystem> = OnceLock::new();
    MADE.get_or_init(|| FileSystem::make(DISK))
}

/// Runs of at most 32 sectors that differ, in an arbitrary order.
fn shuffled_writes(old: &[u8], new: &[u8], rng: &mut Rng) -> Vec<(usize, Vec<u8>)> {
    let mut writes: Vec<(usize, Vec<u8>)> = Vec::new();
    let mut most = 0;
    for at in (0..DISK).step_by(SECTOR) {
        let (old, new) = (&old[at..at + SECTOR], &new[at..at + SECTOR]);
        match writes.last_mut() {
            _ if old == new => {}
            Some((start, bytes)) if *start + bytes.len() == at && bytes.len() < most => {
                bytes.extend_from_slice(new);
            }
            _ => {
                writes.push((at, new.to_vec()));
                most = (1 + rng.below(32)) * SECTOR;
            }
        }
    }
    for last in (1..writes.len()).rev() {
        writes.swap(last, rng.below(last + 1));
    }
    writes
}

/// Submits all the writes, and waits until they have ended.
fn write_together(image: &Image, writes: &[(usize, Vec<u8>)]) {
    /// Takes note of one write's end.
    unsafe extern "C" fn ended(results: *mut c_void, result: c_int) {
        // SAFETY: it points to `results` below, which lives until every write has ended.
        let results = unsafe { &*results.cast::<RefCell<Vec<c_int>>>() };
        results.borrow_mut().push(result);
    }
    let results = RefCell::new(Vec::<c_int>::new());
    let opaque = (&raw const results).cast_mut().cast();
    let as_iovec = |(_, bytes): &(usize, Vec<u8>)| iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    let iovecs: Vec<iovec> = writes.iter().map(as_iovec).collect();
    for ((offset, _), iovec) in writes.iter().zip(&iovecs) {
        // SAFETY: the list and the bytes outlive the request, which `drain` waits for.
        let list = unsafe { IoVecs::from_raw(iovec, 1) };
        let callback = Callback {
            func: ended,
            opaque,
        };
        // SAFETY: as above; a write only reads the memory.
        unsafe { image.submit_write(*offset as u64, list, false, callback) }.unwrap();
    }
    image.drain();
    assert_eq!(results.into_inner(), vec![0; writes.len()]);
}

/// One image, from its creation to the verdict on its content.
struct Story {
    folder: TempDir,
    image: PathBuf,
    seed: u64,
}

impl Story {
    fn new(seed: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let image = folder.path().join("disk.fvd");
        Self {
            folder,
            image,
            seed,
        }
    }

    fn open(&self, options: &OpenOptions) -> Image {
        let host: Rc<dyn Host> = Rc::new(FileHost::new());
        Image::open(&host, self.image.to_str().unwrap(), options).unwrap()
    }

    /// Makes the image, over the first version of the file system where `over_base`.
    fn create(&self, options: &str, over_base: bool) {
        let mut options = CreateOptions::parse(options).unwrap();
        options.size = Some(DISK as u64);
        if over_base {
            std::fs::copy(
                file_system().path(Version::First),
                self.folder.path().join("base.raw"),
            )
            .unwrap();
            options.backing_file = Some("base.raw".to_owned());
            options.backing_fmt = "raw".to_owned();
        }
        let host: Rc<dyn Host> = Rc::new(FileHost::new());
        Image::create(&host, self.image.to_str().unwrap(), &options).unwrap();
    }

    /// Writes what makes `new` of `old`, with a flush now and then, and closes the image.
    fn replay(&self, old: &[u8], new: &[u8]) {
        let mut rng = Rng::new(self.seed);
        let image = self.open(&OpenOptions::default());
        let writes = shuffled_writes(old, new, &mut rng);
        let mut rest = &writes[..];
        while !rest.is_empty() {
            let together = rest.len().min(1 + rng.below(16));
            write_together(&image, &rest[..together]);
            rest = &rest[together..];
            if rng.below(20) == 0 {
                image.flush().unwrap();
            }
        }
        image.close().unwrap();
    }

    /// The content, after the image was opened again.
    fn content(&self) -> Vec<u8> {
        let image = self.open(&OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        });
        let mut bytes = vec![0; DISK];
        image.read_at(0, &mut bytes).unwrap();
        image.close().unwrap();
        bytes
    }

    /// Converts the image to a raw disk by the command line.
    fn convert(&self) -> PathBuf {
        let raw = self.folder.path().join("disk.raw");
        let mut fvd = command(env!("CARGO_BIN_EXE_fvd"));
        run(fvd
            .args(["convert", "-O", "raw"])
            .arg(&self.image)
            .arg(&raw));
        raw
    }
}

fn assert_same(found: &[u8], expected: &[u8], options: &str) {
    let differs = |at: &usize| found[*at..at + SECTOR] != expected[*at..at + SECTOR];
    let first = (0..DISK).step_by(SECTOR).find(differs);
    assert_eq!(
        first, None,
        "{options}: the first byte of a sector that is not as written"
    );
}

/// The image reads as `version`, and so does the raw disk it converts to.
fn assert_holds(story: &Story, version: Version, options: &str) {
    let expected = file_system().read(version);
    assert_same(&story.content(), &expected, options);
    let raw = story.convert();
    assert_same(&std::fs::read(&raw).unwrap(), &expected, options);
    file_system().assert_good_copy(&raw, version);
}

/// Over the first version as base, the differences make the second.
fn over_a_base(seed: u64, options: &str) {
    let story = Story::new(seed);
    story.create(options, true);
    let file_system = file_system();
    story.replay(
        &file_system.read(Version::First),
        &file_system.read(Version::Second),
    );
    assert_holds(&story, Version::Second, options);
    let base = std::fs::read(story.folder.path().join("base.raw")).unwrap();
    assert_same(
        &base,
        &file_system.read(Version::First),
        "the base is never written",
    );
}

/// Alone, the image first takes the first version, sector by sector, and then the differences.
fn alone(seed: u64, options: &str) {
    let story = Story::new(seed);
    story.create(options, false);
    let file_system = file_system();
    let (first, second) = (
        file_system.read(Version::First),
        file_system.read(Version::Second),
    );
    story.replay(&vec![0; DISK], &first);
    assert_holds(&story, Version::First, options);
    story.replay(&first, &second);
    assert_holds(&story, Version::Second, options);
}

#[test]
fn flat_over_a_base_in_blocks_of_any_size() {
    let shapes = [
        "block_size=512",
        "block_size=4K",
        "block_size=7680",
        "block_size=64K",
    ];
    for (seed, options) in shapes.into_iter().enumerate() {
        over_a_base(seed as u64, options);
    }
}

#[test]
fn compact_over_a_base_in_chunks_of_any_size() {
    let shapes = [
        "compact_image=on",
        "compact_image=on,chunk_size=64K,block_size=4K,storage_grow_unit=1M",
        "compact_image=on,chunk_size=40960,block_size=7680,storage_grow_unit=1M",
        "compact_image=on,chunk_size=4K,block_size=64K,storage_grow_unit=64K",
    ];
    for (seed, options) in shapes.into_iter().enumerate() {
        over_a_base(10 + seed as u64, options);
    }
}

#[test]
fn over_a_base_with_a_small_journal_or_none() {
    let shapes = [
        "block_size=4K,journal_size=-1",
        "block_size=512,journal_size=4096",
        "compact_image=on,chunk_size=64K,block_size=4K,journal_size=-1",
        "compact_image=on,chunk_size=256K,block_size=4K,journal_size=4096",
    ];
    for (seed, options) in shapes.into_iter().enumerate() {
        over_a_base(20 + seed as u64, options);
    }
}

#[test]
fn over_a_base_whose_zeros_were_found_at_creation() {
    over_a_base(30, "block_size=4K,detect_sparse_hole=16K");
}

#[test]
fn with_a_separate_data_file() {
    over_a_base(40, "block_size=4K,data_file=disk.data,data_file_fmt=raw");
    over_a_base(
        41,
        "compact_image=on,chunk_size=64K,data_file=disk.data,data_file_fmt=raw",
    );
}

#[test]
fn alone_flat_and_compact() {
    let shapes = [
        "",
        "data_file=disk.data",
        "compact_image=on",
        "compact_image=on,chunk_size=4K,storage_grow_unit=64K",
        "compact_image=on,chunk_size=36864,journal_size=-1",
    ];
    for (seed, options) in shapes.into_iter().enumerate() {
        alone(50 + seed as u64, options);
    }
}

#[test]
fn the_raw_disk_goes_into_an_image_and_comes_back() {
    let folder = TempDir::new().unwrap();
    let (image, raw) = (
        folder.path().join("disk.fvd"),
        folder.path().join("disk.raw"),
    );
    let second = file_system().path(Version::Second);
    let fvd = |args: &[&str], from: &Path, to: &Path| {
        run(command(env!("CARGO_BIN_EXE_fvd"))
            .arg("convert")
            .args(args)
            .arg(from)
            .arg(to));
    };
    fvd(
        &[
            "-f",
            "raw",
            "-O",
            "fvd",
            "-o",
            "compact_image=on,chunk_size=64K",
        ],
        second,
        &image,
    );
    fvd(&["-O", "raw"], &image, &raw);
    assert_same(
        &std::fs::read(&raw).unwrap(),
        &file_system().read(Version::Second),
        "converted",
    );
    file_system().assert_good_copy(&raw, Version::Second);
}
