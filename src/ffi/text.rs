//! Texts that C hands over.

use std::ffi::{CStr, c_char};

use crate::{Error, ErrorKind, Result};

/// The text of argument `name`; NULL is the empty one.
///
/// # Errors
/// Not in UTF-8.
///
/// # Safety
/// `text` is NULL, or NUL-terminated and valid until the caller of this returns.
pub(super) unsafe fn from_c<'a>(name: &str, text: *const c_char) -> Result<&'a str> {
    if text.is_null() {
        return Ok("");
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    let bad = |_| Error::new(ErrorKind::Invalid, format!("{name} is not a text in UTF-8"));
    text.to_str().map_err(bad)
}

/// The text of argument `name`, which has to be there.
///
/// # Errors
/// NULL or empty; not in UTF-8.
///
/// # Safety
/// As for [`from_c`].
pub(super) unsafe fn required<'a>(name: &str, text: *const c_char) -> Result<&'a str> {
    // SAFETY: the caller's promise.
    match unsafe { from_c(name, text) }? {
        "" => Err(Error::new(ErrorKind::Invalid, format!("{name} is missing"))),
        text => Ok(text),
    }
}
