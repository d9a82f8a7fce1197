//! Two versions of a real ext4 file system, and the files that each must hold. No mount and no
//! root are needed: e2fsprogs works on the raw disks themselves.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::rng::Rng;
use crate::tools::{command, output, run};

/// A version of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// As `mkfs.ext4` made it.
    First,
    /// With files added, changed and removed.
    Second,
}

/// Folders (`None`) and files by their path in a tree.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// The raw disks, and what is in them.
pub(crate) struct FileSystem {
    _folder: TempDir,
    disks: [PathBuf; 2],
    trees: [Tree; 2],
}

impl FileSystem {
    /// Makes both versions, on disks of `size` bytes.
    pub(crate) fn make(size: usize) -> Self {
        let folder = TempDir::new().unwrap();
        let mut rng = Rng::new(4);
        let first = first_tree(&mut rng);
        let disks = ["first.raw", "second.raw"].map(|name| folder.path().join(name));
        let files = folder.path().join("files");
        write_tree(&files, &first);
        fs::File::create(&disks[0])
            .unwrap()
            .set_len(size as u64)
            .unwrap();
        // Small blocks, so that what is written is scattered.
        let mut mkfs = command("mkfs.ext4");
        run(mkfs
            .args(["-q", "-F", "-b", "1024", "-d"])
            .arg(&files)
            .arg(&disks[0]));
        fs::copy(&disks[0], &disks[1]).unwrap();
        let second = change(folder.path(), &disks[1], &first, &mut rng);
        let made = Self {
            _folder: folder,
            disks,
            trees: [first, second],
        };
        // The inputs must be good before anything is said about the copies.
        made.assert_good_copy(made.path(Version::First), Version::First);
        made.assert_good_copy(made.path(Version::Second), Version::Second);
        made
    }

    /// The raw disk of a version.
    pub(crate) fn path(&self, version: Version) -> &Path {
        &self.disks[version as usize]
    }

    /// The bytes of that disk.
    pub(crate) fn read(&self, version: Version) -> Vec<u8> {
        fs::read(self.path(version)).unwrap()
    }

    /// Asserts that a raw disk holds the version: a clean file system with exactly its files.
    pub(crate) fn assert_good_copy(&self, disk: &Path, version: Version) {
        let checked = output(command("e2fsck").args(["-f", "-n"]).arg(disk));
        let verdict = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert!(
            checked.status.success(),
            "e2fsck is not content with {}: {verdict}",
            disk.display()
        );
        let dumped = TempDir::new().unwrap();
        let dump = format!("rdump / {}", dumped.path().display());
        run(command("debugfs").args(["-R", &dump]).arg(disk));
        let found = read_tree(dumped.path());
        let expected = &self.trees[version as usize];
        let (names, found_names) = (expected.keys(), found.keys());
        assert!(
            names.clone().eq(found_names.clone()),
            "{names:?} became {found_names:?}"
        );
        for (name, content) in expected {
            assert!(
                found[name] == *content,
                "{} has other content",
                name.display()
            );
        }
    }
}

/// Files of many sizes in nested folders; an empty file, and an empty folder.
fn first_tree(rng: &mut Rng) -> Tree {
    let mut tree = Tree::from([("empty".into(), None), ("nothing".into(), Some(Vec::new()))]);
    for folder in ["etc", "etc/init", "var", "var/log", "home"] {
        tree.insert(folder.into(), None);
    }
    let folders = ["etc", "etc/init", "var/log", "home"];
    for number in 0..80 {
        let most = if number % 20 == 0 { 1_500_000 } else { 60_000 };
        let len = rng.below(most);
        let name = format!("{}/file{number}", folders[number % folders.len()]);
        tree.insert(name.into(), Some(rng.bytes(len)));
    }
    tree
}

/// Makes the second version of the file system on `disk`; what is then in it.
fn change(folder: &Path, disk: &Path, first: &Tree, rng: &mut Rng) -> Tree {
    let mut tree = first.clone();
    let mut script = String::from("mkdir /new\nmkdir /new/deep\nrmdir /empty\n");
    tree.remove(Path::new("empty"));
    tree.extend([("new".into(), None), ("new/deep".into(), None)]);
    let files: Vec<&PathBuf> = first
        .iter()
        .filter(|(_, c)| c.is_some())
        .map(|(n, _)| n)
        .collect();
    for (index, name) in files.into_iter().enumerate() {
        let name = name.display();
        match index % 4 {
            0 => {
                writeln!(script, "rm /{name}").unwrap();
                tree.remove(Path::new(&name.to_string()));
            }
            1 => {
                writeln!(script, "rm /{name}").unwrap();
                put(folder, &mut script, &mut tree, &name.to_string(), rng);
            }
            2 => put(
                folder,
                &mut script,
                &mut tree,
                &format!("new/deep/added{index}"),
                rng,
            ),
            _ => {}
        }
    }
    fs::write(folder.join("script"), script).unwrap();
    let changed = output(
        command("debugfs")
            .current_dir(folder)
            .args(["-w", "-f", "script"])
            .arg(disk),
    );
    let complaints = String::from_utf8_lossy(&changed.stderr);
    // Behind its version, debugfs complains of commands that failed, and exits with 0 all the same.
    assert_eq!(complaints.lines().count(), 1, "{complaints}");
    tree
}

/// Adds a file with new content to the script and to the tree.
fn put(folder: &Path, script: &mut String, tree: &mut Tree, name: &str, rng: &mut Rng) {
    let source = format!("source{}", tree.len() + script.len());
    let len = rng.below(90_000);
    let content = rng.bytes(len);
    fs::write(folder.join(&source), &content).unwrap();
    writeln!(script, "write {source} /{name}").unwrap();
    tree.insert(name.into(), Some(content));
}

fn write_tree(root: &Path, tree: &Tree) {
    fs::create_dir(root).unwrap();
    for (name, content) in tree {
        match content {
            None => fs::create_dir_all(root.join(name)).unwrap(),
            Some(bytes) => {
                fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
                fs::write(root.join(name), bytes).unwrap();
            }
        }
    }
}

/// Everything below `root`, but for the folder that every new file system has.
fn read_tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if name == Path::new("lost+found") {
                continue;
            }
            let content = if path.is_dir() {
                None
            } else {
                Some(fs::read(&path).unwrap())
            };
            if content.is_none() {
                folders.push(path);
            }
            tree.insert(name, content);
        }
    }
    tree
}
