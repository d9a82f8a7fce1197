//! The images that the first implementation wrote, each with the content that a reader must see.
//!
//! They lie beside the repository and not in it. Where they are absent the tests over them say so,
//! loudly, and pass: a clone alone cannot have them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::tools::{command, run};

/// How many there are; fewer would mean that some are not looked at.
const COUNT: usize = 24;

/// One image, in its archive.
pub(crate) struct Fixture {
    /// Its name, which begins with a number.
    pub(crate) name: String,
    /// Bytes of its disk.
    pub(crate) virtual_size: u64,
    /// It was not shut down cleanly.
    pub(crate) crashed: bool,
    /// It has a journal.
    pub(crate) has_journal: bool,
    archive: PathBuf,
    entry: Value,
}

/// A fixture, unpacked into a folder of its own.
pub(crate) struct Unpacked {
    folder: TempDir,
    /// The name of the image.
    pub(crate) image: String,
    /// What a reader must see.
    pub(crate) expected: Vec<u8>,
}

/// All fixtures, or none and a loud word.
pub(crate) fn all() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
    let Ok(manifest) = std::fs::read_to_string(folder.join("manifest.json")) else {
        // Written past the test harness, which would keep it to itself.
        let place = folder.display();
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: THE FIXTURES ARE NOT HERE ({place}), NO OLD IMAGE WAS READ"
        );
        return Vec::new();
    };
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let entries = manifest["images"].as_array().unwrap();
    assert_eq!(
        entries.len(),
        COUNT,
        "the manifest lists another number of images"
    );
    entries
        .iter()
        .map(|entry| Fixture::new(&folder, entry))
        .collect()
}

/// The fixture whose name begins with `number`; none where there are no fixtures at all.
pub(crate) fn one(number: &str) -> Option<Fixture> {
    let all = all();
    let found = !all.is_empty();
    let fixture = all
        .into_iter()
        .find(|fixture| fixture.name.starts_with(number));
    assert_eq!(fixture.is_some(), found, "there is no fixture {number}");
    fixture
}

impl Fixture {
    fn new(folder: &Path, entry: &Value) -> Self {
        Self {
            name: entry["name"].as_str().unwrap().to_owned(),
            virtual_size: entry["virtual_size"].as_u64().unwrap(),
            crashed: entry["crashed"].as_bool().unwrap(),
            has_journal: entry["header"]["journal_size"].as_u64().unwrap() > 0,
            archive: folder.join(entry["archive"].as_str().unwrap()),
            entry: entry.clone(),
        }
    }

    /// A guest may use it: it was shut down cleanly, or has a journal to recover from.
    pub(crate) fn is_for_guests(&self) -> bool {
        !self.crashed || self.has_journal
    }

    /// The header's fields, as an independent reader saw them.
    pub(crate) fn header(&self) -> impl Iterator<Item = (&str, &Value)> {
        let fields = self.entry["header"].as_object().unwrap().iter();
        // Magic and version are what makes it an image at all.
        let kept = fields.filter(|(name, _)| !["magic", "version"].contains(&name.as_str()));
        kept.map(|(name, value)| (name.as_str(), value))
    }

    /// Unpacks the archive, and checks that it is what the manifest describes.
    pub(crate) fn unpack(&self) -> Unpacked {
        let folder = TempDir::new().unwrap();
        let mut zstd = command("zstd");
        zstd.args(["-d", "--long=27", "-q", "-c"])
            .arg(&self.archive)
            .stdout(Stdio::piped());
        let mut unpacking = zstd
            .spawn()
            .expect("zstd cannot be run; the tests need Debian's zstd");
        let unpacked = unpacking.stdout.take().unwrap();
        run(Command::new("tar")
            .args(["-x", "--strip-components=1", "-C"])
            .arg(folder.path())
            .stdin(unpacked));
        assert!(
            unpacking.wait().unwrap().success(),
            "{} cannot be unpacked",
            self.name
        );
        let expected = std::fs::read(folder.path().join("expected.raw")).unwrap();
        assert_eq!(expected.len() as u64, self.virtual_size, "{}", self.name);
        assert_eq!(
            sha256(&expected),
            self.entry["expected_sha256"].as_str().unwrap()
        );
        let image = folder.path().join(self.entry["image"].as_str().unwrap());
        let image = image.to_str().unwrap().to_owned();
        let unpacked = Unpacked {
            folder,
            image,
            expected,
        };
        self.assert_untouched(&unpacked);
        unpacked
    }

    /// Asserts that every file is still as it came out of the archive.
    pub(crate) fn assert_untouched(&self, unpacked: &Unpacked) {
        for (name, file) in self.entry["files"].as_object().unwrap() {
            let bytes = std::fs::read(unpacked.folder.path().join(name)).unwrap();
            let found = sha256(&bytes);
            assert_eq!(
                found,
                file["sha256"].as_str().unwrap(),
                "{}: {name} changed",
                self.name
            );
        }
    }
}

/// The digest, in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
