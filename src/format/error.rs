//! Why bytes are no image, or a request for one is refused.
//!
//! Each error names the field (as FORMAT.md spells it) or the argument, and its value; where there
//! is something to do about it, the text says what. Nothing here is about files or I/O.

use super::header::Header;

/// An image, or an argument, that the format does not allow.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    /// The file does not begin as an FVD image does.
    #[error(
        "not an FVD image: magic is {magic:#010x}, not {:#010x}",
        Header::MAGIC
    )]
    NotFvd {
        /// The first four bytes; zeros where there are none.
        magic: u32,
    },
    /// An FVD image of another version.
    #[error("version is {version}; this library knows version 1 only")]
    Version {
        /// The version in the header.
        version: u32,
    },
    /// The file ends within its header.
    #[error("the header is cut: {len} bytes, of at least {}", Header::FIELDS_LEN)]
    HeaderCut {
        /// Bytes there are.
        len: usize,
    },
    /// A size, offset or count below zero.
    #[error("{field} is negative: {value}")]
    Negative {
        /// The header's field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A number that is not a multiple of what it must be.
    #[error("{field} is {value}, not a multiple of {of}")]
    NotMultiple {
        /// The header's field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// What it must be a multiple of.
        of: u64,
    },
    /// A number below what it must be.
    #[error("{field} is {value}, but must be at least {min} ({why})")]
    TooSmall {
        /// The header's field, or the argument.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The smallest value allowed.
        min: u64,
        /// Why that is the smallest.
        why: &'static str,
    },
    /// A number above what it may be, or above a limit of this library.
    #[error("{field} is {value}, but may be at most {max} ({why})")]
    TooLarge {
        /// The header's field, or the argument.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The largest value allowed.
        max: u64,
        /// Why that is the largest.
        why: &'static str,
    },
    /// Two regions of the metadata share bytes.
    #[error("{field} puts its region at bytes {start} to {end}, which overlaps {other}")]
    Overlap {
        /// The offset field of the one region.
        field: &'static str,
        /// Its first byte.
        start: u64,
        /// The byte after its last.
        end: u64,
        /// The other region.
        other: &'static str,
    },
    /// A region that does not lie within the metadata.
    #[error(
        "{field} is {start}: a region of {len} bytes there ends beyond metadata_size {metadata}"
    )]
    OutsideMetadata {
        /// The region's offset field.
        field: &'static str,
        /// Its value.
        start: u64,
        /// Bytes of the region.
        len: u64,
        /// The header's `metadata_size`.
        metadata: u64,
    },
    /// A region that is needed, in a file that ends before it does.
    #[error("{field}: its region ends at byte {end}, but the file has {file_len} bytes")]
    OutsideFile {
        /// The region's offset field.
        field: &'static str,
        /// The byte after the region's last.
        end: u64,
        /// Bytes of the metadata file.
        file_len: u64,
    },
    /// A bitmap, but no base image that its clear bits could mean.
    #[error(
        "base_img is empty, but all_data_in_fvd_img is 0 and base_img_size is {base_img_size}: \
         name the base image with `fvd update base_img=...`"
    )]
    NoBaseName {
        /// The header's `base_img_size`.
        base_img_size: u64,
    },
    /// A text that fills its field without an end.
    #[error("{field} has no NUL at its end")]
    NoNul {
        /// The header's field.
        field: &'static str,
    },
    /// A text that is not UTF-8.
    #[error("{field} is not UTF-8: {value:?}")]
    NotUtf8 {
        /// The header's field.
        field: &'static str,
        /// The text, with replacement characters.
        value: String,
    },
    /// A name whose change was cut by a crash: neither the old nor the new one.
    #[error("{field} is half changed: repeat the update that was cut, `fvd update {field}=...`")]
    HalfChanged {
        /// The header's field, also the name of the update attribute.
        field: &'static str,
    },
    /// A text that no header can hold.
    #[error("{field} has {len} bytes, but may have at most {max}: {value:?}")]
    TextTooLong {
        /// The header's field.
        field: &'static str,
        /// The text.
        value: String,
        /// Its length in bytes.
        len: usize,
        /// The most bytes that fit.
        max: usize,
    },
    /// A text that would be read back as another one: it holds a NUL, or begins with the mark of
    /// a half changed name.
    #[error("{field} holds a byte 0, or begins with a byte 1: {value:?}")]
    BadText {
        /// The header's field.
        field: &'static str,
        /// The text.
        value: String,
    },
    /// A value that is not of those allowed.
    #[error("{name}: bad value {value:?}; allowed: {allowed}")]
    BadValue {
        /// The header's field, or the argument.
        name: &'static str,
        /// The text given.
        value: String,
        /// What can stand there.
        allowed: String,
    },
    /// An argument that nobody knows.
    #[error("unknown option {name:?}; allowed: {allowed}")]
    UnknownOption {
        /// The argument's name as given.
        name: String,
        /// All names there are.
        allowed: String,
    },
    /// Arguments that do not go together, or one that is missing.
    #[error("{name}: {problem}")]
    Refused {
        /// The argument.
        name: &'static str,
        /// What is wrong, and what would be right.
        problem: &'static str,
    },
    /// Two entries of the table name one chunk.
    #[error("table entries {first} and {second} both name chunk {number}")]
    SameChunk {
        /// The index of the one entry.
        first: usize,
        /// The index of the other.
        second: usize,
        /// The chunk's number.
        number: u32,
    },
    /// A table entry whose chunk would end beyond what a file can hold.
    #[error("table entry {entry} names chunk {number}, whose place overflows")]
    ChunkPlace {
        /// The index of the entry.
        entry: usize,
        /// The chunk's number.
        number: u32,
    },
    /// An entry of the prefetch profile that is not within the base image.
    #[error("prefetch profile: {len_units} units from byte {offset} are not within the base image")]
    ProfileEntry {
        /// The entry's offset, as stored.
        offset: i64,
        /// The entry's length, as stored.
        len_units: u32,
    },
}
