//! What options there are, for programs that show or check them.

use std::ffi::{CString, c_char, c_int};
use std::sync::OnceLock;

use crate::format::argument::OptionInfo;
use crate::format::attributes::UPDATE_ATTRIBUTES;
use crate::format::options::CREATE_OPTIONS;
use crate::{Error, ErrorKind, OPEN_OPTIONS};

use super::error::{remember, text};

/// Which options: those of fvd_create.
pub const FVD_OPTIONS_CREATE: c_int = 0;
/// Which options: those of fvd_open.
pub const FVD_OPTIONS_OPEN: c_int = 1;
/// Which options: the attributes of fvd_update.
pub const FVD_OPTIONS_UPDATE: c_int = 2;

/// An option: texts that are never freed.
#[repr(C)]
pub struct fvd_option {
    /// Bytes of this struct, set by the caller; the library writes no further.
    pub struct_size: usize,
    /// Its name.
    pub name: *const c_char,
    /// What its value may be.
    pub kind: *const c_char,
    /// What it does, in one line.
    pub help: *const c_char,
    /// What holds where it is not given; empty: nothing.
    pub default_value: *const c_char,
}

/// Tells of one option.
///
/// @param list    one of FVD_OPTIONS_*
/// @param index   which one, from 0 on
/// @param option  filled in, if 1 is returned
/// @return 1; 0 if there are not so many; -EINVAL for a wrong list or struct_size. May be called
///         from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_get_option(
    list: c_int,
    index: c_int,
    option: *mut fvd_option,
) -> c_int {
    let [create, open, update] = lists();
    let list = match list {
        FVD_OPTIONS_CREATE => Some(create),
        FVD_OPTIONS_OPEN => Some(open),
        FVD_OPTIONS_UPDATE => Some(update),
        _ => None,
    };
    // SAFETY: the C caller gives NULL, or a struct that begins with its size.
    let size = unsafe { option.cast::<usize>().as_ref() }
        .copied()
        .unwrap_or(0);
    let (Some(list), true) = (list, size >= size_of::<fvd_option>()) else {
        let what = "list is none of FVD_OPTIONS_*, or option has no struct_size";
        return remember(&Error::new(ErrorKind::Invalid, what));
    };
    let Some(texts) = usize::try_from(index)
        .ok()
        .and_then(|index| list.get(index))
    else {
        return 0;
    };
    let [name, kind, help, default_value] = texts.each_ref().map(|text| text.as_ptr());
    let found = fvd_option {
        struct_size: size,
        name,
        kind,
        help,
        default_value,
    };
    // SAFETY: the struct has room for all fields, as its size says.
    unsafe { option.write(found) };
    1
}

/// Name, kind, help and default of each option of each list.
fn lists() -> &'static [Vec<[CString; 4]>; 3] {
    static LISTS: OnceLock<[Vec<[CString; 4]>; 3]> = OnceLock::new();
    let texts = |option: &OptionInfo| {
        [
            option.name,
            &option.kind.to_string(),
            option.help,
            option.default,
        ]
        .map(text)
    };
    let all = |list: &[OptionInfo]| list.iter().map(texts).collect();
    LISTS.get_or_init(|| [CREATE_OPTIONS, OPEN_OPTIONS, UPDATE_ATTRIBUTES].map(all))
}
