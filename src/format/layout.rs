//! From a header to a layout that can be trusted, or a refusal that names the field.
//!
//! Two questions are kept apart. *Do the numbers fit together?* Every region that the header
//! speaks of lies within the metadata, behind the header, and none overlaps another; this is asked
//! of regions that are not used too (a bitmap after prefetching has finished), because somebody
//! may write there. *Is it there?* Only what will be read must lie within the file: the first
//! implementation counted journals that it never wrote. Source: FORMAT.md, "Regions" and "What a
//! reader must refuse".

use super::bitmap::bitmap_len;
use super::error::FormatError;
use super::geometry::{Blocks, Chunks, Geometry, Region};
use super::header::Header;
use super::limits;
use super::profile;
use super::table::{self, table_len};
use super::units::{MetaOffset, PAGE, SECTOR};

impl Geometry {
    /// The layout that `header` describes, in a metadata file of `metadata_file_len` bytes.
    ///
    /// # Errors
    /// All that FORMAT.md, "What a reader must refuse", says about numbers of the header; needs
    /// above one of the [`limits`]; a region that must exist, but ends behind the file.
    pub fn from_header(header: &Header, metadata_file_len: u64) -> Result<Self, FormatError> {
        check_sizes(header)?;
        let regions = Regions::of(header)?;
        let find = |field| regions.find(field);
        let (bitmap, journal, profile) = (find(BITMAP), find(JOURNAL), find(PROFILE));
        let blocks = blocks(header, bitmap)?;
        let table = find(TABLE).map(|table| regions.room(table));
        let chunks = table.map(|room| chunks(header, room)).transpose()?;
        check_memory(blocks.as_ref(), chunks.as_ref())?;
        let journal = journal.filter(|_| bitmap.is_some() || chunks.is_some());

        let needed = [
            blocks.and(bitmap),
            chunks.map(|chunks| Placed::used_by(&chunks)),
            journal,
            profile,
        ];
        for region in needed.into_iter().flatten() {
            region.check_within_file(metadata_file_len)?;
        }
        Ok(Self {
            virtual_size: header.virtual_disk_size,
            metadata_size: header.metadata_size,
            separate_data: !header.data_file.is_empty(),
            blocks,
            chunks,
            journal: journal.map(|journal| journal.region()),
            profile: profile.map(|profile| regions.room(profile)),
        })
    }
}

const BITMAP: &str = "bitmap_offset";
const TABLE: &str = "table_offset";
const JOURNAL: &str = "journal_offset";
const PROFILE: &str = "prefetch_profile_offset";

const OFF_T: &str = "offsets in a file have 63 bits";

/// A region as the header places it, named by its offset field.
#[derive(Clone, Copy)]
struct Placed {
    field: &'static str,
    start: u64,
    /// Bytes that it takes for certain; its room may be larger.
    len: u64,
}

impl Placed {
    /// The part of the table's room that is in use.
    fn used_by(chunks: &Chunks) -> Self {
        let (start, len) = (chunks.table.start.get(), table_len(chunks.entries));
        Self {
            field: TABLE,
            start,
            len,
        }
    }

    /// Cannot overflow once the region is known to lie within the metadata.
    fn end(&self) -> u64 {
        self.start + self.len
    }

    fn region(&self) -> Region {
        Region {
            start: MetaOffset::new(self.start),
            len: self.len,
        }
    }

    fn check_within_metadata(&self, metadata: u64) -> Result<(), FormatError> {
        let Self { field, start, len } = *self;
        check_multiple(field, start, SECTOR)?;
        match start.checked_add(len) {
            Some(end) if end <= metadata => Ok(()),
            _ => Err(FormatError::OutsideMetadata {
                field,
                start,
                len,
                metadata,
            }),
        }
    }

    fn check_within_file(&self, file_len: u64) -> Result<(), FormatError> {
        let (field, end) = (self.field, self.end());
        if self.len > 0 && end > file_len {
            return Err(FormatError::OutsideFile {
                field,
                end,
                file_len,
            });
        }
        Ok(())
    }
}

