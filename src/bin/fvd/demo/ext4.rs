//! A real file system, made, changed and checked by e2fsprogs: no mount, no root.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{guest, of_path};
use crate::failure::Failure;

/// Runs a tool, which must succeed.
fn run(command: &mut Command) -> Result<(), Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| Failure::of_file(&name, &error))?;
    if output.status.success() {
        return Ok(());
    }
    let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    Err(Failure::Failed(format!(
        "{name} failed: {}{}",
        out.trim(),
        err.trim()
    )))
}

fn tool(name: &str) -> Command {
    // Users have no sbin in their path, and need it no less.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Makes a file system of `size` bytes with some files in it at `path`. False: no tool for it.
pub(super) fn make(folder: &Path, path: &Path, size: usize) -> Result<bool, Failure> {
    // The others come in the same package.
    if tool("mkfs.ext4").arg("-V").output().is_err() {
        return Ok(false);
    }
    let tree = folder.join("files");
    let wrong = |error| of_path(&tree, &error);
    for number in 0..40 {
        let place = tree.join(format!("folder{}", number % 5));
        fs::create_dir_all(&place).map_err(wrong)?;
        let content = guest::pattern(number as u64, 8000 * (1 + number % 16));
        fs::write(place.join(format!("file{number}")), content).map_err(wrong)?;
    }
    let file = fs::File::create(path).and_then(|file| file.set_len(size as u64));
    file.map_err(|error| of_path(path, &error))?;
    let mut mkfs = tool("mkfs.ext4");
    mkfs.args(["-q", "-F", "-b", "1024", "-d"])
        .arg(&tree)
        .arg(path);
    run(&mut mkfs).map(|()| true)
}

/// The content of a later version of the file system: files added, overwritten and removed.
pub(super) fn change(folder: &Path) -> Result<Vec<u8>, Failure> {
    let [later, script, news] = ["later.raw", "changes", "news"].map(|name| folder.join(name));
    fs::copy(folder.join("base.raw"), &later).map_err(|error| of_path(&later, &error))?;
    fs::write(&news, guest::pattern(99, 800_000)).map_err(|error| of_path(&news, &error))?;
    let mut commands = String::from("mkdir /new\n");
    for number in 0..40 {
        let place = format!("/folder{}/file{number}", number % 5);
        match number % 4 {
            0 => commands += &format!("rm {place}\n"),
            1 => commands += &format!("write news /new/file{number}\n"),
            2 if number % 3 == 0 => commands += &format!("rm {place}\nwrite news {place}\n"),
            _ => {}
        }
    }
    fs::write(&script, commands).map_err(|error| of_path(&script, &error))?;
    let mut debugfs = tool("debugfs");
    run(debugfs
        .current_dir(folder)
        .args(["-w", "-f", "changes", "later.raw"]))?;
    fs::read(&later).map_err(|error| of_path(&later, &error))
}

/// Has the file system at the start of a disk checked.
pub(super) fn check(path: &Path) -> Result<(), Failure> {
    run(tool("e2fsck").args(["-f", "-n"]).arg(path))
}
