//! The rules of creation, against what the first implementation wrote and what it would not.

use super::*;

const GIB: u64 = 1 << 30;

fn planned(text: &str, base_size: Option<u64>) -> Result<(Header, Geometry), FormatError> {
    plan(&CreateOptions::parse(text).unwrap(), base_size)
}

fn header(text: &str, base_size: Option<u64>) -> Header {
    planned(text, base_size).unwrap().0
}

fn refusal(text: &str, base_size: Option<u64>) -> String {
    planned(text, base_size).unwrap_err().to_string()
}

#[test]
fn a_flat_image_without_base_has_a_header_only() {
    let wanted = Header {
        all_data_in_fvd_img: true,
        clean_shutdown: true,
        virtual_disk_size: 8 << 20,
        metadata_size: 8192,
        ..Header::default()
    };
    assert_eq!(header("size=8M", None), wanted);
    assert_eq!(
        header("size=8M,journal_size=64K", None),
        wanted,
        "nothing to journal"
    );
    assert_eq!(
        header("size=8M,chunk_size=64K,copy_on_read=on,block_size=4K", None),
        wanted
    );
    assert_eq!(
        header("size=8388607", None),
        wanted,
        "rounded up to a sector"
    );
}

#[test]
fn a_compact_image_as_the_first_implementation_made_it() {
    // fixture 02
    let wanted = Header {
        all_data_in_fvd_img: true,
        clean_shutdown: true,
        virtual_disk_size: 33_555_968,
        metadata_size: 16_789_504,
        compact_image: true,
        table_offset: 8192,
        chunk_size: 1 << 20,
        storage_grow_unit: 100 << 20,
        journal_offset: 12_288,
        journal_size: 16 << 20,
        ..Header::default()
    };
    assert_eq!(header("size=33555968,compact_image=on", None), wanted);
}

#[test]
fn all_options_as_the_first_implementation_took_them() {
    // fixture 15
    let text = "size=8M,compact_image=on,chunk_size=65536,block_size=65536,storage_grow_unit=2M,\
                add_storage_cmd=/bin/true_arg,copy_on_read=on,prefetch_start_delay=30,\
                journal_size=1M,backing_file=base.raw";
    let wanted = Header {
        virtual_disk_size: 8 << 20,
        metadata_size: 1_064_960,
        base_img: "base.raw".to_owned(),
        base_img_size: 4 << 20,
        bitmap_offset: 8192,
        bitmap_size: 4096,
        block_size: 65_536,
        copy_on_read: true,
        max_outstanding_copy_on_read_data: 2_000_000,
        prefetch_start_delay: 30,
        num_prefetch_slots: 2,
        bytes_per_prefetch: 1 << 20,
        prefetch_read_throughput_measure_time: 100,
        prefetch_write_throughput_measure_time: 100,
        prefetch_perf_calc_alpha: 80,
        prefetch_min_read_throughput: 5120,
        prefetch_min_write_throughput: 5120,
        prefetch_max_read_throughput: 1_000_000_000,
        prefetch_max_write_throughput: 1_000_000_000,
        prefetch_throttle_time: 30_000,
        compact_image: true,
        table_offset: 12_288,
        chunk_size: 65_536,
        storage_grow_unit: 2 << 20,
        add_storage_cmd: "/bin/true_arg".to_owned(),
        journal_offset: 16_384,
        journal_size: 1 << 20,
        clean_shutdown: true,
        unit_of_prefetch_profile_entry_len: 4096,
        profile_directed_prefetch_start_delay: -1,
        ..Header::default()
    };
    assert_eq!(header(text, Some(4 << 20)), wanted);
}

#[test]
fn the_default_block_size_keeps_the_bitmap_at_4_mib() {
    let block_size = |base: u64| header("size=1000T,backing_file=b", Some(base)).block_size;
    assert_eq!(block_size(512), 512);
    assert_eq!(block_size(16 * GIB), 512);
    assert_eq!(block_size(16 * GIB + 1), 1024);
    let header = header("size=1000T,backing_file=b", Some(1 << 40));
    assert_eq!((header.block_size, header.bitmap_size), (32_768, 4 << 20));
}

#[test]
fn units_are_rounded_up() {
    let header = header(
        "size=8M,compact_image=on,chunk_size=38400,block_size=7600,backing_file=b,journal_size=1",
        Some(8 << 20),
    );
    assert_eq!((header.chunk_size, header.block_size), (40_960, 7680));
    assert_eq!(
        (header.journal_size, header.bytes_per_prefetch),
        (4096, 1_052_160)
    );
}

#[test]
fn the_base_stands_behind_no_more_than_the_disk() {
    let size = |text, base| header(text, Some(base)).base_img_size;
    assert_eq!(size("size=1M,backing_file=b", 3_000_000), 1 << 20);
    assert_eq!(size("size=8M,backing_file=b", 1000), 1024);
    let header = header("backing_file=b", Some(5000));
    assert_eq!(
        (header.virtual_disk_size, header.base_img_size),
        (5120, 5120)
    );
}