/// All regions behind the header, in the order of their places.
struct Regions {
    placed: Vec<Placed>,
    metadata_size: u64,
}

impl Regions {
    /// The regions that the header speaks of, each within the metadata and overlapping no other.
    /// How much the table takes is not asked here: it has no size of its own in the header, and
    /// [`chunks`] has more to say where its room is too small. A page it takes for certain.
    fn of(header: &Header) -> Result<Self, FormatError> {
        let place =
            |exists: bool, field, start, len| exists.then_some(Placed { field, start, len });
        let profile = header.prefetch_profile_offset;
        let profile_len = if profile == 0 {
            0
        } else {
            profile_len(header)?
        };
        let table = if header.virtual_disk_size > 0 {
            PAGE
        } else {
            0
        };
        let all = [
            place(
                header.bitmap_size > 0,
                BITMAP,
                header.bitmap_offset,
                header.bitmap_size,
            ),
            place(header.compact_image, TABLE, header.table_offset, table),
            place(
                header.journal_size > 0,
                JOURNAL,
                header.journal_offset,
                header.journal_size,
            ),
            place(profile != 0, PROFILE, profile, profile_len),
        ];
        let mut placed: Vec<_> = all.into_iter().flatten().collect();
        for region in &placed {
            region.check_within_metadata(header.metadata_size)?;
        }
        placed.sort_by_key(|region| (region.start, region.len));
        let mut before = Placed {
            field: "the header",
            start: 0,
            len: Header::LEN as u64,
        };
        for &region in &placed {
            let Placed { field, start, .. } = region;
            if start < before.end() {
                let (end, other) = (region.end(), before.field);
                return Err(FormatError::Overlap {
                    field,
                    start,
                    end,
                    other,
                });
            }
            before = region;
        }
        Ok(Self {
            placed,
            metadata_size: header.metadata_size,
        })
    }

    fn find(&self, field: &str) -> Option<Placed> {
        self.placed
            .iter()
            .copied()
            .find(|region| region.field == field)
    }

    /// The region, made as long as there is room: to the next one, or the end of the metadata.
    fn room(&self, region: Placed) -> Region {
        let after = self
            .placed
            .iter()
            .skip_while(|other| other.field != region.field)
            .nth(1);
        let end = after.map_or(self.metadata_size, |next| next.start);
        Placed {
            len: end - region.start,
            ..region
        }
        .region()
    }
}

/// The sizes that every image has.
fn check_sizes(header: &Header) -> Result<(), FormatError> {
    let (disk, metadata) = (header.virtual_disk_size, header.metadata_size);
    check_multiple("virtual_disk_size", disk, SECTOR)?;
    check_max("virtual_disk_size", disk, limits::MAX_VIRTUAL_SIZE, OFF_T)?;
    check_multiple("metadata_size", metadata, SECTOR)?;
    check_min("metadata_size", metadata, Header::LEN as u64, "the header")?;
    check_max("metadata_size", metadata, limits::MAX_METADATA_SIZE, OFF_T)?;
    check_multiple("base_img_size", header.base_img_size, SECTOR)?;
    check_max(
        "base_img_size",
        header.base_img_size,
        disk,
        "the size of the disk",
    )?;
    check_multiple("bitmap_size", header.bitmap_size, PAGE)?;
    check_multiple("journal_size", header.journal_size, PAGE)?;
    let why = "a recovery reads all of it";
    check_max(
        "journal_size",
        header.journal_size,
        limits::MAX_JOURNAL_SIZE,
        why,
    )
}

