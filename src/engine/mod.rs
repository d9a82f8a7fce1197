//! The engine of one image: requests come in, effects go out, results come in, completions go out.
//!
//! It touches no file, clock or thread by itself. To find your way:
//!
//! - [`core`] is where requests enter, [`request`] what becomes of them, [`task`] runs those that
//!   need several steps, [`fast_path`] serves those that do not;
//! - [`read`], [`write`](mod@write) and [`copy`] are the steps, over [`layer`] (where bytes are:
//!   [`bitmap`], [`table`], base images), [`claim`] and [`allocator`] (what a write holds of the
//!   data), [`range_lock`];
//! - [`dirty`], [`commit`], [`record`] and [`journal`] are how it becomes durable;
//! - [`create`], [`open`], [`load`], [`objections`], [`recovery`], [`close`], [`update`],
//!   [`resize`] and [`header`] are an image's life.

mod allocator;
mod bitmap;
mod buffer;
#[cfg(feature = "sim")]
pub mod canary;
#[cfg(not(feature = "sim"))]
mod canary;
mod claim;
mod close;
mod commit;
mod copy;
pub(crate) mod core;
pub(crate) mod create;
mod dirty;
pub(crate) mod error;
mod fast_path;
pub(crate) mod file;
mod header;
mod index_set;
mod journal;
pub(crate) mod layer;
mod load;
mod names;
mod objections;
pub(crate) mod open;
pub(crate) mod options;
mod range_lock;
mod range_set;
mod read;
mod record;
mod recovery;
pub(crate) mod request;
mod resize;
mod sparse;
pub(crate) mod stats;
mod table;
pub(crate) mod task;
pub(crate) mod update;
mod write;
