//! Interoperation: images that the first implementation wrote, some of them by crashing.
//!
//! Each of the 24 images carries the content that a reader must see. It is read whole, read-only
//! (which must change nothing) and read-write on a copy; the copy is then written to, closed and
//! opened again, and also dropped without a word, as a crash would. Where the first implementation
//! lost data, the content expected is what the image holds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "common/fixtures.rs"]
mod fixtures;
#[path = "common/rng.rs"]
mod rng;
#[path = "common/tools.rs"]
mod tools;

use std::rc::Rc;

use fvd::format::header::Header;
use fvd::host::file::FileHost;
use fvd::host::{Host, Severity};
use fvd::{ErrorKind, Image, OpenOptions};

use fixtures::{Fixture, Unpacked};
use rng::Rng;

const SECTOR: usize = 512;

/// A host whose messages can be asked for, and the same as the library takes it.
fn hosts() -> (Rc<FileHost>, Rc<dyn Host>) {
    let host = Rc::new(FileHost::keeping_messages());
    (Rc::clone(&host), host)
}

fn open(unpacked: &Unpacked, options: &OpenOptions) -> Image {
    let (_, host) = hosts();
    Image::open(&host, &unpacked.image, options).unwrap_or_else(|error| panic!("{error}"))
}

fn read_only() -> OpenOptions {
    OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    }
}

fn whole_disk(image: &Image) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(image.virtual_size()).unwrap()];
    image.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Says which sector differs, rather than printing megabytes.
fn assert_same(name: &str, found: &[u8], expected: &[u8]) {
    assert_eq!(found.len(), expected.len(), "{name}: the disk's size");
    let pairs = found.chunks(SECTOR).zip(expected.chunks(SECTOR));
    let differing: Vec<usize> = pairs
        .enumerate()
        .filter(|(_, (a, b))| a != b)
        .map(|(sector, _)| sector)
        .collect();
    assert!(
        differing.is_empty(),
        "{name}: {} sectors differ: {differing:?}",
        differing.len()
    );
}

fn header(unpacked: &Unpacked) -> Header {
    Header::decode(&std::fs::read(&unpacked.image).unwrap()[..Header::LEN]).unwrap()
}

/// A guest's write, somewhere: small or large, aligned to nothing but sectors.
fn random_write(rng: &mut Rng, disk: usize) -> (usize, Vec<u8>) {
    let sectors = disk / SECTOR;
    let most = if rng.below(8) == 0 { 600 } else { 20 };
    let start = rng.below(sectors);
    let count = 1 + rng.below(most.min(sectors - start));
    (start * SECTOR, rng.bytes(count * SECTOR))
}

/// Writes at random places of the image and of the model.
fn write_both(image: &Image, model: &mut [u8], rng: &mut Rng, count: usize) {
    for _ in 0..count {
        let (offset, bytes) = random_write(rng, model.len());
        image.write_at(offset as u64, &bytes).unwrap();
        model[offset..][..bytes.len()].copy_from_slice(&bytes);
    }
}

fn for_guests() -> impl Iterator<Item = Fixture> {
    fixtures::all().into_iter().filter(Fixture::is_for_guests)
}

#[test]
fn every_image_reads_as_it_must_and_reading_changes_nothing() {
    for fixture in fixtures::all() {
        let unpacked = fixture.unpack();
        for fast_path in [true, false] {
            let tools = !fixture.is_for_guests();
            let image = open(
                &unpacked,
                &OpenOptions {
                    tools,
                    fast_path,
                    ..read_only()
                },
            );
            assert_same(&fixture.name, &whole_disk(&image), &unpacked.expected);
            image.close().unwrap();
        }
        fixture.assert_untouched(&unpacked);
    }
}

