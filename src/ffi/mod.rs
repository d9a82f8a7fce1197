//! The C ABI: translates, and holds no logic. `include/fvd.h` is generated from this module.
//!
//! Every entry looks at its pointers, calls, and translates the result. It does so inside
//! [`fvd_image::enter`](image::fvd_image), which keeps a panic from crossing into C and counts how
//! deep the library is on the stack: a host that answers at once is heard, and a callback runs,
//! only when the call that asked has returned.

#![allow(unreachable_pub, reason = "C reaches these by their symbols")]
#![allow(
    clippy::missing_safety_doc,
    reason = "documented for C readers, in the header"
)]
#![allow(non_camel_case_types, reason = "these are the names that C sees")]

mod aio;
mod error;
mod host;
mod image;
mod options;
mod text;
mod version;
