//! From a request to the header and layout of a new image.
//!
//! The regions follow each other without gaps: header, bitmap, table, journal, profile; each is
//! appended at what `metadata_size` is so far. The layout comes from the finished header by the
//! same checks that a reader makes, so nothing is created that cannot be opened.
//! Source: FORMAT.md, "Creation rules".

use super::bitmap::bitmap_len;
use super::error::FormatError;
use super::geometry::Geometry;
use super::header::{Header, check_new_name};
use super::journal::MAX_ENTRIES_MIXED;
use super::layout::{check_max, check_min};
use super::limits::{MAX_CHUNK_SIZE, MAX_JOURNAL_SIZE, MAX_PROFILE_SIZE, MAX_VIRTUAL_SIZE};
use super::options::{CreateOptions, JournalSize, MAX_BLOCK};
use super::table::table_len;
use super::units::{PAGE, SECTOR, round_up};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A bitmap by the default block size has at most this many bits: 4 MiB.
const DEFAULT_BLOCKS: u64 = 8 * 4 * MIB;
const DEFAULT_CHUNK_SIZE: u64 = MIB;
const DEFAULT_GROW_UNIT: u64 = 100 * MIB;
const DEFAULT_JOURNAL_SIZE: u64 = 16 * MIB;
const DEFAULT_PROFILE_SIZE: u64 = 64 * KIB;

/// The header and the layout of the image that `options` ask for. `base_size` is the size of the
/// base image in bytes, which is to be given if and only if the options name one.
///
/// # Errors
/// Options that do not go together, that need more than the [`limits`](super::limits) allow, or
/// that a header cannot hold.
pub fn plan(
    options: &CreateOptions,
    base_size: Option<u64>,
) -> Result<(Header, Geometry), FormatError> {
    let base = match (&options.backing_file, base_size) {
        (Some(name), Some(size)) => Some((name.as_str(), size)),
        (Some(_), None) => {
            return Err(refused("backing_file", "the size of the base is not known"));
        }
        (None, _) => None,
    };
    let size = options.size.or(base.map(|(_, size)| size));
    let size = size.ok_or(refused(
        "size",
        "must be given where there is no base image",
    ))?;
    check_max("size", size, MAX_VIRTUAL_SIZE, "a limit of this library")?;
    let mut header = Header {
        all_data_in_fvd_img: true,
        virtual_disk_size: round_up(size, SECTOR),
        metadata_size: Header::LEN as u64,
        data_file: options.data_file.clone(),
        data_file_fmt: options.data_file_fmt.clone(),
        clean_shutdown: true,
        ..Header::default()
    };
    if options.sparse_region(SECTOR).is_some() && (base.is_none() || options.compact_image) {
        let problem = "is only for images with a base image that are not compact";
        return Err(refused("detect_sparse_hole", problem));
    }
    if let Some((name, size)) = base {
        add_base(&mut header, options, name, size)?;
    }
    if options.compact_image {
        add_table(&mut header, options)?;
    }
    add_journal(&mut header, options.journal_size)?;
    if base.is_some() {
        add_profile(&mut header, options)?;
    }
    check_new_name("base_img", &header.base_img)?;
    check_new_name("data_file", &header.data_file)?;
    header.encode()?; // the other texts fit too
    let geometry = Geometry::from_header(&header, header.metadata_size)?;
    Ok((header, geometry))
}

fn add_base(
    header: &mut Header,
    options: &CreateOptions,
    name: &str,
    size: u64,
) -> Result<(), FormatError> {
    let base_img_size = round_up(size.min(header.virtual_disk_size), SECTOR);
    let block_size = options
        .block_size
        .unwrap_or_else(|| default_block_size(base_img_size));
    check_min("block_size", block_size, 1, "a block is not empty")?;
    check_max("block_size", block_size, MAX_BLOCK, "the field has 32 bits")?;
    let block_size = round_up(block_size, SECTOR);
    header.all_data_in_fvd_img = false;
    header.base_img = name.to_owned();
    header.base_img_fmt = options.backing_fmt.clone();
    header.base_img_size = base_img_size;
    header.block_size = field(block_size);
    header.bitmap_size = bitmap_len(base_img_size.div_ceil(block_size));
    header.bitmap_offset = append(header, header.bitmap_size);
    header.need_zero_init = options.sparse_region(block_size).is_some();
    header.copy_on_read = options.copy_on_read;
    header.max_outstanding_copy_on_read_data = 2_000_000;
    header.prefetch_start_delay = options.prefetch_start_delay.unwrap_or(-1);
    header.num_prefetch_slots = 2;
    header.bytes_per_prefetch = field(round_up(MIB, block_size));
    header.prefetch_read_throughput_measure_time = 100;
    header.prefetch_write_throughput_measure_time = 100;
    header.prefetch_perf_calc_alpha = 80;
    header.prefetch_min_read_throughput = 5120;
    header.prefetch_min_write_throughput = 5120;
    header.prefetch_max_read_throughput = 1_000_000_000;
    header.prefetch_max_write_throughput = 1_000_000_000;
    header.prefetch_throttle_time = 30_000;
    header.unit_of_prefetch_profile_entry_len = field(PAGE);
    header.profile_directed_prefetch_start_delay = -1;
    Ok(())
}

