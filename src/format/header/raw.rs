//! The header's bytes: packed, little-endian, each field at the offset that FORMAT.md gives.
//!
//! [`Raw`] is the table of FORMAT.md, "Header", as a struct: its types have an alignment of one
//! byte, so there is no padding, and any 4336 bytes are one. Between it and [`Header`] stand the
//! checks that one field allows by itself. The bytes behind a text's NUL mean nothing (the first
//! implementation left memory content there) and are written as zeros.

use std::ops::Range;

use memoffset::span_of;
use zerocopy::little_endian::{I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FormatError, HALF_CHANGED, HALF_CHANGED_NAME, Header, WriteUpdatesBase};

/// Bytes of the field of a name, its NUL included.
const NAME_LEN: usize = 1024;

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(super) struct Raw {
    magic: U32,
    version: U32,
    all_data_in_fvd_img: U32,
    virtual_disk_size: I64,
    metadata_size: I64,
    base_img: [u8; NAME_LEN],
    base_img_fmt: [u8; 16],
    base_img_size: I64,
    bitmap_offset: I64,
    bitmap_size: I64,
    block_size: U32,
    copy_on_read: U32,
    max_outstanding_copy_on_read_data: I64,
    data_file: [u8; NAME_LEN],
    data_file_fmt: [u8; 16],
    prefetch_start_delay: I32,
    prefetch_profile_offset: I64,
    prefetch_profile_entries: I64,
    num_prefetch_slots: U32,
    bytes_per_prefetch: U32,
    prefetch_read_throughput_measure_time: U32,
    prefetch_write_throughput_measure_time: U32,
    prefetch_perf_calc_alpha: U32,
    prefetch_min_read_throughput: U32,
    prefetch_min_write_throughput: U32,
    prefetch_max_read_throughput: U32,
    prefetch_max_write_throughput: U32,
    prefetch_throttle_time: U32,
    compact_image: U32,
    table_offset: I64,
    chunk_size: I64,
    storage_grow_unit: I64,
    add_storage_cmd: [u8; 2048],
    journal_offset: I64,
    journal_size: I64,
    clean_shutdown: U32,
    need_zero_init: U32,
    generate_prefetch_profile: U32,
    unit_of_prefetch_profile_entry_len: U32,
    profile_directed_prefetch_start_delay: I32,
    write_updates_base_img: [u8; 16],
}

const _: () = assert!(size_of::<Raw>() == Header::FIELDS_LEN);

/// The fields that are changed by themselves, one sector at a time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Field {
    /// Written last at creation: before it there is no image.
    Magic,
    /// Set once prefetching has finished.
    AllDataInFvdImg,
    /// Grows.
    VirtualDiskSize,
    /// A name that an update sets.
    BaseImg,
    /// A name that an update sets.
    DataFile,
    /// Written after the entries that it counts.
    PrefetchProfileEntries,
    /// The flag of an image in use.
    CleanShutdown,
}

/// The bytes of the header that hold `field`.
pub fn span(field: Field) -> Range<usize> {
    match field {
        Field::Magic => span_of!(Raw, magic),
        Field::AllDataInFvdImg => span_of!(Raw, all_data_in_fvd_img),
        Field::VirtualDiskSize => span_of!(Raw, virtual_disk_size),
        Field::BaseImg => span_of!(Raw, base_img),
        Field::DataFile => span_of!(Raw, data_file),
        Field::PrefetchProfileEntries => span_of!(Raw, prefetch_profile_entries),
        Field::CleanShutdown => span_of!(Raw, clean_shutdown),
    }
}

