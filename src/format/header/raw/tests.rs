//! The table of FORMAT.md, "Header", literally: offset, bytes, field.

use super::*;

macro_rules! assert_table {
    ($($offset:literal $bytes:literal $field:ident)*) => {
        let mut end = 0;
        $(
            assert_eq!(memoffset::offset_of!(Raw, $field), $offset, stringify!($field));
            let span = span_of!(Raw, $field);
            assert_eq!(span, $offset..$offset + $bytes, stringify!($field));
            assert_eq!(span.start, end, "a gap before {}", stringify!($field));
            end = span.end;
        )*
        assert_eq!(end, 4336);
    };
}

#[test]
fn each_field_is_where_the_specification_puts_it() {
    assert_table! {
        0       4       magic
        4       4       version
        8       4       all_data_in_fvd_img
        12      8       virtual_disk_size
        20      8       metadata_size
        28      1024    base_img
        1052    16      base_img_fmt
        1068    8       base_img_size
        1076    8       bitmap_offset
        1084    8       bitmap_size
        1092    4       block_size
        1096    4       copy_on_read
        1100    8       max_outstanding_copy_on_read_data
        1108    1024    data_file
        2132    16      data_file_fmt
        2148    4       prefetch_start_delay
        2152    8       prefetch_profile_offset
        2160    8       prefetch_profile_entries
        2168    4       num_prefetch_slots
        2172    4       bytes_per_prefetch
        2176    4       prefetch_read_throughput_measure_time
        2180    4       prefetch_write_throughput_measure_time
        2184    4       prefetch_perf_calc_alpha
        2188    4       prefetch_min_read_throughput
        2192    4       prefetch_min_write_throughput
        2196    4       prefetch_max_read_throughput
        2200    4       prefetch_max_write_throughput
        2204    4       prefetch_throttle_time
        2208    4       compact_image
        2212    8       table_offset
        2220    8       chunk_size
        2228    8       storage_grow_unit
        2236    2048    add_storage_cmd
        4284    8       journal_offset
        4292    8       journal_size
        4300    4       clean_shutdown
        4304    4       need_zero_init
        4308    4       generate_prefetch_profile
        4312    4       unit_of_prefetch_profile_entry_len
        4316    4       profile_directed_prefetch_start_delay
        4320    16      write_updates_base_img
    }
}

#[test]
fn a_field_that_changes_alone_lies_in_one_sector_unless_it_is_a_name() {
    for (field, bytes) in [
        (Field::Magic, 0..4),
        (Field::AllDataInFvdImg, 8..12),
        (Field::VirtualDiskSize, 12..20),
        (Field::BaseImg, 28..1052),
        (Field::DataFile, 1108..2132),
        (Field::PrefetchProfileEntries, 2160..2168),
        (Field::CleanShutdown, 4300..4304),
    ] {
        assert_eq!(span(field), bytes, "{field:?}");
        let name = matches!(field, Field::BaseImg | Field::DataFile);
        assert_eq!(super::super::sectors(field).len() == 1, !name, "{field:?}");
    }
}
