//! The C ABI: translates, and holds no logic. `include/fvd.h` is generated from this module.

#![allow(unreachable_pub, reason = "C reaches these by their symbols")]
#![allow(
    clippy::missing_safety_doc,
    reason = "documented for C readers, in the header"
)]

mod version;