/// [`Header::decode`]; a mark on the name `repeat` is no error.
pub(super) fn decode(bytes: &[u8], repeat: Option<Field>) -> Result<Header, FormatError> {
    if !Header::looks_like(bytes) {
        let magic = bytes
            .first_chunk()
            .map_or(0, |magic| u32::from_le_bytes(*magic));
        return Err(FormatError::NotFvd { magic });
    }
    let Ok((raw, _)) = Raw::ref_from_prefix(bytes) else {
        return Err(FormatError::HeaderCut { len: bytes.len() });
    };
    if raw.version.get() != Header::VERSION {
        return Err(FormatError::Version {
            version: raw.version.get(),
        });
    }
    macro_rules! size {
        ($field:ident) => {
            size(stringify!($field), raw.$field)?
        };
    }
    let flag = |value: U32| value.get() != 0;
    Ok(Header {
        all_data_in_fvd_img: flag(raw.all_data_in_fvd_img),
        virtual_disk_size: size!(virtual_disk_size),
        metadata_size: size!(metadata_size),
        base_img: name("base_img", &raw.base_img, repeat == Some(Field::BaseImg))?,
        base_img_fmt: text("base_img_fmt", &raw.base_img_fmt)?,
        base_img_size: size!(base_img_size),
        bitmap_offset: size!(bitmap_offset),
        bitmap_size: size!(bitmap_size),
        block_size: raw.block_size.get(),
        copy_on_read: flag(raw.copy_on_read),
        max_outstanding_copy_on_read_data: size!(max_outstanding_copy_on_read_data),
        data_file: name("data_file", &raw.data_file, repeat == Some(Field::DataFile))?,
        data_file_fmt: text("data_file_fmt", &raw.data_file_fmt)?,
        prefetch_start_delay: raw.prefetch_start_delay.get(),
        prefetch_profile_offset: size!(prefetch_profile_offset),
        prefetch_profile_entries: size!(prefetch_profile_entries),
        num_prefetch_slots: raw.num_prefetch_slots.get(),
        bytes_per_prefetch: raw.bytes_per_prefetch.get(),
        prefetch_read_throughput_measure_time: raw.prefetch_read_throughput_measure_time.get(),
        prefetch_write_throughput_measure_time: raw.prefetch_write_throughput_measure_time.get(),
        prefetch_perf_calc_alpha: raw.prefetch_perf_calc_alpha.get(),
        prefetch_min_read_throughput: raw.prefetch_min_read_throughput.get(),
        prefetch_min_write_throughput: raw.prefetch_min_write_throughput.get(),
        prefetch_max_read_throughput: raw.prefetch_max_read_throughput.get(),
        prefetch_max_write_throughput: raw.prefetch_max_write_throughput.get(),
        prefetch_throttle_time: raw.prefetch_throttle_time.get(),
        compact_image: flag(raw.compact_image),
        table_offset: size!(table_offset),
        chunk_size: size!(chunk_size),
        storage_grow_unit: size!(storage_grow_unit),
        add_storage_cmd: text("add_storage_cmd", &raw.add_storage_cmd)?,
        journal_offset: size!(journal_offset),
        journal_size: size!(journal_size),
        clean_shutdown: flag(raw.clean_shutdown),
        need_zero_init: flag(raw.need_zero_init),
        generate_prefetch_profile: flag(raw.generate_prefetch_profile),
        unit_of_prefetch_profile_entry_len: raw.unit_of_prefetch_profile_entry_len.get(),
        profile_directed_prefetch_start_delay: raw.profile_directed_prefetch_start_delay.get(),
        write_updates_base_img: write_updates_base(&raw.write_updates_base_img)?,
    })
}

/// [`Header::encode`].
pub(super) fn encode(header: &Header) -> Result<Box<[u8; Header::LEN]>, FormatError> {
    macro_rules! size {
        ($field:ident) => {
            put_size(stringify!($field), header.$field)?
        };
    }
    macro_rules! text {
        ($field:ident) => {
            put_text(stringify!($field), &header.$field)?
        };
    }
    let flag = |value: bool| U32::new(value.into());
    let write_updates_base_img = match header.write_updates_base_img {
        WriteUpdatesBase::No => "", // as the first implementation has it
        other => other.name(),
    };
    let raw = Raw {
        magic: U32::new(Header::MAGIC),
        version: U32::new(Header::VERSION),
        all_data_in_fvd_img: flag(header.all_data_in_fvd_img),
        virtual_disk_size: size!(virtual_disk_size),
        metadata_size: size!(metadata_size),
        base_img: put_name("base_img", &header.base_img)?,
        base_img_fmt: text!(base_img_fmt),
        base_img_size: size!(base_img_size),
        bitmap_offset: size!(bitmap_offset),
        bitmap_size: size!(bitmap_size),
        block_size: header.block_size.into(),
        copy_on_read: flag(header.copy_on_read),
        max_outstanding_copy_on_read_data: size!(max_outstanding_copy_on_read_data),
        data_file: put_name("data_file", &header.data_file)?,
        data_file_fmt: text!(data_file_fmt),
        prefetch_start_delay: header.prefetch_start_delay.into(),
        prefetch_profile_offset: size!(prefetch_profile_offset),
        prefetch_profile_entries: size!(prefetch_profile_entries),
        num_prefetch_slots: header.num_prefetch_slots.into(),
        bytes_per_prefetch: header.bytes_per_prefetch.into(),
        prefetch_read_throughput_measure_time: header.prefetch_read_throughput_measure_time.into(),
        prefetch_write_throughput_measure_time: header
            .prefetch_write_throughput_measure_time
            .into(),
        prefetch_perf_calc_alpha: header.prefetch_perf_calc_alpha.into(),
        prefetch_min_read_throughput: header.prefetch_min_read_throughput.into(),
        prefetch_min_write_throughput: header.prefetch_min_write_throughput.into(),
        prefetch_max_read_throughput: header.prefetch_max_read_throughput.into(),
        prefetch_max_write_throughput: header.prefetch_max_write_throughput.into(),
        prefetch_throttle_time: header.prefetch_throttle_time.into(),
        compact_image: flag(header.compact_image),
        table_offset: size!(table_offset),
        chunk_size: size!(chunk_size),
        storage_grow_unit: size!(storage_grow_unit),
        add_storage_cmd: text!(add_storage_cmd),
        journal_offset: size!(journal_offset),
        journal_size: size!(journal_size),
        clean_shutdown: flag(header.clean_shutdown),
        need_zero_init: flag(header.need_zero_init),
        generate_prefetch_profile: flag(header.generate_prefetch_profile),
        unit_of_prefetch_profile_entry_len: header.unit_of_prefetch_profile_entry_len.into(),
        profile_directed_prefetch_start_delay: header.profile_directed_prefetch_start_delay.into(),
        write_updates_base_img: put_text("write_updates_base_img", write_updates_base_img)?,
    };
    let mut bytes = Box::new([0; Header::LEN]);
    bytes[..Header::FIELDS_LEN].copy_from_slice(raw.as_bytes());
    Ok(bytes)
}

