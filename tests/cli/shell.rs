//! A folder to run `fvd` in, as a person at a shell would.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A folder in which `fvd` is run. It is also where temporary files go.
pub(crate) struct Shell(TempDir);

/// What a run left.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// `fvd` with the words of `line`, to be run here.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut fvd = Command::new(env!("CARGO_BIN_EXE_fvd"));
        fvd.current_dir(self.0.path()).env("TMPDIR", self.0.path());
        fvd.args(words(line));
        fvd
    }

    /// Runs `fvd` with the words of `line`.
    pub(crate) fn run(&self, line: &str) -> Ran {
        let output = self.command(line).output().unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs `fvd`, which must succeed; what it printed.
    pub(crate) fn ok(&self, line: &str) -> String {
        let ran = self.run(line);
        assert_eq!(ran.code, 0, "{line}: {ran:?}");
        ran.out
    }

    /// Runs `fvd`, which must fail with `code` and name something.
    pub(crate) fn fails(&self, code: i32, line: &str, named: &str) {
        let ran = self.run(line);
        assert_eq!(ran.code, code, "{line}: {ran:?}");
        assert!(
            ran.err.contains(named),
            "{line} does not name {named}: {}",
            ran.err
        );
    }

    /// Runs the commands, separated by semicolons, of `fvd io` on `disk.fvd`.
    pub(crate) fn io(&self, commands: &str) -> String {
        let each = commands.split(';').map(str::trim);
        let options: String = each.map(|command| format!("-c '{command}' ")).collect();
        self.ok(&format!("io {options} disk.fvd"))
    }

    /// What `fvd info` says of `disk.fvd`.
    pub(crate) fn info(&self) -> Value {
        serde_json::from_str(&self.ok("info --json disk.fvd")).unwrap()
    }

    /// Bytes that a file really takes.
    pub(crate) fn allocated(&self, name: &str) -> u64 {
        let metadata = std::fs::metadata(self.path(name)).unwrap();
        std::os::unix::fs::MetadataExt::blocks(&metadata) * 512
    }
}

/// The words of a line; what stands in single quotes is one.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    words
}
