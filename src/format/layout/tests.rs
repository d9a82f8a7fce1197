//! One test for each refusal, and the strange headers that are none.

use super::super::create::plan;
use super::super::options::CreateOptions;
use super::*;

const MIB: u64 = 1 << 20;

/// A header with all regions: 8192 bitmap 12288 table 16384 journal 81920 profile 90112.
fn full() -> Header {
    let text = "size=8M,compact_image=on,chunk_size=64K,block_size=4K,backing_file=b,\
                journal_size=64K,prefetch_profile_size=8K";
    plan(&CreateOptions::parse(text).unwrap(), Some(4 * MIB))
        .unwrap()
        .0
}

fn check(change: impl FnOnce(&mut Header)) -> Result<Geometry, FormatError> {
    let mut header = full();
    change(&mut header);
    Geometry::from_header(&header, 90_112)
}

fn refusal(change: impl FnOnce(&mut Header)) -> FormatError {
    check(change).unwrap_err()
}

fn region(start: u64, len: u64) -> Region {
    Region {
        start: MetaOffset::new(start),
        len,
    }
}

#[test]
fn the_layout_that_the_other_tests_change() {
    let geometry = check(|_| ()).unwrap();
    let blocks = geometry.blocks.unwrap();
    assert_eq!((blocks.count, blocks.bitmap), (1024, region(8192, 4096)));
    let chunks = geometry.chunks.unwrap();
    assert_eq!((chunks.entries, chunks.table), (128, region(12_288, 4096)));
    assert_eq!(geometry.journal, Some(region(16_384, 65_536)));
    assert_eq!(geometry.profile, Some(region(81_920, 8192)));
}

#[test]
fn sizes_that_are_no_multiples() {
    let not = |field, value, of| FormatError::NotMultiple { field, value, of };
    for (error, wanted) in [
        (
            refusal(|h| h.virtual_disk_size += 1),
            not("virtual_disk_size", 8 * MIB + 1, 512),
        ),
        (
            refusal(|h| h.metadata_size += 100),
            not("metadata_size", 90_212, 512),
        ),
        (
            refusal(|h| h.base_img_size = 513),
            not("base_img_size", 513, 512),
        ),
        (
            refusal(|h| h.bitmap_size = 4608),
            not("bitmap_size", 4608, 4096),
        ),
        (
            refusal(|h| h.journal_size = 65_024),
            not("journal_size", 65_024, 4096),
        ),
        (
            refusal(|h| h.block_size = 4097),
            not("block_size", 4097, 512),
        ),
        (
            refusal(|h| h.chunk_size = 65_536 + 512),
            not("chunk_size", 66_048, 4096),
        ),
        (
            refusal(|h| h.bitmap_offset = 8193),
            not("bitmap_offset", 8193, 512),
        ),
        (
            refusal(|h| h.table_offset += 8),
            not("table_offset", 12_296, 512),
        ),
    ] {
        assert_eq!(error, wanted);
    }
}

#[test]
fn sizes_that_are_too_small() {
    let assert_field = |error: FormatError, wanted| match error {
        FormatError::TooSmall { field, .. } => assert_eq!(field, wanted),
        other => panic!("{other}"),
    };
    assert_field(refusal(|h| h.metadata_size = 4096), "metadata_size");
    assert_field(refusal(|h| h.block_size = 0), "block_size");
    assert_field(refusal(|h| h.chunk_size = 0), "chunk_size");
    let unit = |h: &mut Header| {
        h.prefetch_profile_entries = 1;
        h.unit_of_prefetch_profile_entry_len = 0;
    };
    assert_field(refusal(unit), "unit_of_PrefetchProfileEntry_len");
}

#[test]
fn a_bitmap_that_is_too_small_for_the_base() {
    let error = refusal(|h| {
        h.virtual_disk_size = 64 * MIB;
        h.base_img_size = 64 * MIB;
        h.block_size = 512; // 131072 bits
        h.chunk_size = MIB;
    });
    let why = "one bit for each block of the base, in whole pages";
    let field = "bitmap_size";
    assert_eq!(
        error,
        FormatError::TooSmall {
            field,
            value: 4096,
            min: 16_384,
            why
        }
    );

    let error = refusal(|h| h.bitmap_size = 0);
    assert_eq!(
        error,
        FormatError::TooSmall {
            field,
            value: 0,
            min: 4096,
            why
        }
    );
}

