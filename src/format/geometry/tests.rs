//! Blocks and chunks of sizes that are no powers of two, with a last one that is cut off.

use super::*;
use proptest::prelude::*;

fn blocks(block_size: u64, base_size: u64) -> Blocks {
    let bitmap = Region {
        start: MetaOffset::new(8192),
        len: 4096,
    };
    Blocks {
        block_size,
        base_size,
        count: base_size.div_ceil(block_size),
        bitmap,
    }
}

fn chunks(chunk_size: u64, room: u64) -> Chunks {
    let table = Region {
        start: MetaOffset::new(8192),
        len: room,
    };
    Chunks {
        chunk_size,
        entries: 2,
        table,
        grow_unit: chunk_size,
    }
}

fn geometry(chunks: Option<Chunks>) -> Geometry {
    Geometry {
        virtual_size: 512,
        metadata_size: 12_288,
        separate_data: false,
        blocks: None,
        chunks,
        journal: None,
        profile: None,
    }
}

#[test]
fn blocks_end_where_the_base_ends() {
    let blocks = blocks(7680, 20_480);
    assert_eq!(blocks.count, 3);
    assert_eq!(blocks.span(0), 0..7680);
    assert_eq!(blocks.span(2), 15_360..20_480);
    assert_eq!(blocks.index_range(0, 1), 0..1);
    assert_eq!(blocks.index_range(7679, 7681), 0..2);
    assert_eq!(blocks.index_range(7680, u64::MAX), 1..3);
    assert!(blocks.index_range(20_480, 30_000).is_empty());
    assert!(blocks.index_range(512, 512).is_empty());
}

#[test]
fn chunks_end_where_the_disk_ends() {
    let chunks = chunks(40_960, 4096);
    assert_eq!(chunks.span(1, 50_000), 40_960..50_000);
    assert_eq!(chunks.index_range(40_959, 40_961), 0..2);
    assert!(chunks.index_range(9, 9).is_empty());
}

#[test]
fn a_chunk_lies_behind_the_start_of_the_data() {
    let chunks = chunks(40_960, 4096);
    let start = DataOffset::new(8192);
    assert_eq!(chunks.offset_of(0, start), Some(start));
    assert_eq!(chunks.offset_of(3, start), Some(start + 3 * 40_960));
    assert_eq!(
        chunks.offset_of(MAX_NUMBER + 1, start),
        None,
        "no chunk number"
    );
}

#[test]
fn a_chunk_that_no_file_can_hold_has_no_place() {
    let chunks = chunks(limits::MAX_CHUNK_SIZE, 4096);
    assert!(chunks.offset_of(6, DataOffset::new(1 << 59)).is_some());
    assert_eq!(
        chunks.offset_of(7, DataOffset::new(0)),
        None,
        "ends at 2^63"
    );
    assert_eq!(
        chunks.offset_of(MAX_NUMBER, DataOffset::new(0)),
        None,
        "wraps"
    );
}

#[test]
fn the_data_start_behind_the_metadata_or_in_their_own_file() {
    let mut geometry = geometry(None);
    assert_eq!(geometry.data_start(), DataOffset::new(12_288));
    geometry.separate_data = true;
    assert_eq!(geometry.data_start(), DataOffset::new(0));
}

#[test]
fn a_disk_grows_as_far_as_the_room_of_its_table() {
    assert_eq!(geometry(None).max_virtual_size(), 1 << 60);
    let size = |chunk_size, room| geometry(Some(chunks(chunk_size, room))).max_virtual_size();
    assert_eq!(size(4096, 4096), 4096 * 1024);
    assert_eq!(size(4096, 8191), 4096 * 1024, "a table is whole pages");
    assert_eq!(size(4096, 1 << 50), 1 << 40, "a table has at most 1 GiB");
    assert_eq!(size(1 << 59, 1 << 30), 1 << 60);

    let mut with_bitmap = geometry(Some(chunks(4096, 1 << 50)));
    with_bitmap.blocks = Some(blocks(512, 512));
    assert_eq!(with_bitmap.max_virtual_size(), (1 << 40) - 4096 * 1024);
}

proptest! {
    #[test]
    fn a_range_touches_exactly_the_blocks_that_share_bytes_with_it(
        block_size in 1u64..9, base_size in 1u64..50, from in 0u64..60, len in 0u64..60
    ) {
        let blocks = blocks(block_size, base_size);
        let touched = blocks.index_range(from, from + len);
        for block in 0..blocks.count {
            let span = blocks.span(block);
            let shares = from.max(span.start) < (from + len).min(span.end);
            prop_assert_eq!(touched.contains(&block), shares);
        }
        prop_assert!(touched.is_empty() || touched.end <= blocks.count);
    }
}
