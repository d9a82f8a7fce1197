//! The command line: every verb does what it says, and a wrong use is told with exit code 2 and a
//! name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod convert;
mod look;
mod readme;
mod shell;
mod usage;

use shell::Shell;

#[test]
fn an_image_is_made_used_and_read_again() {
    let shell = Shell::new();
    let said = shell.ok("create -o compact_image=on,chunk_size=64K disk.fvd 10M");
    assert!(
        said.contains("disk.fvd: a new compact image of 10 MiB"),
        "{said}"
    );
    shell.io("write -P 0xab 4k 64k; read -P 0xab 4k 64k; flush");
    shell.io("read -P 0xab 4k 64k; read -P 0 0 4k; read -P 0 68k 9M");
}

#[test]
fn a_pattern_that_is_not_there_is_told_with_its_place() {
    let shell = Shell::new();
    shell.ok("create disk.fvd 1M");
    shell.io("write -P 1 0 2k; write -P 2 2k 512");
    let read = "io -c 'read -P 1 0 4k' disk.fvd";
    shell.fails(1, read, "byte 2048 is 0x02, not 0x01");
}

#[test]
fn a_command_that_fails_keeps_what_was_written_before() {
    let shell = Shell::new();
    shell.ok("create -o compact_image=on disk.fvd 1M");
    shell.fails(
        1,
        "io -c 'write -P 7 0 4k' -c 'write 1M 512' disk.fvd",
        "1048576",
    );
    assert_eq!(shell.info()["header"]["clean_shutdown"], true);
    shell.io("read -P 7 0 4k");
}

#[test]
fn writes_can_be_durable_one_by_one_or_all() {
    let shell = Shell::new();
    shell.ok("create -o compact_image=on disk.fvd 1M");
    shell.io("write -f -P 3 0 8k; read -P 3 0 8k");
    shell.ok("io --cache=writethrough -c 'write -P 4 0 8k' disk.fvd");
    let said = shell.io("read -P 4 0 8k; info");
    assert!(said.contains("virtual size: 1 MiB"), "{said}");
}

#[test]
fn an_image_opened_read_only_takes_no_write() {
    let shell = Shell::new();
    shell.ok("create disk.fvd 1M");
    let before = shell.read("disk.fvd");
    shell.fails(1, "io -r -c 'write 0 512' disk.fvd", "read-only");
    shell.ok("io -r -c 'read -P 0 0 1M' disk.fvd");
    assert!(shell.read("disk.fvd") == before);
}

#[test]
fn a_base_image_shows_through_until_it_is_overwritten() {
    let shell = Shell::new();
    shell.write("base.raw", &[0x11; 1 << 20]);
    shell.ok("create -b base.raw -F raw disk.fvd 2M");
    shell.io("write -P 0x22 8k 4k");
    shell.io("read -P 0x11 0 8k; read -P 0x22 8k 4k; read -P 0x11 12k 1012k; read -P 0 1M 1M");
    let base = shell.read("base.raw");
    assert!(
        base.iter().all(|byte| *byte == 0x11),
        "the base is never written"
    );
}

#[test]
fn without_a_size_an_image_is_as_large_as_its_base() {
    let shell = Shell::new();
    shell.write("base.raw", &[1; 3 << 20]);
    shell.ok("create -b base.raw disk.fvd");
    assert_eq!(shell.info()["virtual_size"], 3 << 20);
}

#[test]
fn an_image_can_be_the_base_of_another() {
    let shell = Shell::new();
    shell.write("base.raw", &[1; 1 << 20]);
    shell.ok("create -b base.raw middle.fvd 1M");
    shell.ok("io -c 'write -P 2 64k 64k' middle.fvd");
    shell.ok("create -b middle.fvd -F fvd disk.fvd 1M");
    shell.io("write -P 3 128k 64k");
    shell.io("read -P 1 0 64k; read -P 2 64k 64k; read -P 3 128k 64k; read -P 1 192k 832k");
}

#[test]
fn names_in_an_image_are_followed_as_far_as_the_user_says() {
    let shell = Shell::new();
    std::fs::create_dir(shell.path("images")).unwrap();
    shell.write("base.raw", &[5; 1 << 20]);
    shell.write("other.raw", &[6; 1 << 20]);
    let said = shell.ok("create -b ../base.raw images/disk.fvd 1M");
    assert!(
        said.contains("follow=any"),
        "who makes such an image is told: {said}"
    );
    shell.fails(1, "io -c 'read -P 5 0 1M' images/disk.fvd", "follow=any");
    shell.fails(
        1,
        "io --follow=none -c 'read -P 5 0 1M' images/disk.fvd",
        "follow=none",
    );
    shell.ok("io --follow=any -c 'read -P 5 0 1M' images/disk.fvd");
    shell.ok("io --base=other.raw -c 'read -P 6 0 1M' images/disk.fvd");
}

#[test]
fn the_demonstration_says_that_all_is_well() {
    let shell = Shell::new();
    let said = shell.ok("demo --keep shown");
    for part in [
        "ext4",
        "created in",
        "writes",
        "131072 sectors",
        "clean",
        "All as it should be",
    ] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    shell.ok("info shown/disk.fvd");
    shell.fails(1, "demo --keep shown", "shown");
}

#[test]
fn the_demonstration_leaves_nothing_behind() {
    let shell = Shell::new();
    shell.ok("demo");
    assert_eq!(std::fs::read_dir(shell.path("")).unwrap().count(), 0);
}
