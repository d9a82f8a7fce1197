//! The style that a compiler does not check, checked: how wide, how long, and that a file says what
//! it is.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// Columns of a line of code or prose.
const MOST_COLUMNS: usize = 100;
/// Lines of a file; one that needs more tells two stories.
const MOST_LINES: usize = 500;

fn sources() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("build.rs")];
    ["src", "tests"]
        .iter()
        .for_each(|folder| walk(&root.join(folder), &mut found));
    found.sort();
    found
}

/// Fails with every place that `fault` finds in a file.
fn check(fault: impl Fn(&str) -> Vec<String>) {
    let mut faults = Vec::new();
    for path in sources() {
        let text = fs::read_to_string(&path).unwrap();
        faults.extend(
            fault(&text)
                .into_iter()
                .map(|fault| format!("{}: {fault}", path.display())),
        );
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn lines_are_short() {
    check(|text| {
        let long = |line: &&str| line.chars().count() > MOST_COLUMNS;
        let numbered = text.lines().enumerate().filter(|(_, line)| long(line));
        numbered
            .map(|(number, _)| format!("line {} is too long", number + 1))
            .collect()
    });
}

#[test]
fn files_are_short() {
    check(|text| {
        let lines = text.lines().count();
        (lines > MOST_LINES)
            .then(|| format!("{lines} lines"))
            .into_iter()
            .collect()
    });
}

#[test]
fn every_file_opens_with_its_story() {
    check(|text| {
        let says = text
            .lines()
            .next()
            .is_some_and(|line| line.starts_with("//! "));
        (!says)
            .then(|| "does not begin with //!".to_owned())
            .into_iter()
            .collect()
    });
}

#[test]
fn nothing_is_left_for_later() {
    let words = [
        "TO".to_owned() + "DO",
        "FIX".to_owned() + "ME",
        "un".to_owned() + "implemented!",
    ];
    check(|text| {
        let left = |line: &str| words.iter().any(|word| line.contains(word.as_str()));
        text.lines()
            .filter(|line| left(line))
            .map(|line| format!("'{}'", line.trim()))
            .collect()
    });
}
