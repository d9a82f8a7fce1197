//! Sectors that were built, sectors of the first implementation, and sectors of an enemy.

use super::super::create::plan;
use super::super::options::CreateOptions;
use super::*;
use proptest::prelude::*;

/// A sector that begins with these words.
fn sector(words: &[u32]) -> [u8; 512] {
    let mut sector = [0; 512];
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    for (place, byte) in sector.iter_mut().zip(bytes) {
        *place = byte;
    }
    sector
}

fn read(sector: &[u8; 512]) -> Vec<Result<Record, Warning>> {
    records(sector).collect()
}

fn table(first_entry: u32, entries: &[u32]) -> Result<Record, Warning> {
    Ok(Record::Table {
        first_entry,
        entries: entries.to_vec(),
    })
}

fn bitmap(first_sector: u64, sectors: u32) -> Result<Record, Warning> {
    Ok(Record::Bitmap {
        first_sector,
        sectors,
    })
}

#[test]
fn a_mixed_sector_byte_by_byte() {
    let mut builder = SectorBuilder::new();
    assert!(builder.is_empty());
    assert!(builder.push_table(7, &[0x8000_0001]));
    assert!(builder.push_bitmap(0x1_0000_0002, 3));
    assert!(!builder.is_empty());
    let words = [0xB4E6_F7AC, 7, 1, 0x8000_0001, 0x3F2A_B8ED, 3, 2, 1];
    assert_eq!(builder.clone().finish(), sector(&words));
    assert_eq!(
        read(&builder.finish()),
        [table(7, &[0x8000_0001]), bitmap(0x1_0000_0002, 3)]
    );
}

#[test]
fn a_full_sector_needs_no_end() {
    let entries: Vec<u32> = (0..125).collect();
    let mut builder = SectorBuilder::new();
    assert_eq!(builder.room(false), MAX_ENTRIES_TABLE_ONLY);
    assert!(!builder.push_table(0, &[0; 126]), "one too many");
    assert!(builder.push_table(0, &entries));
    assert!(!builder.push_bitmap(0, 1) && !builder.push_table(0, &[]));
    assert_eq!(read(&builder.finish()), [table(0, &entries)]);

    let mut builder = SectorBuilder::new();
    assert_eq!(builder.room(true), MAX_ENTRIES_MIXED);
    assert!(builder.push_table(0, &entries[..121]) && builder.push_bitmap(5, 6));
    assert_eq!(
        read(&builder.finish()),
        [table(0, &entries[..121]), bitmap(5, 6)]
    );
}

#[test]
fn the_limits_are_those_of_the_specification() {
    assert_eq!((MAX_ENTRIES_TABLE_ONLY, MAX_ENTRIES_MIXED), (125, 121));
}

#[test]
fn several_table_updates_share_a_sector_until_it_is_full() {
    let mut builder = SectorBuilder::new();
    for index in 0..31 {
        assert!(builder.push_table(index * 10, &[index])); // 16 bytes each
    }
    assert_eq!((builder.room(true), builder.room(false)), (0, 1));
    assert!(builder.clone().push_table(310, &[31]) && builder.push_bitmap(1, 2));
    assert_eq!(builder.room(false), 0);
    let sector = builder.finish();
    let read = read(&sector);
    assert_eq!(read.len(), 32);
    assert_eq!((&read[30], &read[31]), (&table(300, &[30]), &bitmap(1, 2)));
}

#[test]
fn a_bitmap_update_is_the_last_of_its_sector() {
    let mut builder = SectorBuilder::default();
    assert!(builder.push_bitmap(1, 2));
    assert_eq!(builder.room(false), 0);
    assert!(!builder.push_table(0, &[]) && !builder.push_bitmap(3, 4));
    assert_eq!(read(&builder.finish()), [bitmap(1, 2)]);
}

#[test]
fn a_reader_reads_on_behind_a_bitmap_update() {
    let words = [0x3F2A_B8ED, 8, 40, 0, 0xB4E6_F7AC, 9, 1, 77];
    assert_eq!(read(&sector(&words)), [bitmap(40, 8), table(9, &[77])]);
}

#[test]
fn a_zero_ends_the_sector_and_what_follows_is_garbage() {
    assert!(read(&[0; 512]).is_empty());
    let words = [0xB4E6_F7AC, 9, 1, 77, 0, 0xDEAD_BEEF, 0x3F2A_B8ED, 1, 1, 1];
    assert_eq!(read(&sector(&words)), [table(9, &[77])]);
}

#[test]
fn an_unknown_type_ends_the_sector_with_a_warning() {
    let words = [0xB4E6_F7AC, 9, 0, 0xDEAD_BEEF, 0x3F2A_B8ED, 1, 1, 0];
    let warning = Err(Warning::UnknownType {
        at: 12,
        kind: 0xDEAD_BEEF,
    });
    assert_eq!(read(&sector(&words)), [table(9, &[]), warning]);
}

