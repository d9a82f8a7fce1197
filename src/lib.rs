//! libfvd: virtual disks in the FVD format, as a library to embed in a hypervisor.
//!
//! An [`Image`] is created, opened and updated by name, on a [`Host`](host::Host) that does the
//! I/O: [`host::file::FileHost`] for plain files, or the embedder's own.
//!
//! The layers, top to bottom (nothing points up):
//!
//! - [`image`]: create, open, submit, close: the Rust face; beside it the C face, `include/fvd.h`;
//! - `engine`: requests as tasks, locks, extents, commit; no file, clock or thread of its own;
//! - [`host`]: the world outside, which carries the engine's effects out;
//! - [`format`](mod@format): the bytes on disk, with no I/O at all.

mod engine;
mod ffi;
pub mod format;
pub mod host;
pub mod image;

#[cfg(feature = "sim")]
pub use engine::canary;
pub use engine::error::{Error, ErrorKind, Result};
pub use engine::options::{Follow, OPEN_OPTIONS, OpenOptions};
pub use engine::request::{Callback, RequestId};
pub use engine::stats::Stats;
pub use format::attributes::Attribute;
pub use format::options::CreateOptions;
pub use image::{Image, Info, MapPiece, MapState};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
