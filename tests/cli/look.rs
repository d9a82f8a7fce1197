//! `fvd info`, `fvd map` and `fvd update`: what an image is said to be.

use std::fs::File;
use std::os::fd::AsRawFd;

use serde_json::Value;

use crate::shell::Shell;

#[test]
fn attributes_are_changed_and_seen() {
    let shell = Shell::new();
    shell.ok("create -o compact_image=on disk.fvd 1M");
    shell.ok("update disk.fvd size=3M need_zero_init=on");
    let header = &shell.info()["header"];
    assert_eq!(header["virtual_disk_size"], 3 << 20);
    assert_eq!(header["need_zero_init"], true);
    shell.io("read -P 0 1M 2M");
    shell.fails(1, "update disk.fvd size=1M", "size");
}

#[test]
fn a_base_that_has_moved_is_named_anew() {
    let shell = Shell::new();
    shell.write("old.raw", &[8; 1 << 20]);
    shell.ok("create -b old.raw disk.fvd");
    std::fs::rename(shell.path("old.raw"), shell.path("new.raw")).unwrap();
    shell.fails(1, "io -c 'read 0 512' disk.fvd", "old.raw");
    shell.ok("update disk.fvd base_img=new.raw");
    shell.io("read -P 8 0 1M");
}

#[test]
fn info_is_for_people_too_and_looks_at_an_image_in_use() {
    let shell = Shell::new();
    shell.write("base.raw", &[1; 1 << 20]);
    shell.ok("create -b base.raw -o compact_image=on,journal_size=1M disk.fvd 2M");
    let text = shell.ok("info disk.fvd");
    for part in ["disk.fvd", "2 MiB", "base.raw", "journal: 1 MiB", "chunks"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let writer = File::options()
        .read(true)
        .write(true)
        .open(shell.path("disk.fvd"))
        .unwrap();
    lock_exclusively(&writer);
    shell.fails(1, "info disk.fvd", "info -U");
    assert_eq!(shell.ok("info -U disk.fvd"), text);
}

/// Locks a file as a writer of the library does.
fn lock_exclusively(file: &File) {
    // SAFETY: `flock` is plain numbers, for which all zeros is a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(libc::F_WRLCK).unwrap();
    // SAFETY: the descriptor is open, and `lock` lives until the call returns.
    let returned = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    assert_eq!(returned, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn map_says_where_each_part_of_the_disk_is() {
    let shell = Shell::new();
    shell.write("base.raw", &[1; 1 << 20]);
    shell.ok("create -b base.raw -o compact_image=on,chunk_size=64K,block_size=64K disk.fvd 2M");
    shell.io("write -P 2 128k 64k");
    let map: Value = serde_json::from_str(&shell.ok("map --json disk.fvd")).unwrap();
    let pieces: Vec<_> = map.as_array().unwrap().iter().map(piece).collect();
    let expected = [
        (0, 128 << 10, "base"),
        (128 << 10, 64 << 10, "data"),
        (192 << 10, (1 << 20) - (192 << 10), "base"),
        (1 << 20, 1 << 20, "zero"),
    ];
    assert_eq!(pieces, expected);
    let text = shell.ok("map disk.fvd");
    let named = ["base", "data", "zero", "base.raw", "disk.fvd"];
    assert!(named.iter().all(|word| text.contains(word)), "{text}");
}

fn piece(piece: &Value) -> (u64, u64, &str) {
    let number = |name: &str| piece[name].as_u64().unwrap();
    (
        number("start"),
        number("length"),
        piece["state"].as_str().unwrap(),
    )
}

#[test]
fn what_was_lost_is_seen_by_tools_and_kept_from_guests() {
    let shell = Shell::new();
    shell.ok("create -o compact_image=on,chunk_size=64K,journal_size=-1 disk.fvd 1M");
    shell.io("write -P 1 0 64k; write -P 2 64k 64k");
    let metadata_size = shell.info()["header"]["metadata_size"].as_u64().unwrap();
    let path = shell.path("disk.fvd");
    let file = File::options().write(true).open(path).unwrap();
    // Cut behind the first chunk, where the second begins.
    file.set_len(metadata_size + (64 << 10)).unwrap();
    shell.fails(1, "io -c 'read 0 512' disk.fvd", "lost");
    let ran = shell.run("map disk.fvd");
    assert_eq!(ran.code, 0);
    assert!(
        ran.out.contains("lost") && ran.err.contains("warning"),
        "{ran:?}"
    );
    shell.fails(1, "convert -O raw disk.fvd out.raw", "incomplete");
}
