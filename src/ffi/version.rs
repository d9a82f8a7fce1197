//! What a program can ask before it opens anything.

use std::ffi::{c_char, c_int, c_void};

use crate::image::Image;

/// The library's version, "MAJOR.MINOR.PATCH".
///
/// @return a string that is never freed. May be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn fvd_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Tells whether a file that begins with these bytes is an FVD image.
///
/// @param bytes  the first bytes of the file; at least 4 are needed; may be NULL if `len` is 0
/// @param len    how many bytes there are
/// @return 1 if it is, 0 if it is not. May be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_probe(bytes: *const c_void, len: usize) -> c_int {
    if bytes.is_null() {
        return 0;
    }
    // SAFETY: the caller says that `len` bytes are readable at `bytes`.
    let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len) };
    c_int::from(Image::probe(bytes))
}
