//! The text form of a request.

use super::*;

fn refusal(text: &str) -> String {
    CreateOptions::parse(text).unwrap_err().to_string()
}

#[test]
fn nothing_is_the_default() {
    assert_eq!(CreateOptions::parse(""), Ok(CreateOptions::default()));
}

#[test]
fn every_option_is_read() {
    let text = "size=10G,compact_image=on,block_size=64k,chunk_size=2M,storage_grow_unit=1G,\
                add_storage_cmd=builtin:lvextend,backing_file=base.qcow2,backing_fmt=qcow2,\
                data_file=/dev/vg/lv,data_file_fmt=raw,copy_on_read=yes,prefetch_start_delay=30,\
                detect_sparse_hole=64K,journal_size=1M,prefetch_profile_size=128K,\
                generate_prefetch_profile=true";
    let options = CreateOptions {
        size: Some(10 << 30),
        compact_image: true,
        block_size: Some(64 << 10),
        chunk_size: Some(2 << 20),
        storage_grow_unit: Some(1 << 30),
        add_storage_cmd: "builtin:lvextend".to_owned(),
        backing_file: Some("base.qcow2".to_owned()),
        backing_fmt: "qcow2".to_owned(),
        data_file: "/dev/vg/lv".to_owned(),
        data_file_fmt: "raw".to_owned(),
        copy_on_read: true,
        prefetch_start_delay: Some(30),
        detect_sparse_hole: Some(64 << 10),
        journal_size: JournalSize::Bytes(1 << 20),
        prefetch_profile_size: Some(128 << 10),
        generate_prefetch_profile: true,
    };
    assert_eq!(CreateOptions::parse(text), Ok(options));
    for info in CREATE_OPTIONS {
        assert!(
            text.contains(&format!("{}=", info.name)),
            "{} is not tested",
            info.name
        );
    }
}

#[test]
fn the_defaults_that_are_told_are_those_that_hold() {
    let mut options = CreateOptions::default();
    for info in CREATE_OPTIONS
        .iter()
        .filter(|info| !info.default.is_empty())
    {
        options
            .set(&format!("{}={}", info.name, info.default))
            .unwrap();
    }
    let told = CreateOptions {
        chunk_size: Some(1 << 20),
        storage_grow_unit: Some(100 << 20),
        prefetch_start_delay: Some(-1),
        detect_sparse_hole: Some(0),
        journal_size: JournalSize::Bytes(16 << 20),
        prefetch_profile_size: Some(0),
        ..CreateOptions::default()
    };
    assert_eq!(options, told);
}

#[test]
fn the_last_value_of_a_name_holds() {
    let options = CreateOptions::parse("size=1G,copy_on_read=on,size=2G,copy_on_read=off").unwrap();
    assert_eq!((options.size, options.copy_on_read), (Some(2 << 30), false));
}

#[test]
fn a_journal_can_be_disabled() {
    let size = |text: &str| CreateOptions::parse(text).map(|options| options.journal_size);
    assert_eq!(size("journal_size=-1"), Ok(JournalSize::Disabled));
    assert_eq!(size("journal_size=0"), Ok(JournalSize::Default));
    for text in [
        "journal_size=-",
        "journal_size=--1",
        "journal_size=-0",
        "journal_size=",
    ] {
        assert!(size(text).is_err(), "{text}");
    }
}

#[test]
fn each_kind_of_bad_value_is_refused_by_name() {
    for text in [
        "size=",
        "size=ten",
        "size=-1",
        "size=2000000T",
        "compact_image=1",
        "copy_on_read=",
        "block_size=0",
        "block_size=4G",
        "chunk_size=0",
        "prefetch_start_delay=1s",
        "prefetch_start_delay=2147483648",
        "prefetch_profile_size=65M",
        "journal_size=no",
        "compact_image",
    ] {
        let name = text.split('=').next().unwrap();
        let message = refusal(text);
        assert!(
            message.starts_with(&format!("{name}: bad value")),
            "{message}"
        );
        assert!(message.contains("; allowed: "), "{message}");
    }
    let wanted = "copy_on_read: bad value \"maybe\"; allowed: on, off, yes, no, true, false";
    assert_eq!(refusal("copy_on_read=maybe"), wanted);
}

#[test]
fn an_unknown_name_is_refused_with_all_known_ones() {
    let message = refusal("size=1G,cluster_size=64K");
    let wanted = "unknown option \"cluster_size\"; allowed: size, compact_image, block_size,";
    assert!(message.starts_with(wanted), "{message}");
    assert!(refusal("Size=1G").contains("\"Size\""));
    assert!(refusal("=1").contains("\"\""));
}

#[test]
fn a_comma_in_a_name_is_doubled() {
    let options = CreateOptions::parse("backing_file=a,,b.raw,size=1M").unwrap();
    assert_eq!(options.backing_file.as_deref(), Some("a,b.raw"));
    assert_eq!(
        CreateOptions::parse("backing_file=").unwrap().backing_file,
        None
    );
}

#[test]
fn holes_are_looked_for_in_whole_blocks() {
    let region = |bytes| {
        CreateOptions {
            detect_sparse_hole: bytes,
            ..CreateOptions::default()
        }
        .sparse_region(7680)
    };
    assert_eq!(region(None), None);
    assert_eq!(region(Some(0)), None);
    assert_eq!(region(Some(1)), Some(7680));
    assert_eq!(region(Some(8192)), Some(15_360));
}
