//! Entries, and the check of a whole table.

use super::super::geometry::Region;
use super::super::units::MetaOffset;
use super::*;
use proptest::prelude::*;

const START: DataOffset = DataOffset::new(1 << 20);

fn chunks(chunk_size: u64) -> Chunks {
    let table = Region {
        start: MetaOffset::new(8192),
        len: 4096,
    };
    Chunks {
        chunk_size,
        entries: 1024,
        table,
        grow_unit: chunk_size,
    }
}

fn check(numbers: &[Option<u32>], chunk_size: u64) -> Result<(), FormatError> {
    check_entries(numbers.iter().copied(), &chunks(chunk_size), START)
}

#[test]
fn the_dirty_bit_is_masked_and_all_ones_is_no_number() {
    assert_eq!(Entry::from_raw(5).number(), Some(5));
    assert_eq!(Entry::from_raw(0x8000_0005).number(), Some(5));
    assert_eq!(Entry::from_raw(0x8000_0000).number(), Some(0));
    assert_eq!(Entry::from_raw(MAX_NUMBER).number(), Some(0x7FFF_FFFE));
    assert_eq!(Entry::from_raw(0x7FFF_FFFF).number(), None);
    assert_eq!(Entry::UNALLOCATED.number(), None);
    assert_eq!(Entry::from_number(7).raw(), 7);
}

#[test]
#[should_panic(expected = "31 bits")]
fn all_ones_is_never_given_out() {
    let _ = Entry::from_number(0x7FFF_FFFF);
}

#[test]
fn a_table_is_whole_pages() {
    assert_eq!(table_len(0), 0);
    assert_eq!(table_len(1024), 4096);
    assert_eq!(table_len(1025), 8192);
}

#[test]
fn numbers_in_any_order_are_fine() {
    assert_eq!(check(&[], 4096), Ok(()));
    assert_eq!(check(&[None, None], 4096), Ok(()));
    assert_eq!(
        check(&[Some(64), None, Some(0), Some(MAX_NUMBER), Some(63)], 4096),
        Ok(())
    );
}

#[test]
fn two_entries_with_one_number_are_both_named() {
    let error = check(
        &[Some(3), None, Some(70), Some(4), Some(70), Some(70)],
        4096,
    )
    .unwrap_err();
    assert_eq!(
        error,
        FormatError::SameChunk {
            first: 2,
            second: 4,
            number: 70
        }
    );
    assert_eq!(
        error.to_string(),
        "table entries 2 and 4 both name chunk 70"
    );
}

#[test]
fn a_number_whose_place_overflows_is_refused() {
    assert_eq!(check(&[Some(6)], 1 << 60), Ok(()), "ends just below 2^63");
    let error = check(&[Some(0), Some(7)], 1 << 60).unwrap_err();
    assert_eq!(
        error,
        FormatError::ChunkPlace {
            entry: 1,
            number: 7
        }
    );
    let error = check(&[Some(MAX_NUMBER)], 1 << 60).unwrap_err();
    assert_eq!(
        error,
        FormatError::ChunkPlace {
            entry: 0,
            number: MAX_NUMBER
        }
    );
}

proptest! {
    #[test]
    fn entries_round_trip(raw in prop::collection::vec(any::<u32>(), 0..64)) {
        let mut bytes = vec![0xAA; raw.len() * 4 + 3];
        encode(raw.iter().copied().map(Entry::from_raw), &mut bytes);
        prop_assert_eq!(decode(&bytes).map(Entry::raw).collect::<Vec<_>>(), raw);
    }

    #[test]
    fn the_check_finds_a_pair_where_there_is_one(
        numbers in prop::collection::vec(prop::option::of(0u32..200), 0..40)
    ) {
        let pair = (0..numbers.len()).find_map(|second| {
            let first = numbers[..second].iter().position(|&n| n.is_some() && n == numbers[second]);
            first.map(|first| (first, second))
        });
        let found = match check(&numbers, 4096) {
            Err(FormatError::SameChunk { first, second, .. }) => Some((first, second)),
            _ => None,
        };
        prop_assert_eq!(found, pair);
    }
}
