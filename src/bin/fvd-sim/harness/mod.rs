//! Seeds: from a number to the life of an image, and to a verdict.
//!
//! [`scenario`] draws what a seed is about: a geometry, a guest, a host, and troubles. [`world`]
//! builds the files. [`life`] lets a [`guest`] use the image through crashes and recoveries, and
//! judges all that it reads by the oracle. [`campaign`] runs many seeds, [`canaries`] runs them
//! with planted mistakes.
//!
//! All of this uses the library as any embedder does, through `fvd::image::Image`.

pub(crate) mod campaign;
pub(crate) mod canaries;
pub(crate) mod guest;
pub(crate) mod inspect;
pub(crate) mod life;
pub(crate) mod memory;
pub(crate) mod scenario;
pub(crate) mod world;