#[test]
fn a_record_past_the_end_ends_the_sector_with_a_warning() {
    for count in [126, 0x8000_0000, u32::MAX] {
        let warning = Err(Warning::PastSectorEnd { at: 0 });
        assert_eq!(read(&sector(&[0xB4E6_F7AC, 0, count])), [warning]);
    }
    // the head alone does not fit
    for (kind, at) in [(0x3F2A_B8EDu32, 500), (0xB4E6_F7AC, 504)] {
        let mut bytes = sector(&[0xB4E6_F7AC, 0, u32::try_from(at / 4 - 3).unwrap()]);
        bytes[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        assert_eq!(read(&bytes)[1..], [Err(Warning::PastSectorEnd { at })]);
    }
}

/// 2000 blocks of 1024 bytes, but for the last one half of them; 32 chunks.
fn geometry() -> Geometry {
    let text = "size=2047488,compact_image=on,chunk_size=64K,block_size=1K,backing_file=b";
    plan(&CreateOptions::parse(text).unwrap(), Some(2_047_488))
        .unwrap()
        .1
}

#[test]
fn a_bitmap_update_means_the_blocks_it_touches() {
    let geometry = geometry();
    let change = |first_sector, sectors| match (Record::Bitmap {
        first_sector,
        sectors,
    })
    .change(&geometry)
    {
        Ok(Change::Present(blocks)) => Ok(blocks),
        Ok(other) => panic!("{other:?}"),
        Err(warning) => Err(warning),
    };
    assert_eq!(change(1, 2), Ok(0..2));
    assert_eq!(change(3998, 1), Ok(1999..2000));
    assert_eq!(
        change(3998, 2),
        Ok(1999..2000),
        "widened to a whole block, beyond the disk"
    );
    assert!(change(10, 0).unwrap().is_empty());
    for (first_sector, sectors) in [(3998, 3), (4001, 0), (0, u32::MAX), (u64::MAX, 2)] {
        let warning = Warning::SectorsOutOfRange {
            first_sector,
            sectors,
        };
        assert_eq!(change(first_sector, sectors), Err(warning));
    }
}

#[test]
fn a_bitmap_update_means_nothing_once_the_bitmap_is_not_in_force() {
    let geometry = Geometry {
        blocks: None,
        ..geometry()
    };
    let record = Record::Bitmap {
        first_sector: 1,
        sectors: 2,
    };
    assert_eq!(record.change(&geometry), Ok(Change::Present(0..0)));
}

#[test]
fn a_table_update_stays_within_the_table() {
    let geometry = geometry();
    let record = |first_entry| Record::Table {
        first_entry,
        entries: vec![5, u32::MAX],
    };
    let raw = &[5, u32::MAX][..];
    assert_eq!(
        record(30).change(&geometry),
        Ok(Change::Entries { first: 30, raw })
    );
    for first_entry in [31, u32::MAX] {
        let warning = Warning::EntriesOutOfRange {
            first_entry,
            count: 2,
        };
        assert_eq!(record(first_entry).change(&geometry), Err(warning));
    }
    let flat = Geometry {
        chunks: None,
        ..geometry
    };
    assert!(record(0).change(&flat).is_err());
}

proptest! {
    #[test]
    fn sectors_round_trip(
        updates in prop::collection::vec(
            (any::<u32>(), prop::collection::vec(any::<u32>(), 0..60)), 0..6),
        last in prop::option::of((any::<u64>(), any::<u32>())),
    ) {
        let (mut builder, mut wanted) = (SectorBuilder::new(), Vec::new());
        for (first, entries) in &updates {
            let fits = !builder.clone().push_table(0, &[]) || entries.len() > builder.room(false);
            prop_assert_eq!(builder.push_table(*first, entries), !fits);
            if !fits {
                wanted.push(table(*first, entries));
            }
        }
        if let Some((first, sectors)) = last.filter(|&(first, n)| builder.push_bitmap(first, n)) {
            wanted.push(bitmap(first, sectors));
        }
        prop_assert_eq!(read(&builder.finish()), wanted);
    }

    #[test]
    fn hostile_sectors_end_and_their_changes_stay_in_range(
        start in prop::collection::vec(
            prop_oneof![Just(BITMAP_TYPE), Just(TABLE_TYPE), 0u32..200, any::<u32>()], 0..128),
    ) {
        let (geometry, bytes) = (geometry(), sector(&start));
        for record in records(&bytes).take(1000).filter_map(Result::ok) {
            match record.change(&geometry) {
                Ok(Change::Present(blocks)) => prop_assert!(blocks.end <= 2000),
                Ok(Change::Entries { first, raw }) => {
                    prop_assert!(first as usize + raw.len() <= 32);
                }
                Err(_) => {}
            }
        }
        prop_assert!(records(&bytes).count() <= 43, "no record is shorter than 12 bytes");
    }
}