#[test]
fn a_journal_has_a_sector_for_every_121_entries_unless_disabled() {
    let size = |text: &str| header(text, None).journal_size;
    assert_eq!(
        size("size=1G,compact_image=on,chunk_size=4K,journal_size=1"),
        1_110_016
    );
    assert_eq!(
        size("size=1G,compact_image=on,chunk_size=4K,journal_size=2M"),
        2 << 20
    );
    assert_eq!(size("size=64G,compact_image=on,chunk_size=4K"), 70_991_872);
    assert_eq!(
        size("size=1G,compact_image=on,chunk_size=4K,journal_size=-1"),
        0
    );
    let (header, geometry) = planned("size=1G,compact_image=on,journal_size=-1", None).unwrap();
    assert_eq!((header.journal_offset, header.metadata_size), (0, 12_288));
    assert_eq!(geometry.journal, None);
}

#[test]
fn the_storage_grows_by_a_chunk_at_least() {
    let unit = |text: &str| header(text, None).storage_grow_unit;
    assert_eq!(
        unit("size=1G,compact_image=on,storage_grow_unit=1"),
        1 << 20
    );
    assert_eq!(unit("size=1G,compact_image=on,chunk_size=1G"), GIB);
}

#[test]
fn holes_can_be_looked_for_in_a_base_of_a_flat_image_only() {
    assert!(header("size=1M,backing_file=b,detect_sparse_hole=64K", Some(4096)).need_zero_init);
    assert!(!header("size=1M,backing_file=b,detect_sparse_hole=0", Some(4096)).need_zero_init);
    let wanted = "detect_sparse_hole: is only for images with a base image that are not compact";
    assert_eq!(refusal("size=1M,detect_sparse_hole=64K", None), wanted);
    let compact = "size=1M,backing_file=b,detect_sparse_hole=64K,compact_image=on";
    assert_eq!(refusal(compact, Some(4096)), wanted);
}

#[test]
fn a_profile_has_room_when_asked_for() {
    let profile = |text: &str| {
        let text = format!("size=1M,backing_file=b,journal_size=4K,{text}");
        let (header, geometry) = planned(&text, Some(1 << 20)).unwrap();
        assert_eq!(
            header.prefetch_profile_offset == 0,
            geometry.profile.is_none()
        );
        geometry
            .profile
            .map(|region| (region.start.get(), region.len))
    };
    assert_eq!(profile(""), None);
    assert_eq!(
        profile("generate_prefetch_profile=on"),
        Some((16_384, 65_536))
    );
    assert_eq!(profile("prefetch_profile_size=5000"), Some((16_384, 8192)));
    assert_eq!(
        profile("generate_prefetch_profile=on,prefetch_profile_size=0"),
        None
    );
    assert_eq!(
        header("size=1M,prefetch_profile_size=8K", None).metadata_size,
        8192
    );
}

#[test]
fn a_data_file_of_its_own_begins_with_the_data() {
    let (header, geometry) = planned("size=1M,data_file=d.raw,data_file_fmt=raw", None).unwrap();
    assert_eq!(
        (header.data_file.as_str(), header.data_file_fmt.as_str()),
        ("d.raw", "raw")
    );
    assert_eq!(geometry.data_start().get(), 0);
}

#[test]
fn what_is_missing_is_asked_for() {
    assert_eq!(
        refusal("", None),
        "size: must be given where there is no base image"
    );
    let wanted = "backing_file: the size of the base is not known";
    assert_eq!(refusal("size=1M,backing_file=b", None), wanted);
}

#[test]
fn what_a_header_cannot_hold_is_refused() {
    let text = format!("size=1M,backing_file={}", "a".repeat(1024));
    assert!(refusal(&text, Some(512)).starts_with("base_img has 1024 bytes"));
    let text = "size=1M,backing_file=b,backing_fmt=0123456789abcdef";
    assert!(refusal(text, Some(512)).starts_with("base_img_fmt has 16 bytes"));
}

#[test]
fn what_is_too_large_is_refused() {
    let large = |change: fn(&mut CreateOptions)| {
        let text = "size=1M,compact_image=on,backing_file=b";
        let mut options = CreateOptions::parse(text).unwrap();
        change(&mut options);
        match plan(&options, Some(1 << 62)).unwrap_err() {
            FormatError::TooLarge { field, .. } | FormatError::TooSmall { field, .. } => field,
            other => panic!("{other}"),
        }
    };
    assert_eq!(large(|o| o.size = Some(u64::MAX)), "size");
    assert_eq!(large(|o| o.size = None), "size");
    assert_eq!(large(|o| o.block_size = Some(u64::MAX)), "block_size");
    assert_eq!(large(|o| o.block_size = Some(0)), "block_size");
    assert_eq!(large(|o| o.chunk_size = Some(u64::MAX)), "chunk_size");
    assert_eq!(large(|o| o.chunk_size = Some(0)), "chunk_size");
    assert_eq!(
        large(|o| o.storage_grow_unit = Some(u64::MAX)),
        "storage_grow_unit"
    );
    assert_eq!(
        large(|o| o.journal_size = JournalSize::Bytes(u64::MAX)),
        "journal_size"
    );
    assert_eq!(
        large(|o| o.prefetch_profile_size = Some(u64::MAX)),
        "prefetch_profile_size"
    );
    assert_eq!(
        large(|o| o.size = Some(1 << 60)),
        "block_size",
        "the default one"
    );
    let many = |o: &mut CreateOptions| (o.size, o.chunk_size) = (Some(1 << 41), Some(4096));
    assert_eq!(large(many), "virtual_disk_size / chunk_size");
}
