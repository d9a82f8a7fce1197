//! The FVD version 1 image format: pure functions on bytes, no I/O, no unsafe code.
//!
//! The rules are those of FORMAT.md, and each item names the section that it implements. Two paths
//! lead to a layout that the rest of the library can trust:
//!
//! ```text
//! text "size=10G,..." -> options::CreateOptions -> create::plan --.
//!                                                                  >-> Header + Geometry
//! bytes of a file     -> Header::decode -> Geometry::from_header -'
//! ```
//!
//! Everything that comes from a file may be hostile: a number is checked here, once, and whatever
//! has passed can be added, multiplied and indexed with in the layers above without overflow.
//! This is the only place that knows an offset.
#![forbid(unsafe_code)]

pub(crate) mod argument;
pub mod attributes;
pub mod bitmap;
pub mod create;
pub mod error;
pub mod geometry;
pub mod header;
pub mod journal;
mod layout;
pub mod limits;
pub mod options;
pub mod profile;
pub mod table;
pub mod units;

pub use attributes::{Attribute, UPDATE_ATTRIBUTES};
pub use create::plan;
pub use error::FormatError;
pub use geometry::{Blocks, Chunks, Geometry, Region};
pub use header::{Header, WriteUpdatesBase};
pub use options::{CREATE_OPTIONS, CreateOptions, JournalSize, OptionInfo, OptionKind};
pub use units::{DataOffset, MetaOffset, PAGE, SECTOR, SECTOR_LEN};

#[cfg(test)]
mod tests;
