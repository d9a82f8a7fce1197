//! What can be changed on an image that exists.
//!
//! An [`Attribute`] is one "name=value". Most only change a field of the header, which
//! [`Attribute::apply`] does. What some need besides is the engine's: `size` makes zeros visible
//! and must fit the table's room ([`Geometry::max_virtual_size`]), the two names are written
//! sector by sector, and `clean_shutdown` makes the journal be replayed first.
//! Source: FORMAT.md, "Update attributes".
//!
//! [`Geometry::max_virtual_size`]: super::Geometry::max_virtual_size

use super::argument::Argument;
use super::error::FormatError;
use super::header::{Header, WriteUpdatesBase, check_new_name};
use super::layout::check_min;
use super::limits::MAX_VIRTUAL_SIZE;
use super::options::{OptionInfo, OptionKind};
use super::units::{SECTOR, round_up};

/// One change. Each is named after its attribute, and documented in [`UPDATE_ATTRIBUTES`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attribute {
    /// `size`, in bytes, before it is rounded up to a sector.
    Size(u64),
    /// `base_img`.
    BaseImg(String),
    /// `data_file`.
    DataFile(String),
    /// `need_zero_init`.
    NeedZeroInit(bool),
    /// `copy_on_read`.
    CopyOnRead(bool),
    /// `clean_shutdown`.
    CleanShutdown(bool),
    /// `max_outstanding_copy_on_read_data`, in bytes.
    MaxOutstandingCopyOnReadData(u64),
    /// `prefetch_start_delay`, in seconds.
    PrefetchStartDelay(i32),
    /// `max_num_outstanding_prefetch_writes`: the header's `num_prefetch_slots`.
    NumPrefetchSlots(u32),
    /// `bytes_per_prefetch`.
    BytesPerPrefetch(u32),
    /// `prefetch_min_read_throughput_threshold`, in KiB/s.
    PrefetchMinReadThroughput(u32),
    /// `prefetch_min_write_throughput_threshold`, in KiB/s.
    PrefetchMinWriteThroughput(u32),
    /// `prefetch_max_read_throughput_threshold`, in KiB/s.
    PrefetchMaxReadThroughput(u32),
    /// `prefetch_max_write_throughput_threshold`, in KiB/s.
    PrefetchMaxWriteThroughput(u32),
    /// `prefetch_perf_calc_alpha`, in percent.
    PrefetchPerfCalcAlpha(u32),
    /// `prefetch_read_throughput_measure_time`, in ms.
    PrefetchReadThroughputMeasureTime(u32),
    /// `prefetch_write_throughput_measure_time`, in ms.
    PrefetchWriteThroughputMeasureTime(u32),
    /// `prefetch_over_threshold_throttle_time`, in ms: the header's `prefetch_throttle_time`.
    PrefetchThrottleTime(u32),
    /// `generate_prefetch_profile`.
    GeneratePrefetchProfile(bool),
    /// `profile_directed_prefetch_start_delay`, in seconds.
    ProfileDirectedPrefetchStartDelay(i32),
    /// `write_updates_base_img`.
    WriteUpdatesBaseImg(WriteUpdatesBase),
}