/// Doubled from a sector until the bitmap is small enough; for absurd sizes larger than the field.
fn default_block_size(base_size: u64) -> u64 {
    let mut block_size = SECTOR;
    while base_size.div_ceil(block_size) > DEFAULT_BLOCKS {
        block_size *= 2;
    }
    block_size
}

fn add_table(header: &mut Header, options: &CreateOptions) -> Result<(), FormatError> {
    let chunk_size = options.chunk_size.unwrap_or(DEFAULT_CHUNK_SIZE);
    check_min("chunk_size", chunk_size, 1, "a chunk is not empty")?;
    check_max(
        "chunk_size",
        chunk_size,
        MAX_CHUNK_SIZE,
        "a limit of this library",
    )?;
    header.compact_image = true;
    header.chunk_size = round_up(chunk_size, PAGE);
    let grow_unit = options.storage_grow_unit.unwrap_or(DEFAULT_GROW_UNIT);
    header.storage_grow_unit = grow_unit.max(header.chunk_size);
    header.add_storage_cmd = options.add_storage_cmd.clone();
    let entries = header.virtual_disk_size.div_ceil(header.chunk_size);
    header.table_offset = append(header, table_len(entries));
    Ok(())
}

/// After bitmap and table, whose sizes decide whether there is a journal and how small it may be.
fn add_journal(header: &mut Header, wanted: JournalSize) -> Result<(), FormatError> {
    let wanted = match wanted {
        JournalSize::Disabled => return Ok(()),
        JournalSize::Default | JournalSize::Bytes(0) => DEFAULT_JOURNAL_SIZE,
        JournalSize::Bytes(bytes) => bytes,
    };
    if header.bitmap_size == 0 && !header.compact_image {
        return Ok(());
    }
    let entries = match header.chunk_size {
        0 => 0,
        chunk_size => header.virtual_disk_size.div_ceil(chunk_size),
    };
    let least = SECTOR * entries.div_ceil(MAX_ENTRIES_MIXED as u64);
    check_max(
        "journal_size",
        wanted.max(least),
        MAX_JOURNAL_SIZE,
        "a recovery reads all of it",
    )?;
    header.journal_size = round_up(wanted.max(least), PAGE);
    header.journal_offset = append(header, header.journal_size);
    Ok(())
}

fn add_profile(header: &mut Header, options: &CreateOptions) -> Result<(), FormatError> {
    header.generate_prefetch_profile = options.generate_prefetch_profile;
    let default = if options.generate_prefetch_profile {
        DEFAULT_PROFILE_SIZE
    } else {
        0
    };
    let size = options.prefetch_profile_size.unwrap_or(default);
    check_max(
        "prefetch_profile_size",
        size,
        MAX_PROFILE_SIZE,
        "it is held in memory",
    )?;
    if size > 0 {
        header.prefetch_profile_offset = append(header, round_up(size, PAGE));
    }
    Ok(())
}

/// Puts a region of `len` bytes behind what there is, and tells where.
fn append(header: &mut Header, len: u64) -> u64 {
    let offset = header.metadata_size;
    header.metadata_size += len;
    offset
}

/// A number that was made to fit its 32 bits above.
fn field(value: u64) -> u32 {
    u32::try_from(value).expect("block sizes were checked against their field")
}

fn refused(name: &'static str, problem: &'static str) -> FormatError {
    FormatError::Refused { name, problem }
}

#[cfg(test)]
mod tests;
