//! The engine over real files: the life of an image, and what an update does to it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::cast_possible_truncation,
    reason = "small numbers, written as bytes"
)]

use std::path::Path;
use std::rc::Rc;

use fvd::host::Host;
use fvd::host::file::FileHost;
use fvd::image::MapState;
use fvd::{Attribute, CreateOptions, ErrorKind, Image, OpenOptions};

struct Bench {
    dir: tempfile::TempDir,
    host: Rc<dyn Host>,
}

impl Bench {
    fn new() -> Self {
        let host = Rc::new(FileHost::keeping_messages());
        Self {
            dir: tempfile::tempdir().unwrap(),
            host,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// A base image in which every sector differs from its neighbours.
    fn base(&self, bytes: usize) -> Vec<u8> {
        let content: Vec<u8> = (0..bytes).map(|i| (i / 512 % 251 + 1) as u8).collect();
        std::fs::write(self.path("base.raw"), &content).unwrap();
        content
    }

    fn create(&self, options: &str) {
        let options = CreateOptions::parse(options).unwrap();
        Image::create(&self.host, &self.path("i.fvd"), &options).unwrap();
    }

    fn try_open(&self, options: &OpenOptions) -> Result<Image, fvd::Error> {
        Image::open(&self.host, &self.path("i.fvd"), options)
    }

    fn open(&self) -> Image {
        self.try_open(&OpenOptions::default()).unwrap()
    }

    fn update(&self, attributes: &[&str]) -> Result<(), fvd::Error> {
        let parsed: Vec<_> = attributes
            .iter()
            .map(|a| Attribute::parse(a).unwrap())
            .collect();
        Image::update(
            &self.host,
            &self.path("i.fvd"),
            &parsed,
            &OpenOptions::default(),
        )
    }
}

fn content(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0xEE; usize::try_from(image.virtual_size()).unwrap()];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Writes here and there, and does the same to `model`.
fn scribble(image: &Image, model: &mut [u8]) {
    let sectors = model.len() / 512;
    for step in 0..60 {
        let at = step * 7919 % sectors * 512;
        let len = ((step * 31 % 40 + 1) * 512).min(model.len() - at);
        let bytes = vec![step as u8 ^ 0x5A; len];
        image.write_at(at as u64, &bytes).unwrap();
        model[at..at + len].copy_from_slice(&bytes);
        if step % 13 == 0 {
            image.flush().unwrap();
        }
    }
}

#[test]
fn what_is_written_is_read_in_every_layout() {
    for options in [
        "size=3M",
        "size=3M,compact_image=on,chunk_size=20480,storage_grow_unit=64K",
        "size=3M,backing_file=base.raw",
        "size=3M,backing_file=base.raw,block_size=64K",
        "size=3M,backing_file=base.raw,block_size=7680,compact_image=on,chunk_size=12288",
        "size=3M,backing_file=base.raw,block_size=7680,data_file=data.raw",
        "size=3M,backing_file=base.raw,compact_image=on,journal_size=-1,data_file=data.raw",
    ] {
        let bench = Bench::new();
        let base = bench.base(1_700_000);
        bench.create(options);
        let mut model = vec![0; 3 << 20];
        if options.contains("backing_file") {
            model[..base.len()].copy_from_slice(&base);
        }
        let image = bench.open();
        assert!(content(&image) == model, "{options}: fresh");
        scribble(&image, &mut model);
        assert!(content(&image) == model, "{options}: written");
        image.close().unwrap();
        let image = bench.open();
        assert!(content(&image) == model, "{options}: reopened");
        if options.contains("backing_file") {
            image.fetch(0, 3 << 20).unwrap();
            assert!(content(&image) == model, "{options}: fetched");
            assert!(image.map(0, 3 << 20).iter().all(|piece| piece.depth == 0));
        }
        drop(image); // as after a crash: recovered by the next open
        let image = bench.open();
        assert!(content(&image) == model, "{options}: recovered");
        image.close().unwrap();
    }
}

/// Seed 1795361434467: the guest's write made the block's bit guest-dirty, and of the two chunks
/// that hold the block only the entry of the one that it wrote to.
#[test]
fn a_write_into_a_copied_block_commits_every_chunk_of_the_block() {
    let bench = Bench::new();
    let mut model = bench.base(1 << 20);
    bench.create("backing_file=base.raw,compact_image=on,chunk_size=4096,block_size=8192");
    let image = bench.open();
    image.fetch(0, 8192).unwrap();
    image.write_at(0, &[7; 512]).unwrap();
    model[..512].fill(7);
    image.flush().unwrap();
    drop(image);
    assert!(content(&bench.open()) == model);
}

#[test]
fn a_chunk_that_ends_past_the_end_of_its_file_takes_writes_there() {
    let bench = Bench::new();
    bench.create("size=1M,compact_image=on,chunk_size=64K,data_file=data.raw");
    let image = bench.open();
    image.write_at(0, &[1; 65536]).unwrap();
    image.close().unwrap();
    let data = std::fs::OpenOptions::new()
        .write(true)
        .open(bench.path("data.raw"))
        .unwrap();
    data.set_len(32768).unwrap();
    let image = bench.open();
    image.write_at(61440, &[2; 4096]).unwrap();
    let mut model = vec![0; 1 << 20];
    model[..32768].fill(1);
    model[61440..65536].fill(2);
    assert!(content(&image) == model);
    image.close().unwrap();
    assert!(content(&bench.open()) == model);
}

#[test]
fn free_chunks_inside_the_file_read_zeros_when_they_are_taken() {
    let bench = Bench::new();
    bench.create("size=1M,compact_image=on,chunk_size=64K,data_file=data.raw");
    std::fs::write(bench.path("data.raw"), vec![0xAA; 300_000]).unwrap();
    let image = bench.open();
    let mut model = vec![0; 1 << 20];
    for at in [0, 131_072, 524_288, 700_416, 917_504, 983_040] {
        image.write_at(at, &[3; 512]).unwrap();
        model[at as usize..at as usize + 512].fill(3);
    }
    assert!(content(&image) == model);
    image.close().unwrap();
    assert!(content(&bench.open()) == model);
}

/// A journal whose every record sets the same long run of bits.
#[test]
fn a_replay_takes_time_for_what_changes_not_for_what_is_said() {
    let bench = Bench::new();
    let base = std::fs::File::create(bench.path("base.raw")).unwrap();
    base.set_len(64 << 30).unwrap();
    bench.create("backing_file=base.raw,block_size=512,journal_size=1M");
    bench.update(&["clean_shutdown=off"]).unwrap();
    let image = std::fs::OpenOptions::new()
        .write(true)
        .open(bench.path("i.fvd"))
        .unwrap();
    let mut record = 0x3F2A_B8ED_u32.to_le_bytes().to_vec();
    record.extend((128_u32 << 20).to_le_bytes());
    record.extend(0_u64.to_le_bytes());
    let journal = 8192 + (16 << 20);
    for at in (0..1 << 20).step_by(16) {
        std::os::unix::fs::FileExt::write_all_at(&image, &record, journal + at).unwrap();
    }
    let start = std::time::Instant::now();
    let read_only = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let image = bench.try_open(&read_only).unwrap();
    assert_eq!(image.info().present_blocks, 128 << 20);
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}

#[test]
fn an_image_that_is_its_own_base_is_refused_before_it_fills_the_memory() {
    let bench = Bench::new();
    let base = std::fs::File::create(bench.path("base.raw")).unwrap();
    base.set_len(64 << 30).unwrap();
    bench.create("backing_file=base.raw,block_size=512,journal_size=-1");
    bench.update(&["base_img=i.fvd"]).unwrap();
    let mut image = std::fs::read(bench.path("i.fvd")).unwrap();
    image[1052..1055].copy_from_slice(b"fvd");
    std::fs::write(bench.path("i.fvd"), image).unwrap();
    let read_only = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let error = bench.try_open(&read_only).map(drop).unwrap_err();
    assert!(error.to_string().contains("deep"), "{error}");
    assert_eq!(
        bench
            .try_open(&OpenOptions::default())
            .map(drop)
            .unwrap_err()
            .errno(),
        libc::EBUSY
    );
}

#[test]
fn a_chain_of_images_reads_through() {
    let bench = Bench::new();
    let base = bench.base(1 << 20);
    bench.create("backing_file=base.raw,compact_image=on,chunk_size=8192");
    let mut model = base;
    let image = bench.open();
    scribble(&image, &mut model);
    image.close().unwrap();
    std::fs::rename(bench.path("i.fvd"), bench.path("middle.fvd")).unwrap();
    bench.create("size=2M,backing_file=middle.fvd,backing_fmt=fvd,block_size=4096");
    model.resize(2 << 20, 0);
    let image = bench.open();
    assert!(content(&image) == model);
    assert_eq!(
        image.map(0, 2 << 20).iter().map(|piece| piece.depth).max(),
        Some(2)
    );
    scribble(&image, &mut model);
    image.close().unwrap();
    assert!(content(&bench.open()) == model);
}

#[test]
fn a_disk_grows_and_what_becomes_visible_is_zero() {
    for options in [
        "size=100K",
        "size=100K,compact_image=on,chunk_size=8192,data_file=data.raw",
    ] {
        let bench = Bench::new();
        bench.create(options);
        let mut model = vec![0; 100 << 10];
        let image = bench.open();
        scribble(&image, &mut model);
        image.close().unwrap();
        if !options.contains("compact") {
            let file = std::fs::OpenOptions::new()
                .append(true)
                .open(bench.path("i.fvd"));
            std::io::Write::write_all(&mut file.unwrap(), &[0xAA; 4096]).unwrap();
        }
        bench.update(&["size=5M"]).unwrap();
        model.resize(5 << 20, 0);
        let image = bench.open();
        assert!(content(&image) == model, "{options}");
        scribble(&image, &mut model);
        image.close().unwrap();
        assert!(content(&bench.open()) == model, "{options}");
        assert_eq!(
            bench.update(&["size=1M"]).unwrap_err().kind(),
            ErrorKind::Invalid
        );
    }
}

#[test]
fn a_compact_disk_does_not_outgrow_its_table() {
    let bench = Bench::new();
    bench.create("size=1M,compact_image=on,chunk_size=4096");
    bench.update(&["size=4M"]).unwrap();
    let error = bench.update(&["size=64M"]).unwrap_err();
    assert!(error.to_string().contains("4194304"), "{error}");
    bench.open().close().unwrap();
}

#[test]
fn a_base_that_moved_is_named_anew_however_long_its_name() {
    let bench = Bench::new();
    let base = bench.base(1 << 20);
    bench.create("backing_file=base.raw");
    let long = format!("{}/base.raw", vec!["d".repeat(200); 4].join("/"));
    for name in ["moved.raw", long.as_str(), "b", long.as_str()] {
        let path = bench.path(name);
        std::fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        std::fs::write(&path, &base).unwrap();
        bench.update(&[&format!("base_img={name}")]).unwrap();
        let image = bench.open();
        assert!(content(&image) == base, "{name}");
        assert_eq!(image.info().header.base_img, name);
        image.close().unwrap();
    }
}

#[test]
fn a_name_that_is_half_changed_is_refused_until_the_update_is_repeated() {
    let bench = Bench::new();
    let base = bench.base(1 << 20);
    bench.create("backing_file=base.raw");
    let mut image = std::fs::read(bench.path("i.fvd")).unwrap();
    image[28] = 1;
    std::fs::write(bench.path("i.fvd"), &image).unwrap();
    let error = bench
        .try_open(&OpenOptions::default())
        .map(drop)
        .unwrap_err();
    assert!(
        error.to_string().contains("fvd update base_img="),
        "{error}"
    );
    assert!(bench.update(&["copy_on_read=on"]).is_err());
    bench
        .update(&["copy_on_read=on", "base_img=base.raw"])
        .unwrap();
    assert!(content(&bench.open()) == base);
}

/// What the message of a missing name tells the user to do.
#[test]
fn an_image_that_lost_the_name_of_its_base_is_mended_by_an_update() {
    let bench = Bench::new();
    let base = bench.base(1 << 20);
    bench.create("backing_file=base.raw");
    let mut image = std::fs::read(bench.path("i.fvd")).unwrap();
    image[28..36].fill(0);
    std::fs::write(bench.path("i.fvd"), &image).unwrap();
    let error = bench
        .try_open(&OpenOptions::default())
        .map(drop)
        .unwrap_err();
    assert!(
        error.to_string().contains("fvd update base_img="),
        "{error}"
    );
    bench.update(&["base_img=base.raw"]).unwrap();
    assert!(content(&bench.open()) == base);
}

#[test]
fn a_base_from_a_stranger_opens_no_file_outside_its_folder_at_creation_either() {
    let bench = Bench::new();
    bench.base(1 << 20);
    std::fs::create_dir(bench.path("stranger")).unwrap();
    let options = CreateOptions::parse("backing_file=../base.raw").unwrap();
    Image::create(&bench.host, &bench.path("stranger/evil.fvd"), &options).unwrap();
    let options = "backing_file=stranger/evil.fvd,backing_fmt=fvd,detect_sparse_hole=64K";
    let options = CreateOptions::parse(options).unwrap();
    let error = Image::create(&bench.host, &bench.path("i.fvd"), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
}

#[test]
fn an_open_that_fails_leaves_the_image_as_it_was() {
    let bench = Bench::new();
    let base = bench.base(1 << 20);
    bench.create("backing_file=base.raw,compact_image=on");
    let image = bench.open();
    image.write_at(4096, &[7; 512]).unwrap();
    image.flush().unwrap();
    drop(image);
    let before = std::fs::read(bench.path("i.fvd")).unwrap();
    std::fs::remove_file(bench.path("base.raw")).unwrap();
    let error = bench
        .try_open(&OpenOptions::default())
        .map(drop)
        .unwrap_err();
    assert_eq!(error.errno(), libc::ENOENT);
    std::fs::write(bench.path("base.raw"), &base[..base.len() / 2]).unwrap();
    let error = bench
        .try_open(&OpenOptions::default())
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("base.raw"), "{error}");
    assert!(std::fs::read(bench.path("i.fvd")).unwrap() == before);
    let tools = OpenOptions {
        tools: true,
        ..OpenOptions::default()
    };
    let image = bench.try_open(&tools).unwrap();
    let mut sector = [0; 512];
    image.read_at(4096, &mut sector).unwrap();
    assert_eq!(sector, [7; 512]);
    drop(image);
    assert!(
        std::fs::read(bench.path("i.fvd")).unwrap() == before,
        "tools write nothing"
    );
}

#[test]
fn a_crashed_image_without_a_journal_is_for_tools_until_somebody_vouches_for_it() {
    let bench = Bench::new();
    bench.create("size=1M,compact_image=on,journal_size=-1");
    bench.update(&["clean_shutdown=off"]).unwrap();
    let error = bench
        .try_open(&OpenOptions::default())
        .map(drop)
        .unwrap_err();
    assert!(error.to_string().contains("clean_shutdown=on"), "{error}");
    let tools = OpenOptions {
        tools: true,
        ..OpenOptions::default()
    };
    drop(bench.try_open(&tools).unwrap());
    assert!(bench.update(&["copy_on_read=off"]).is_err());
    bench.update(&["clean_shutdown=on"]).unwrap();
    bench.open().close().unwrap();
}

#[test]
fn zeros_in_the_base_are_found_at_creation() {
    let bench = Bench::new();
    let mut base = bench.base(1 << 20);
    base[256 << 10..512 << 10].fill(0);
    std::fs::write(bench.path("base.raw"), &base).unwrap();
    bench.create("backing_file=base.raw,block_size=4096,detect_sparse_hole=64K");
    let image = bench.open();
    assert_eq!(image.info().present_blocks, 64);
    let piece = image.map(256 << 10, 256 << 10).remove(0);
    assert_eq!(
        (piece.len, piece.state, piece.depth),
        (256 << 10, MapState::Zero, 0)
    );
    assert!(content(&image) == base);
}

#[test]
fn a_second_writer_is_told_so() {
    let bench = Bench::new();
    bench.create("size=1M");
    let first = bench.open();
    let other: Rc<dyn Host> = Rc::new(FileHost::keeping_messages());
    let name = bench.path("i.fvd");
    let error = Image::open(&other, &name, &OpenOptions::default())
        .map(drop)
        .unwrap_err();
    assert_eq!(error.errno(), libc::EBUSY);
    let unlocked = OpenOptions {
        unlocked: true,
        ..OpenOptions::default()
    };
    drop(Image::open(&other, &name, &unlocked).unwrap());
    first.close().unwrap();
    Image::open(&other, &name, &OpenOptions::default())
        .unwrap()
        .close()
        .unwrap();
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let bench = Bench::new();
    bench.create("size=1M");
    let image = bench.open();
    for (offset, len) in [(1, 512), (0, 100), (1 << 20, 512), ((1 << 20) - 512, 1024)] {
        let error = image.read_at(offset, &mut vec![0; len]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{len} at {offset}");
    }
    image.read_at(1 << 20, &mut []).unwrap();
    image.write_at(0, &[]).unwrap();
    image.close().unwrap();
    let read_only = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let image = bench.try_open(&read_only).unwrap();
    assert_eq!(
        image.write_at(0, &[0; 512]).unwrap_err().kind(),
        ErrorKind::ReadOnly
    );
    image.flush().unwrap();
}
