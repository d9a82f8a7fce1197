//! What the parts promise together, and what no header, however hostile, can do.

use proptest::prelude::*;

use super::options::CreateOptions;
use super::*;

/// A text that fits a field of `len` bytes, and reads back as it is.
fn text(len: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::char::range(' ', '\u{2FF}'), 0..=len / 2 - 1)
        .prop_map(String::from_iter)
}

/// A size or offset: small, page-sized, near a limit, or anything that a field can hold.
fn size() -> impl Strategy<Value = u64> {
    const MAX: u64 = i64::MAX as u64;
    prop_oneof![
        0u64..10_000,
        (0u64..64).prop_map(|pages| pages * PAGE),
        (0u32..63).prop_map(|shift| 1 << shift),
        (MAX - 10_000)..=MAX,
        0..=MAX,
    ]
}

/// Any header that can be encoded.
pub(super) fn arbitrary_header() -> impl Strategy<Value = Header> {
    let flags = prop::array::uniform6(any::<bool>());
    let sizes = prop::array::uniform13(size());
    let numbers = prop::array::uniform13(any::<u32>());
    let texts = (text(1024), text(16), text(1024), text(16), text(2048));
    let delays = (any::<i32>(), any::<i32>());
    (flags, sizes, numbers, texts, delays, 0usize..4).prop_map(
        |(flags, sizes, numbers, texts, delays, mode)| Header {
            all_data_in_fvd_img: flags[0],
            virtual_disk_size: sizes[0],
            metadata_size: sizes[1],
            base_img: texts.0,
            base_img_fmt: texts.1,
            base_img_size: sizes[2],
            bitmap_offset: sizes[3],
            bitmap_size: sizes[4],
            block_size: numbers[0],
            copy_on_read: flags[1],
            max_outstanding_copy_on_read_data: sizes[5],
            data_file: texts.2,
            data_file_fmt: texts.3,
            prefetch_start_delay: delays.0,
            prefetch_profile_offset: sizes[6],
            prefetch_profile_entries: sizes[7],
            num_prefetch_slots: numbers[1],
            bytes_per_prefetch: numbers[2],
            prefetch_read_throughput_measure_time: numbers[3],
            prefetch_write_throughput_measure_time: numbers[4],
            prefetch_perf_calc_alpha: numbers[5],
            prefetch_min_read_throughput: numbers[6],
            prefetch_min_write_throughput: numbers[7],
            prefetch_max_read_throughput: numbers[8],
            prefetch_max_write_throughput: numbers[9],
            prefetch_throttle_time: numbers[10],
            compact_image: flags[2],
            table_offset: sizes[8],
            chunk_size: sizes[9],
            storage_grow_unit: sizes[10],
            add_storage_cmd: texts.4,
            journal_offset: sizes[11],
            journal_size: sizes[12],
            clean_shutdown: flags[3],
            need_zero_init: flags[4],
            generate_prefetch_profile: flags[5],
            unit_of_prefetch_profile_entry_len: numbers[11],
            profile_directed_prefetch_start_delay: delays.1,
            write_updates_base_img: WriteUpdatesBase::from_name(WriteUpdatesBase::NAMES[mode])
                .unwrap(),
        },
    )
}

/// Options that a plan can be made of, and the size of the base where they name one.
fn arbitrary_options() -> impl Strategy<Value = (CreateOptions, Option<u64>)> {
    let shape = (
        any::<bool>(),
        prop::option::of(0u64..1 << 32),
        0u64..1 << 32,
    );
    let units = (
        prop::option::of(1u64..1 << 21),
        prop::option::of((1u64 << 12)..1 << 24),
        prop::option::of(0u64..1 << 30),
    );
    let journal = prop_oneof![
        Just(JournalSize::Default),
        Just(JournalSize::Disabled),
        (1u64..1 << 25).prop_map(JournalSize::Bytes)
    ];
    let profile = (any::<bool>(), prop::option::of(0u64..1 << 20));
    (shape, units, journal, profile).prop_map(|(shape, units, journal_size, profile)| {
        let (compact_image, base, size) = shape;
        let options = CreateOptions {
            size: Some(size),
            compact_image,
            block_size: units.0,
            chunk_size: units.1,
            storage_grow_unit: units.2,
            backing_file: base.map(|_| "base.raw".to_owned()),
            detect_sparse_hole: units.2.filter(|_| base.is_some() && !compact_image),
            journal_size,
            generate_prefetch_profile: profile.0,
            prefetch_profile_size: profile.1,
            ..CreateOptions::default()
        };
        (options, base)
    })
}