/// The bitmap, where it is in force; `bitmap` is its place, where it has one.
fn blocks(header: &Header, bitmap: Option<Placed>) -> Result<Option<Blocks>, FormatError> {
    let base_size = header.base_img_size;
    if header.all_data_in_fvd_img || (base_size == 0 && bitmap.is_none()) {
        return Ok(None);
    }
    if header.base_img.is_empty() {
        return Err(FormatError::NoBaseName {
            base_img_size: base_size,
        });
    }
    if base_size == 0 {
        return Ok(None);
    }
    let block_size = u64::from(header.block_size);
    check_min("block_size", block_size, SECTOR, "a sector")?;
    check_multiple("block_size", block_size, SECTOR)?;
    if base_size > limits::MAX_BLOCK_SIZE {
        let why = "a copy-on-write holds a block in memory";
        check_max("block_size", block_size, limits::MAX_BLOCK_SIZE, why)?;
    }
    let count = base_size.div_ceil(block_size);
    let why = "one bit for each block of the base, in whole pages";
    check_min("bitmap_size", header.bitmap_size, bitmap_len(count), why)?;
    let bitmap = bitmap.map(|bitmap| bitmap.region());
    Ok(bitmap.map(|bitmap| Blocks {
        block_size,
        base_size,
        count,
        bitmap,
    }))
}

/// The table of a compact image, which has `room`.
fn chunks(header: &Header, room: Region) -> Result<Chunks, FormatError> {
    let (chunk_size, grow_unit) = (header.chunk_size, header.storage_grow_unit);
    check_min("chunk_size", chunk_size, PAGE, "a page")?;
    check_multiple("chunk_size", chunk_size, PAGE)?;
    check_max("chunk_size", chunk_size, limits::MAX_CHUNK_SIZE, OFF_T)?;
    check_max(
        "storage_grow_unit",
        grow_unit,
        limits::MAX_CHUNK_SIZE,
        OFF_T,
    )?;
    let entries = header.virtual_disk_size.div_ceil(chunk_size);
    let why = "4 bytes for each chunk of virtual_disk_size, in whole pages";
    check_min(
        "the room at table_offset",
        room.len,
        table_len(entries),
        why,
    )?;
    Ok(Chunks {
        chunk_size,
        entries,
        table: room,
        grow_unit: grow_unit.max(chunk_size),
    })
}

/// The bytes of the prefetch profile's valid entries.
fn profile_len(header: &Header) -> Result<u64, FormatError> {
    const ENTRY_LEN: u64 = profile::ENTRY_LEN as u64;
    let entries = header.prefetch_profile_entries;
    let max = limits::MAX_PROFILE_SIZE / ENTRY_LEN;
    check_max(
        "prefetch_profile_entries",
        entries,
        max,
        "the profile is held in memory",
    )?;
    if entries > 0 {
        let unit = header.unit_of_prefetch_profile_entry_len.into();
        check_min(
            "unit_of_PrefetchProfileEntry_len",
            unit,
            1,
            "the profile has entries",
        )?;
    }
    Ok(entries * ENTRY_LEN)
}

/// Bitmap and table are held in memory.
fn check_memory(blocks: Option<&Blocks>, chunks: Option<&Chunks>) -> Result<(), FormatError> {
    let why = "bitmap and table together are held in memory, at most 1 GiB";
    let bitmap = blocks.map_or(0, |blocks| blocks.bitmap.len);
    check_max("bitmap_size", bitmap, limits::MAX_BITMAP_AND_TABLE, why)?;
    let entries = chunks.map_or(0, |chunks| chunks.entries);
    let max = (limits::MAX_BITMAP_AND_TABLE - bitmap) / table::ENTRY_LEN;
    check_max("virtual_disk_size / chunk_size", entries, max, why)
}

/// Refuses a `value` that is not a multiple of `of`.
pub(super) fn check_multiple(field: &'static str, value: u64, of: u64) -> Result<(), FormatError> {
    if !value.is_multiple_of(of) {
        return Err(FormatError::NotMultiple { field, value, of });
    }
    Ok(())
}

/// Refuses a `value` below `min`.
pub(super) fn check_min(
    field: &'static str,
    value: u64,
    min: u64,
    why: &'static str,
) -> Result<(), FormatError> {
    if value < min {
        return Err(FormatError::TooSmall {
            field,
            value,
            min,
            why,
        });
    }
    Ok(())
}

/// Refuses a `value` above `max`.
pub(super) fn check_max(
    field: &'static str,
    value: u64,
    max: u64,
    why: &'static str,
) -> Result<(), FormatError> {
    if value > max {
        return Err(FormatError::TooLarge {
            field,
            value,
            max,
            why,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