#[test]
fn a_table_that_is_too_small_for_the_disk() {
    let error = refusal(|h| h.chunk_size = 4096); // 2048 entries: two pages
    let wanted = "the room at table_offset is 4096, but must be at least 8192 \
                  (4 bytes for each chunk of virtual_disk_size, in whole pages)";
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn sizes_above_a_limit() {
    let assert_field = |error: FormatError, wanted| match error {
        FormatError::TooLarge { field, .. } => assert_eq!(field, wanted),
        other => panic!("{other}"),
    };
    let above = (1 << 60) + 4096;
    assert_field(
        refusal(|h| h.virtual_disk_size = above),
        "virtual_disk_size",
    );
    assert_field(refusal(|h| h.metadata_size = above), "metadata_size");
    assert_field(refusal(|h| h.chunk_size = above), "chunk_size");
    assert_field(
        refusal(|h| h.storage_grow_unit = above),
        "storage_grow_unit",
    );
    assert_field(
        refusal(|h| h.journal_size = (4 << 30) + 4096),
        "journal_size",
    );
    assert_field(
        refusal(|h| h.prefetch_profile_entries = u64::MAX),
        "prefetch_profile_entries",
    );
    let large_block = |h: &mut Header| {
        h.virtual_disk_size = 1 << 30;
        h.base_img_size = 1 << 30;
        h.chunk_size = 1 << 24;
        h.block_size = (64 << 20) + 512;
    };
    assert_field(refusal(large_block), "block_size");
}

#[test]
fn bitmap_and_table_that_need_too_much_memory() {
    let large = |bitmap_size, entries: u64| {
        let mut header = full();
        header.virtual_disk_size = entries * header.chunk_size;
        header.journal_size = 0;
        header.bitmap_size = bitmap_size;
        header.table_offset = header.bitmap_offset + bitmap_size;
        header.prefetch_profile_offset = 0;
        header.metadata_size = 1 << 40;
        Geometry::from_header(&header, 1 << 40).map(|_| ())
    };
    let pages = |bytes: u64| bytes / table::ENTRY_LEN;
    assert_eq!(large(4096, pages((1 << 30) - 4096)), Ok(()));
    let why = "bitmap and table together are held in memory, at most 1 GiB";
    let max = pages((1 << 30) - 4096);
    let (field, value) = ("virtual_disk_size / chunk_size", max + 1);
    assert_eq!(
        large(4096, max + 1),
        Err(FormatError::TooLarge {
            field,
            value,
            max,
            why
        })
    );
    let (field, value, max) = ("bitmap_size", (1 << 30) + 4096, 1 << 30);
    assert_eq!(
        large(value, 128),
        Err(FormatError::TooLarge {
            field,
            value,
            max,
            why
        })
    );
}

#[test]
fn a_base_larger_than_the_disk() {
    let error = refusal(|h| h.base_img_size = 8 * MIB + 512);
    let (value, max, why) = (8 * MIB + 512, 8 * MIB, "the size of the disk");
    assert_eq!(
        error,
        FormatError::TooLarge {
            field: "base_img_size",
            value,
            max,
            why
        }
    );
}

#[test]
fn regions_over_the_header_or_each_other() {
    let overlap = |change: fn(&mut Header)| match refusal(change) {
        FormatError::Overlap { field, other, .. } => (field, other),
        error => panic!("{error}"),
    };
    assert_eq!(overlap(|h| h.bitmap_offset = 0), (BITMAP, "the header"));
    assert_eq!(
        overlap(|h| h.journal_offset = 4096),
        (JOURNAL, "the header")
    );
    assert_eq!(overlap(|h| h.table_offset = 8192), (TABLE, BITMAP));
    assert_eq!(overlap(|h| h.journal_offset = 8192), (JOURNAL, BITMAP));
    assert_eq!(overlap(|h| h.journal_offset = 12_288), (JOURNAL, TABLE));
    assert_eq!(overlap(|h| h.table_offset = 20_480), (TABLE, JOURNAL));
    assert_eq!(
        overlap(|h| h.prefetch_profile_offset = 12_800),
        (PROFILE, TABLE)
    );
    assert_eq!(overlap(|h| h.bitmap_offset = 80_384), (BITMAP, JOURNAL));
}

#[test]
fn overlaps_count_for_regions_that_are_not_used_any_more() {
    let error = refusal(|h| {
        h.all_data_in_fvd_img = true;
        h.bitmap_offset = 12_288;
    });
    assert!(matches!(error, FormatError::Overlap { .. }), "{error}");
}

#[test]
fn regions_outside_the_metadata() {
    let outside = |change: fn(&mut Header)| match refusal(change) {
        FormatError::OutsideMetadata { field, .. } => field,
        error => panic!("{error}"),
    };
    assert_eq!(outside(|h| h.bitmap_offset = 90_112), BITMAP);
    assert_eq!(outside(|h| h.table_offset = 1 << 62), TABLE);
    assert_eq!(outside(|h| h.journal_size = 65_536 + 16_384), JOURNAL);
    assert_eq!(outside(|h| h.prefetch_profile_offset = 90_624), PROFILE);
    assert_eq!(outside(|h| h.prefetch_profile_entries = 683), PROFILE);
    assert_eq!(outside(|h| h.metadata_size = 65_536), JOURNAL);
    assert_eq!(
        outside(|h| h.journal_offset = (i64::MAX as u64) / 512 * 512),
        JOURNAL
    );
    let error = refusal(|h| h.bitmap_offset = 90_112).to_string();
    let wanted =
        "bitmap_offset is 90112: a region of 4096 bytes there ends beyond metadata_size 90112";
    assert_eq!(error, wanted);
}

#[test]
fn a_file_that_ends_before_a_region_that_must_exist() {
    let with_len = |len| Geometry::from_header(&full(), len).map(|_| ());
    let outside = |field, end, file_len| {
        Err(FormatError::OutsideFile {
            field,
            end,
            file_len,
        })
    };
    assert_eq!(with_len(81_920), Ok(()), "an empty profile need not exist");
    assert_eq!(with_len(81_919), outside(JOURNAL, 81_920, 81_919));
    assert_eq!(with_len(16_383), outside(TABLE, 16_384, 16_383));
    assert_eq!(with_len(8192), outside(BITMAP, 12_288, 8192));

    let mut header = full();
    header.prefetch_profile_entries = 1;
    let error = Geometry::from_header(&header, 81_920).map(|_| ());
    assert_eq!(error, outside(PROFILE, 81_932, 81_920));
}

#[test]
fn a_bitmap_without_a_base_name() {
    let error = refusal(|h| h.base_img.clear());
    assert_eq!(
        error,
        FormatError::NoBaseName {
            base_img_size: 4 * MIB
        }
    );
    assert!(
        error.to_string().contains("`fvd update base_img=...`"),
        "{error}"
    );
    assert!(check(|h| (h.base_img.clear(), h.all_data_in_fvd_img = true).1).is_ok());
}

#[test]
fn a_finished_image_has_a_journal_but_no_bitmap_in_force() {
    let mut header = full();
    header.all_data_in_fvd_img = true;
    let geometry = Geometry::from_header(&header, 90_112).unwrap();
    assert_eq!(geometry.blocks, None);
    assert!(geometry.chunks.is_some() && geometry.journal.is_some());
}

#[test]
fn a_journal_with_nothing_to_protect_does_not_exist() {
    let header = Header {
        all_data_in_fvd_img: true,
        metadata_size: 73_728,
        journal_offset: 8192,
        journal_size: 65_536,
        ..Header::default()
    };
    let geometry = Geometry::from_header(&header, 8192).unwrap();
    assert_eq!(geometry.journal, None);
}

#[test]
fn metadata_may_count_more_than_there_is() {
    // fixture 16: a journal that was counted, but neither used nor always written
    let header = Header {
        all_data_in_fvd_img: true,
        metadata_size: 73_728,
        ..Header::default()
    };
    let geometry = Geometry::from_header(&header, 4336).unwrap();
    assert_eq!(geometry.data_start().get(), 73_728);
}

#[test]
fn a_base_of_no_bytes_has_no_bitmap() {
    let text = "size=1M,backing_file=empty.raw";
    let (header, geometry) = plan(&CreateOptions::parse(text).unwrap(), Some(0)).unwrap();
    assert_eq!((header.bitmap_size, header.all_data_in_fvd_img), (0, false));
    assert_eq!((geometry.blocks, geometry.journal), (None, None));
}

#[test]
fn the_table_and_the_profile_have_room_up_to_the_next_region() {
    let geometry = check(|h| {
        (h.journal_size, h.table_offset, h.prefetch_profile_offset) = (0, 40_960, 16_384);
        h.prefetch_profile_entries = 100;
    });
    let geometry = geometry.unwrap();
    assert_eq!(geometry.profile, Some(region(16_384, 40_960 - 16_384)));
    assert_eq!(
        geometry.chunks.unwrap().table,
        region(40_960, 90_112 - 40_960)
    );
}

#[test]
fn a_grow_unit_below_a_chunk_is_taken_as_a_chunk() {
    let geometry = check(|h| h.storage_grow_unit = 0).unwrap();
    assert_eq!(geometry.chunks.unwrap().grow_unit, 65_536);
}

#[test]
fn a_block_may_be_larger_than_the_limit_where_the_base_is_not() {
    assert!(check(|h| h.block_size = 0xFFFF_FE00).is_ok());
}