impl Attribute {
    /// Reads "name=value" (a comma is part of the value).
    ///
    /// # Errors
    /// A name that is not in [`UPDATE_ATTRIBUTES`], or a value that it does not take; the message
    /// lists what is allowed.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let value = Argument::parse(text, UPDATE_ATTRIBUTES)?;
        Ok(match value.name {
            "size" => Self::Size(value.size()?),
            "base_img" => Self::BaseImg(value.text()),
            "data_file" => Self::DataFile(value.text()),
            "need_zero_init" => Self::NeedZeroInit(value.bool()?),
            "copy_on_read" => Self::CopyOnRead(value.bool()?),
            "clean_shutdown" => Self::CleanShutdown(value.bool()?),
            "max_outstanding_copy_on_read_data" => {
                Self::MaxOutstandingCopyOnReadData(value.size()?)
            }
            "prefetch_start_delay" => Self::PrefetchStartDelay(value.integer()?),
            "max_num_outstanding_prefetch_writes" => Self::NumPrefetchSlots(value.integer()?),
            "bytes_per_prefetch" => Self::BytesPerPrefetch(value.size()?),
            "prefetch_min_read_throughput_threshold" => {
                Self::PrefetchMinReadThroughput(value.integer()?)
            }
            "prefetch_min_write_throughput_threshold" => {
                Self::PrefetchMinWriteThroughput(value.integer()?)
            }
            "prefetch_max_read_throughput_threshold" => {
                Self::PrefetchMaxReadThroughput(value.integer()?)
            }
            "prefetch_max_write_throughput_threshold" => {
                Self::PrefetchMaxWriteThroughput(value.integer()?)
            }
            "prefetch_perf_calc_alpha" => Self::PrefetchPerfCalcAlpha(value.integer()?),
            "prefetch_read_throughput_measure_time" => {
                Self::PrefetchReadThroughputMeasureTime(value.integer()?)
            }
            "prefetch_write_throughput_measure_time" => {
                Self::PrefetchWriteThroughputMeasureTime(value.integer()?)
            }
            "prefetch_over_threshold_throttle_time" => Self::PrefetchThrottleTime(value.integer()?),
            "generate_prefetch_profile" => Self::GeneratePrefetchProfile(value.bool()?),
            "profile_directed_prefetch_start_delay" => {
                Self::ProfileDirectedPrefetchStartDelay(value.integer()?)
            }
            "write_updates_base_img" => Self::WriteUpdatesBaseImg(value.write_updates_base()?),
            name => unreachable!("{name} is listed, but nobody reads it"),
        })
    }

    /// Changes the field of `header`. Whether `size` fits the table's room is not looked at.
    ///
    /// # Errors
    /// A `size` below the present one; no base name where the base is needed; a name that the
    /// header cannot hold. The header is then unchanged.
    pub fn apply(&self, header: &mut Header) -> Result<(), FormatError> {
        match self {
            Self::Size(size) => {
                check_min("size", *size, header.virtual_disk_size, "a disk only grows")?;
                header.virtual_disk_size = round_up(*size, SECTOR);
            }
            Self::BaseImg(name) => {
                if name.is_empty() && !header.all_data_in_fvd_img && header.base_img_size > 0 {
                    let problem = "must not be empty: the image still needs its base";
                    return Err(FormatError::Refused {
                        name: "base_img",
                        problem,
                    });
                }
                check_new_name("base_img", name)?;
                header.base_img.clone_from(name);
            }
            Self::DataFile(name) => {
                check_new_name("data_file", name)?;
                header.data_file.clone_from(name);
            }
            Self::NeedZeroInit(on) => header.need_zero_init = *on,
            Self::CopyOnRead(on) => header.copy_on_read = *on,
            Self::CleanShutdown(on) => header.clean_shutdown = *on,
            Self::MaxOutstandingCopyOnReadData(bytes) => {
                header.max_outstanding_copy_on_read_data = *bytes;
            }
            Self::PrefetchStartDelay(seconds) => header.prefetch_start_delay = *seconds,
            Self::NumPrefetchSlots(count) => header.num_prefetch_slots = *count,
            Self::BytesPerPrefetch(bytes) => header.bytes_per_prefetch = *bytes,
            Self::PrefetchMinReadThroughput(kib) => header.prefetch_min_read_throughput = *kib,
            Self::PrefetchMinWriteThroughput(kib) => header.prefetch_min_write_throughput = *kib,
            Self::PrefetchMaxReadThroughput(kib) => header.prefetch_max_read_throughput = *kib,
            Self::PrefetchMaxWriteThroughput(kib) => header.prefetch_max_write_throughput = *kib,
            Self::PrefetchPerfCalcAlpha(percent) => header.prefetch_perf_calc_alpha = *percent,
            Self::PrefetchReadThroughputMeasureTime(ms) => {
                header.prefetch_read_throughput_measure_time = *ms;
            }
            Self::PrefetchWriteThroughputMeasureTime(ms) => {
                header.prefetch_write_throughput_measure_time = *ms;
            }
            Self::PrefetchThrottleTime(ms) => header.prefetch_throttle_time = *ms,
            Self::GeneratePrefetchProfile(on) => header.generate_prefetch_profile = *on,
            Self::ProfileDirectedPrefetchStartDelay(seconds) => {
                header.profile_directed_prefetch_start_delay = *seconds;
            }
            Self::WriteUpdatesBaseImg(mode) => header.write_updates_base_img = *mode,
        }
        Ok(())
    }
}