/// What every layer above relies on, of any geometry that was not refused.
fn assert_sound(geometry: &Geometry, file_len: u64) {
    let header = Region {
        start: MetaOffset::new(0),
        len: Header::LEN as u64,
    };
    let bitmap = geometry.blocks.map(|blocks| blocks.bitmap);
    let table = geometry.chunks.map(|chunks| chunks.table);
    let optional = [bitmap, table, geometry.journal, geometry.profile];
    let mut regions: Vec<_> = optional.into_iter().flatten().chain([header]).collect();
    regions.sort_by_key(|region| (region.start, region.len));
    for pair in regions.windows(2) {
        assert!(pair[0].end() <= pair[1].start, "{pair:?} overlap");
    }
    let end = regions.last().unwrap().end().get();
    assert!(end <= geometry.metadata_size, "{end} outside the metadata");
    assert!(geometry.metadata_size <= limits::MAX_METADATA_SIZE);
    assert!(geometry.virtual_size <= limits::MAX_VIRTUAL_SIZE);
    assert!(geometry.max_virtual_size() >= geometry.virtual_size);

    let mut memory = 0;
    if let Some(blocks) = geometry.blocks {
        memory += blocks.bitmap.len;
        assert!(blocks.bitmap.end().get() <= file_len);
        assert!(blocks.bitmap.len * 8 >= blocks.count);
        assert!(blocks.base_size <= geometry.virtual_size);
        assert_eq!(blocks.span(blocks.count - 1).end, blocks.base_size);
        assert_eq!(blocks.index_range(0, u64::MAX), 0..blocks.count);
    }
    if let Some(chunks) = geometry.chunks {
        let len = table::table_len(chunks.entries);
        memory += len;
        assert!(len <= chunks.table.len);
        assert!((chunks.table.start + len).get() <= file_len || len == 0);
        assert!(chunks.grow_unit >= chunks.chunk_size);
        assert_eq!(
            chunks.index_range(0, geometry.virtual_size),
            0..chunks.entries
        );
    }
    assert!(memory <= limits::MAX_BITMAP_AND_TABLE);
}

proptest! {
    #[test]
    fn what_is_planned_can_be_read((options, base_size) in arbitrary_options()) {
        let (header, geometry) = plan(&options, base_size).unwrap();
        let bytes = header.encode().unwrap();
        let read = Header::decode(&*bytes).unwrap();
        prop_assert_eq!(&read, &header);
        let file_len = header.metadata_size;
        prop_assert_eq!(&Geometry::from_header(&read, file_len).unwrap(), &geometry);
        assert_sound(&geometry, file_len);
    }

    #[test]
    fn random_headers_never_panic(header in arbitrary_header(), file_len in size()) {
        if let Ok(geometry) = Geometry::from_header(&header, file_len) {
            assert_sound(&geometry, file_len);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn a_valid_header_with_some_fields_changed_never_panics(
        (options, base_size) in arbitrary_options(),
        strange in arbitrary_header(),
        changes in prop::collection::vec((0usize..16, size()), 1..4),
        file_len in prop::option::of(size()),
    ) {
        let (mut header, _) = plan(&options, base_size).unwrap();
        for (field, value) in changes {
            match field {
                0 => header.virtual_disk_size = value,
                1 => header.metadata_size = value,
                2 => header.base_img_size = value,
                3 => header.bitmap_offset = value,
                4 => header.bitmap_size = value,
                5 => header.block_size = strange.block_size,
                6 => header.prefetch_profile_offset = value,
                7 => header.prefetch_profile_entries = value,
                8 => header.table_offset = value,
                9 => header.chunk_size = value,
                10 => header.storage_grow_unit = value,
                11 => header.journal_offset = value,
                12 => header.journal_size = value,
                13 => header.compact_image = !header.compact_image,
                14 => header.all_data_in_fvd_img = !header.all_data_in_fvd_img,
                _ => header.unit_of_prefetch_profile_entry_len = 0,
            }
        }
        let file_len = file_len.unwrap_or(header.metadata_size);
        if let Ok(geometry) = Geometry::from_header(&header, file_len) {
            assert_sound(&geometry, file_len);
        }
    }
}
