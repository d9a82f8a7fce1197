//! libfvd: virtual disks in the FVD format, as a library to embed in a hypervisor.
//!
//! The layers, top to bottom (nothing points up):
//!
//! - [`image`]: create, open, submit, close: the Rust face;
//! - [`engine`]: requests as tasks, locks, extents, commit; no file, clock or thread of its own;
//! - [`host`]: the world outside, which carries the engine's effects out;
//! - [`format`](mod@format): the bytes on disk, with no I/O at all.

pub mod engine;
mod ffi;
pub mod format;
pub mod host;
pub mod image;

pub use engine::error::{Error, ErrorKind};
pub use engine::open::{Follow, OpenOptions};
pub use engine::request::{Callback, RequestId};
pub use image::Image;