/// What [`Attribute::parse`] takes.
pub const UPDATE_ATTRIBUTES: &[OptionInfo] = &[
    row(
        "size",
        SIZE,
        "grow the disk to this size; what becomes visible is zero",
    ),
    row("base_img", OptionKind::Text, "name of the base image"),
    row("data_file", OptionKind::Text, "name of the data file"),
    row(
        "need_zero_init",
        OptionKind::Bool,
        "the storage must read zeros where not written",
    ),
    row(
        "copy_on_read",
        OptionKind::Bool,
        "store what the guest reads from the base",
    ),
    row(
        "clean_shutdown",
        OptionKind::Bool,
        "take bitmap and table as complete",
    ),
    row(
        "max_outstanding_copy_on_read_data",
        BYTES,
        "bytes read but not stored yet, at most",
    ),
    row(
        "prefetch_start_delay",
        SECONDS,
        "seconds until prefetching starts; 0, -1: never",
    ),
    row(
        "max_num_outstanding_prefetch_writes",
        COUNT,
        "steps of prefetching at once",
    ),
    row(
        "bytes_per_prefetch",
        STEP,
        "bytes of one step of prefetching",
    ),
    row(
        "prefetch_min_read_throughput_threshold",
        RATE,
        "below it reading pauses, in KiB/s",
    ),
    row(
        "prefetch_min_write_throughput_threshold",
        RATE,
        "below it writing pauses, in KiB/s",
    ),
    row(
        "prefetch_max_read_throughput_threshold",
        COUNT,
        "reading is never faster, in KiB/s",
    ),
    row(
        "prefetch_max_write_throughput_threshold",
        COUNT,
        "writing is never faster, in KiB/s",
    ),
    row(
        "prefetch_perf_calc_alpha",
        PERCENT,
        "weight of the past in the average, in percent",
    ),
    row(
        "prefetch_read_throughput_measure_time",
        COUNT,
        "ms over which reading is measured",
    ),
    row(
        "prefetch_write_throughput_measure_time",
        COUNT,
        "ms over which writing is measured",
    ),
    row(
        "prefetch_over_threshold_throttle_time",
        RATE,
        "the longest pause, in ms",
    ),
    row(
        "generate_prefetch_profile",
        OptionKind::Bool,
        "record a prefetch profile",
    ),
    row(
        "profile_directed_prefetch_start_delay",
        SECONDS,
        "seconds until it is used; -1: never",
    ),
    row(
        "write_updates_base_img",
        MODE,
        "whether writes go to the base image too",
    ),
];

const SIZE: OptionKind = OptionKind::Size {
    min: 0,
    max: MAX_VIRTUAL_SIZE,
};
const BYTES: OptionKind = OptionKind::Size {
    min: 1,
    max: i64::MAX as u64,
};
const STEP: OptionKind = OptionKind::Size {
    min: 4096,
    max: u32::MAX as u64,
};
const SECONDS: OptionKind = OptionKind::Integer {
    min: i32::MIN as i64,
    max: i32::MAX as i64,
};
const COUNT: OptionKind = OptionKind::Integer {
    min: 1,
    max: u32::MAX as i64,
};
const RATE: OptionKind = OptionKind::Integer {
    min: 0,
    max: u32::MAX as i64,
};
const PERCENT: OptionKind = OptionKind::Integer { min: 0, max: 100 };
const MODE: OptionKind = OptionKind::Choice(&WriteUpdatesBase::NAMES);

/// An attribute that is not given leaves its field alone: there is no default.
const fn row(name: &'static str, kind: OptionKind, help: &'static str) -> OptionInfo {
    OptionInfo {
        name,
        kind,
        help,
        default: "",
    }
}

#[cfg(test)]
mod tests;
