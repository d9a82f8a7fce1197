//! The engine of one image: requests come in, effects go out, results come in, completions go out.
//!
//! It touches no file, clock or thread by itself. To find your way: [`core`] is where requests enter;
//! [`task`] runs those that need several steps; [`read`], [`write`] and [`copy`] are their steps, over
//! [`extents`] (where bytes are), [`range_lock`] and [`chunks`] (who may put something there), and
//! [`dirty`] and [`commit`] (how it becomes durable). [`open`](mod@open), [`recovery`], [`close`],
//! [`create`] and [`update`] are an image's life.

pub mod allocator;
pub mod bitmap;
pub mod canary;
mod chunks;
mod close;
mod commit;
mod copy;
pub mod core;
pub mod create;
pub mod dirty;
pub mod error;
pub mod extents;
pub mod file;
pub mod index_set;
mod journal;
pub mod limits_for_tests;
mod load;
mod names;
pub mod open;
pub mod range_lock;
mod read;
mod recovery;
pub mod request;
mod resize;
pub mod stats;
pub mod table;
pub mod task;
pub mod update;
mod write;