fn size(field: &'static str, raw: I64) -> Result<u64, FormatError> {
    let value = raw.get();
    u64::try_from(value).map_err(|_| FormatError::Negative { field, value })
}

fn put_size(field: &'static str, value: u64) -> Result<I64, FormatError> {
    let max = i64::MAX as u64;
    let too_large = |_| FormatError::TooLarge {
        field,
        value,
        max,
        why: "the field is signed",
    };
    Ok(I64::new(i64::try_from(value).map_err(too_large)?))
}

/// A text that may be half changed; with `repeat`, only the mark is left of such a one.
fn name(field: &'static str, bytes: &[u8], repeat: bool) -> Result<String, FormatError> {
    match bytes.first() {
        Some(&HALF_CHANGED) if repeat => Ok(HALF_CHANGED_NAME.to_owned()),
        Some(&HALF_CHANGED) => Err(FormatError::HalfChanged { field }),
        _ => text(field, bytes),
    }
}

fn text(field: &'static str, bytes: &[u8]) -> Result<String, FormatError> {
    let nul = bytes.iter().position(|&byte| byte == 0);
    let bytes = &bytes[..nul.ok_or(FormatError::NoNul { field })?];
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => {
            let value = String::from_utf8_lossy(bytes).into_owned();
            Err(FormatError::NotUtf8 { field, value })
        }
    }
}

fn put_text<const N: usize>(field: &'static str, text: &str) -> Result<[u8; N], FormatError> {
    let value = || text.to_owned();
    if text.len() >= N {
        let (len, max) = (text.len(), N - 1);
        return Err(FormatError::TextTooLong {
            field,
            value: value(),
            len,
            max,
        });
    }
    if text.contains('\0') {
        return Err(FormatError::BadText {
            field,
            value: value(),
        });
    }
    let mut bytes = [0; N];
    bytes[..text.len()].copy_from_slice(text.as_bytes());
    Ok(bytes)
}

fn put_name(field: &'static str, name: &str) -> Result<[u8; NAME_LEN], FormatError> {
    if name != HALF_CHANGED_NAME {
        check_new_name(field, name)?;
    }
    put_text(field, name)
}

/// Refuses a `name` that the header cannot hold, or that a reader would take as half changed.
pub(in crate::format) fn check_new_name(
    field: &'static str,
    name: &str,
) -> Result<(), FormatError> {
    if name.as_bytes().first() == Some(&HALF_CHANGED) {
        return Err(FormatError::BadText {
            field,
            value: name.to_owned(),
        });
    }
    put_text::<NAME_LEN>(field, name).map(|_| ())
}

fn write_updates_base(bytes: &[u8]) -> Result<WriteUpdatesBase, FormatError> {
    const FIELD: &str = "write_updates_base_img";
    let text = text(FIELD, bytes)?;
    if text.is_empty() {
        return Ok(WriteUpdatesBase::No);
    }
    WriteUpdatesBase::from_name(&text).ok_or_else(|| FormatError::BadValue {
        name: FIELD,
        value: text,
        allowed: WriteUpdatesBase::NAMES.join(", "),
    })
}

#[cfg(test)]
mod tests;
