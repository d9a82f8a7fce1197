//! `fvd convert`: content is kept, holes are kept, and nothing is overwritten by accident.

use crate::shell::Shell;

#[test]
fn conversion_to_an_image_and_back_keeps_the_disk_and_its_holes() {
    let shell = Shell::new();
    let mut disk = vec![0; 8 << 20];
    for at in [0, 70_000, 3 << 20, (8 << 20) - 5000] {
        disk[at..at + 5000].fill(0x77);
    }
    shell.write("in.raw", &disk);
    shell.ok("convert -O fvd -o compact_image=on,chunk_size=4K in.raw disk.fvd");
    shell.ok("convert -O raw disk.fvd out.raw");
    assert!(shell.read("out.raw") == disk);
    assert!(shell.allocated("out.raw") < 64 << 10, "zeros were written");
    let chunks = shell.info()["allocated_chunks"].as_u64().unwrap();
    assert!((5..=8).contains(&chunks), "{chunks} chunks for 20000 bytes");
}

#[test]
fn conversion_of_a_disk_that_is_mostly_hole_does_not_read_the_hole() {
    let shell = Shell::new();
    shell.write("in.raw", &[1; 4096]);
    let file = std::fs::File::options()
        .write(true)
        .open(shell.path("in.raw"))
        .unwrap();
    // At any speed of reading zeros, this would take longer than a test may.
    file.set_len(4 << 40).unwrap();
    shell.ok("convert -O fvd -o compact_image=on in.raw disk.fvd");
    shell.ok("convert -O raw disk.fvd out.raw");
    assert_eq!(
        std::fs::metadata(shell.path("out.raw")).unwrap().len(),
        4 << 40
    );
    assert!(shell.allocated("out.raw") < 64 << 10);
}

#[test]
fn conversion_pads_a_raw_disk_to_whole_sectors() {
    let shell = Shell::new();
    shell.write("in.raw", &[9; 1000]);
    shell.ok("convert -O fvd in.raw disk.fvd");
    shell.ok("convert -O raw in.raw copy.raw");
    assert_eq!(shell.read("copy.raw"), [9; 1000]);
    shell.ok("convert -O raw disk.fvd out.raw");
    assert_eq!(shell.read("out.raw"), [vec![9; 1000], vec![0; 24]].concat());
}

#[test]
fn conversion_takes_a_whole_chain_into_one_image() {
    let shell = Shell::new();
    shell.write("base.raw", &[1; 1 << 20]);
    shell.ok("create -b base.raw chain.fvd 2M");
    shell.ok("io -c 'write -P 2 4k 4k' -c 'write -P 0 64k 64k' chain.fvd");
    shell.ok("convert -O fvd -o compact_image=on chain.fvd disk.fvd");
    std::fs::remove_file(shell.path("base.raw")).unwrap();
    shell.io("read -P 1 0 4k; read -P 2 4k 4k; read -P 1 8k 56k; read -P 0 64k 64k");
    shell.io("read -P 1 128k 896k; read -P 0 1M 1M");
}

#[test]
fn a_copy_can_be_larger_than_its_source() {
    let shell = Shell::new();
    shell.write("in.raw", &[3; 1 << 20]);
    shell.ok("convert -O fvd -o size=3M in.raw disk.fvd");
    shell.io("read -P 3 0 1M; read -P 0 1M 2M");
}

#[test]
fn a_format_is_probed_by_its_magic_only_where_none_is_given() {
    let shell = Shell::new();
    shell.ok("create -o journal_size=-1 disk.fvd 1M");
    shell.ok("convert -f raw -O raw disk.fvd bytes");
    assert!(shell.read("bytes") == shell.read("disk.fvd"));
    shell.ok("convert -O raw disk.fvd content");
    assert_eq!(shell.read("content").len(), 1 << 20);
    shell.write("plain", &[1; 8192]);
    shell.fails(1, "convert -f fvd -O raw plain x", "magic");
}

#[test]
fn a_disk_is_not_converted_onto_itself() {
    let shell = Shell::new();
    shell.write("disk.raw", &[1; 4096]);
    shell.fails(1, "convert -O raw disk.raw disk.raw", "in use");
    assert_eq!(shell.read("disk.raw"), [1; 4096]);
    shell.ok("create -b disk.raw disk.fvd");
    shell.fails(1, "convert -O raw disk.fvd disk.raw", "in use");
    assert_eq!(shell.read("disk.raw"), [1; 4096]);
}