#[test]
fn every_image_can_be_used_on_by_a_guest() {
    for (seed, fixture) in for_guests().enumerate() {
        let unpacked = fixture.unpack();
        let image = open(&unpacked, &OpenOptions::default());
        assert_same(&fixture.name, &whole_disk(&image), &unpacked.expected);
        let (mut model, mut rng) = (unpacked.expected.clone(), Rng::new(seed as u64));
        for _ in 0..3 {
            write_both(&image, &mut model, &mut rng, 40);
            image.flush().unwrap();
        }
        write_both(&image, &mut model, &mut rng, 40);
        assert_same(&fixture.name, &whole_disk(&image), &model);
        image.close().unwrap();
        assert!(
            header(&unpacked).clean_shutdown,
            "{} was closed",
            fixture.name
        );
        let image = open(&unpacked, &read_only());
        assert_same(&fixture.name, &whole_disk(&image), &model);
        image.close().unwrap();
    }
}

#[test]
fn a_session_that_crashes_keeps_what_it_flushed() {
    for (seed, fixture) in for_guests().enumerate() {
        let unpacked = fixture.unpack();
        let mut rng = Rng::new(1000 + seed as u64);
        let mut flushed = unpacked.expected.clone();
        for _round in 0..3 {
            let image = open(&unpacked, &OpenOptions::default());
            assert_same(&fixture.name, &whole_disk(&image), &flushed);
            write_both(&image, &mut flushed, &mut rng, 40);
            image.flush().unwrap();
            let mut latest = flushed.clone();
            write_both(&image, &mut latest, &mut rng, 20);
            // SAFETY: this host has nothing under way between two calls.
            unsafe { image.abandon() };
            assert_eq!(
                header(&unpacked).clean_shutdown,
                !fixture.has_journal,
                "{}",
                fixture.name
            );
            flushed = survived(&fixture, &unpacked, &flushed, &latest);
        }
    }
}

/// What a crashed image holds: each sector as it was flushed, or as it was written later, which is
/// what a crash may leave of a write that no flush covered.
fn survived(fixture: &Fixture, unpacked: &Unpacked, flushed: &[u8], latest: &[u8]) -> Vec<u8> {
    let image = open(unpacked, &read_only());
    let found = whole_disk(&image);
    image.close().unwrap();
    for sector in 0..found.len() / SECTOR {
        let at = sector * SECTOR..(sector + 1) * SECTOR;
        let is_known = found[at.clone()] == flushed[at.clone()] || found[at.clone()] == latest[at];
        assert!(is_known, "{}: sector {sector} is neither", fixture.name);
    }
    found
}

#[test]
fn a_crashed_image_without_a_journal_is_for_tools_only() {
    let Some(fixture) = fixtures::one("41") else {
        return;
    };
    let unpacked = fixture.unpack();
    let (_, host) = hosts();
    for options in [OpenOptions::default(), read_only()] {
        let error = Image::open(&host, &unpacked.image, &options)
            .err()
            .expect("guests may not");
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("clean_shutdown"), "{error}");
    }
    fixture.assert_untouched(&unpacked);
    let (host, lent) = hosts();
    let tools = OpenOptions {
        tools: true,
        ..OpenOptions::default()
    };
    let image = Image::open(&lent, &unpacked.image, &tools).unwrap();
    assert_same(&fixture.name, &whole_disk(&image), &unpacked.expected);
    image.close().unwrap();
    let messages = host.messages();
    let warned = |(severity, text): &(Severity, String)| {
        *severity == Severity::Warning && text.contains("no journal")
    };
    assert!(messages.iter().any(warned), "{messages:?}");
    fixture.assert_untouched(&unpacked);
}

#[test]
fn info_tells_every_header_field_as_the_format_spells_it() {
    for fixture in fixtures::all() {
        let unpacked = fixture.unpack();
        let mut fvd = tools::command(env!("CARGO_BIN_EXE_fvd"));
        let info = tools::run(fvd.args(["info", "--json"]).arg(&unpacked.image));
        let info: serde_json::Value = serde_json::from_str(&info).unwrap();
        for (field, expected) in fixture.header() {
            // The independent reader counts bools as numbers.
            let found = match info["header"][field].as_bool() {
                Some(on) => u64::from(on).into(),
                None => info["header"][field].clone(),
            };
            assert_eq!(found, *expected, "{}: {field}", fixture.name);
        }
        fixture.assert_untouched(&unpacked);
    }
}
