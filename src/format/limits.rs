//! Every limit of the format layer, with its reason.
//!
//! An image is input from a stranger: without limits a header of a few kilobytes could ask for any
//! amount of memory or time, or make sums wrap. The limits are far above what real disks need.

use super::units::SECTOR;
use super::{journal, table};

/// The largest virtual disk, in bytes (1 EiB).
///
/// Offsets become the host's `off_t`, a signed 64-bit number. With disk, metadata, chunk and grow
/// sizes each at most 2^60, the sum of any four of them is at most 2^62 and fits.
pub const MAX_VIRTUAL_SIZE: u64 = 1 << 60;

/// The largest metadata file, in bytes (1 EiB): see [`MAX_VIRTUAL_SIZE`].
pub const MAX_METADATA_SIZE: u64 = 1 << 60;

/// The largest chunk and the largest `storage_grow_unit`, in bytes (1 EiB): see
/// [`MAX_VIRTUAL_SIZE`].
pub const MAX_CHUNK_SIZE: u64 = 1 << 60;

/// The highest byte that a chunk may reach to in the data file: what an `off_t` can name.
pub const MAX_FILE_OFFSET: u64 = i64::MAX as u64;

/// The most bytes of bitmap and table together (1 GiB), because both are held in memory.
///
/// Enough for a 1 TiB disk in chunks of 4 KiB, or 256 TiB in the default chunks of 1 MiB; the
/// default block size keeps a bitmap at 4 MiB.
pub const MAX_BITMAP_AND_TABLE: u64 = 1 << 30;

/// The largest copy-on-write block, in bytes (64 MiB), counted up to the end of the base.
///
/// A write of one sector to a missing block copies the rest of the block through memory.
pub const MAX_BLOCK_SIZE: u64 = 64 << 20;

/// The largest journal, in bytes (4 GiB), because a recovery reads all of it.
///
/// The largest table needs a journal of 1.1 GB (see [`MAX_BITMAP_AND_TABLE`]).
pub const MAX_JOURNAL_SIZE: u64 = 4 << 30;

/// The most bytes of prefetch profile that are used (64 MiB: 5.6 million regions), because it is
/// held in memory. A larger room is not an error, but entries beyond it are.
pub const MAX_PROFILE_SIZE: u64 = 64 << 20;

/// The most memory that one image's prefetching may hold, in bytes (256 MiB), whatever
/// `num_prefetch_slots` and `bytes_per_prefetch` say: fewer slots are used, then smaller steps,
/// though none below a block.
pub const MAX_PREFETCH_MEMORY: u64 = 256 << 20;

/// The most memory that one image's copy-on-read may hold, in bytes (256 MiB), whatever
/// `max_outstanding_copy_on_read_data` says.
pub const MAX_COPY_ON_READ_MEMORY: u64 = 256 << 20;

/// How many images a chain of bases may hold (FORMAT.md, "Names inside the header"): each one is
/// opened, and costs a file and its metadata in memory.
pub const MAX_BASE_DEPTH: usize = 16;

// The limits keep each other's promises: a sum of four fits an offset, and the largest table
// has enough chunk numbers and a journal.
const _: () = {
    let largest = MAX_VIRTUAL_SIZE | MAX_METADATA_SIZE | MAX_CHUNK_SIZE;
    assert!(largest <= MAX_FILE_OFFSET / 4);

    let entries = MAX_BITMAP_AND_TABLE / table::ENTRY_LEN;
    assert!(entries <= table::MAX_NUMBER as u64);
    assert!(entries.div_ceil(journal::MAX_ENTRIES_MIXED as u64) * SECTOR <= MAX_JOURNAL_SIZE);
};
