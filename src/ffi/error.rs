//! Errors, as C sees them: a result of 0 or -errno, and a message for each thread.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int};

use crate::{Error, Result};

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// What went wrong in the last call on this thread that failed: what, where, and what to do.
///
/// @return a text, empty if no call has failed; valid until the next call on this thread fails.
///         May be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn fvd_get_error_msg() -> *const c_char {
    MESSAGE.with_borrow(|message| message.as_ptr())
}

/// Keeps an error's message for this thread; returns its -errno.
pub(super) fn remember(error: &Error) -> c_int {
    MESSAGE.set(text(&error.to_string()));
    -error.errno()
}

/// 0, or -errno with its message kept.
pub(super) fn code(result: Result<()>) -> c_int {
    result.map_or_else(|error| remember(&error), |()| 0)
}

/// A text for C; a NUL inside becomes a question mark.
pub(super) fn text(text: &str) -> CString {
    CString::new(text.replace('\0', "?")).expect("no NUL is left")
}
