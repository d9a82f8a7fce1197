//! Requests: reads, writes and flushes with a callback, and the host's answers.

use std::ffi::{c_int, c_void};
use std::time::Duration;

use libc::iovec;
use slotmap::{Key, KeyData};

use crate::format::units::{SECTOR, index};
use crate::host::IoVecs;
use crate::{Callback, Error, ErrorKind, Image, RequestId, Result};

use super::error::{code, remember};
use super::image::{enter, fvd_image};

/// Names a request under way. It points to nothing: it may be kept, compared and passed to
/// fvd_aio_cancel as long as the image is open, also when the request has ended.
pub struct fvd_aiocb {
    _private: [u8; 0],
}

/// Called once at a request's end: `ret` is 0 or -errno.
pub type fvd_completion_func = Option<unsafe extern "C" fn(opaque: *mut c_void, ret: c_int)>;

/// A scatter list, which begins as QEMU's QEMUIOVector does.
#[repr(C)]
pub struct fvd_iovector {
    /// The pieces of memory.
    pub iov: *mut iovec,
    /// How many pieces.
    pub niov: c_int,
    /// Not used by the library.
    pub nalloc: c_int,
    /// Bytes in all of them.
    pub size: usize,
}

/// The write is durable when it completes: for fvd_aio_pwritev.
pub const FVD_REQ_FUA: c_int = 1;

/// Reads from the disk. The callback runs from the host's loop or from a call that runs it
/// (fvd_io_done, fvd_poll, fvd_close, fvd_aio_cancel, the synchronous calls, a deferred call),
/// never from inside this call.
///
/// @param image   the image
/// @param offset  where on the disk, in bytes; a multiple of 512
/// @param iov     where to; it and its memory stay valid until the callback runs, or until
///                fvd_aio_cancel has returned 1
/// @param iovcnt  how many pieces; their lengths add up to a multiple of 512
/// @param flags   0
/// @param cb      called at the end
/// @param opaque  its first argument
/// @return the request; NULL where an argument is wrong or the image is being closed: then the
///         callback never runs, and fvd_get_error_msg() says why.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_aio_preadv(
    image: *mut fvd_image,
    offset: u64,
    iov: *const iovec,
    iovcnt: c_int,
    flags: c_int,
    cb: fvd_completion_func,
    opaque: *mut c_void,
) -> *mut fvd_aiocb {
    // SAFETY: the C caller's promise.
    let iov = unsafe { vectors(iov, iovcnt) };
    let submit = |open: &Image, callback| {
        if flags != 0 {
            return Err(invalid("flags of a read must be 0"));
        }
        // SAFETY: the C caller's promise.
        unsafe { open.submit_read(offset, iov?, callback) }
    };
    // SAFETY: the C caller's promise.
    unsafe { submitted(image, cb, opaque, submit) }
}

/// Writes to the disk; as fvd_aio_preadv otherwise.
///
/// @param image   the image
/// @param offset  where on the disk, in bytes; a multiple of 512
/// @param iov     where from; the library only reads the memory
/// @param iovcnt  how many pieces; their lengths add up to a multiple of 512
/// @param flags   0, or FVD_REQ_FUA: durable when the callback runs
/// @param cb      called at the end
/// @param opaque  its first argument
/// @return the request, or NULL; also for an image that is read-only, or whose flush has failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_aio_pwritev(
    image: *mut fvd_image,
    offset: u64,
    iov: *const iovec,
    iovcnt: c_int,
    flags: c_int,
    cb: fvd_completion_func,
    opaque: *mut c_void,
) -> *mut fvd_aiocb {
    // SAFETY: the C caller's promise.
    let iov = unsafe { vectors(iov, iovcnt) };
    let submit = |open: &Image, callback| {
        if flags & !FVD_REQ_FUA != 0 {
            return Err(invalid("flags of a write must be 0 or FVD_REQ_FUA"));
        }
        // SAFETY: the C caller's promise.
        unsafe { open.submit_write(offset, iov?, flags == FVD_REQ_FUA, callback) }
    };
    // SAFETY: the C caller's promise.
    unsafe { submitted(image, cb, opaque, submit) }
}

/// Reads sectors, as QEMU's bdrv_aio_readv does; as fvd_aio_preadv otherwise.
///
/// @param image       the image
/// @param sector_num  the first sector of 512 bytes
/// @param qiov        where to
/// @param nb_sectors  how many; `qiov` has as many
/// @param cb          called at the end
/// @param opaque      its first argument
/// @return the request, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_aio_readv(
    image: *mut fvd_image,
    sector_num: i64,
    qiov: *const fvd_iovector,
    nb_sectors: c_int,
    cb: fvd_completion_func,
    opaque: *mut c_void,
) -> *mut fvd_aiocb {
    // SAFETY: the C caller's promise.
    let part = unsafe { sectors(sector_num, qiov, nb_sectors) };
    let submit = |open: &Image, callback| {
        let (offset, iov) = part?;
        // SAFETY: the C caller's promise.
        unsafe { open.submit_read(offset, iov, callback) }
    };
    // SAFETY: the C caller's promise.
    unsafe { submitted(image, cb, opaque, submit) }
}

/// Writes sectors, as QEMU's bdrv_aio_writev does; as fvd_aio_pwritev otherwise.
///
/// @param image       the image
/// @param sector_num  the first sector of 512 bytes
/// @param qiov        where from
/// @param nb_sectors  how many; `qiov` has as many
/// @param cb          called at the end
/// @param opaque      its first argument
/// @return the request, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_aio_writev(
    image: *mut fvd_image,
    sector_num: i64,
    qiov: *const fvd_iovector,
    nb_sectors: c_int,
    cb: fvd_completion_func,
    opaque: *mut c_void,
) -> *mut fvd_aiocb {
    // SAFETY: the C caller's promise.
    let part = unsafe { sectors(sector_num, qiov, nb_sectors) };
    let submit = |open: &Image, callback| {
        let (offset, iov) = part?;
        // SAFETY: the C caller's promise.
        unsafe { open.submit_write(offset, iov, false, callback) }
    };
    // SAFETY: the C caller's promise.
    unsafe { submitted(image, cb, opaque, submit) }
}

/// Makes every write durable that completed before. Where a flush of the host fails, this one and
/// all later writes and flushes do, until the image is opened again.
///
/// @param image   the image
/// @param cb      called at the end
/// @param opaque  its first argument
/// @return the request, or NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_aio_flush(
    image: *mut fvd_image,
    cb: fvd_completion_func,
    opaque: *mut c_void,
) -> *mut fvd_aiocb {
    // SAFETY: the C caller's promises.
    unsafe { submitted(image, cb, opaque, Image::submit_flush) }
}

/// Cancels a request, and runs the host's loop until nothing of it is under way.
///
/// @param image  the image
/// @param acb    the request
/// @return 1: its callback will not run, and its memory is the caller's again; 0: it had ended, and
///         its callback has run or will; -EBUSY: it is under way, and the host has no poll.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_aio_cancel(image: *mut fvd_image, acb: *mut fvd_aiocb) -> c_int {
    // SAFETY: the C caller's promise.
    let cancelled = unsafe {
        enter(image, |handle| {
            let (open, request) = (handle.open()?, request_of(acb));
            if open.is_live(request) {
                handle.require_poll()?;
            }
            Ok(open.cancel(request))
        })
    };
    cancelled.map_or_else(|error| remember(&error), c_int::from)
}

/// Cancels a request as soon as may be, without waiting: its callback runs, with -ECANCELED or its
/// real result.
///
/// @param image  the image
/// @param acb    the request; one that has ended is left alone
/// @return 0, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_aio_cancel_async(image: *mut fvd_image, acb: *mut fvd_aiocb) -> c_int {
    // SAFETY: the C caller's promise.
    code(unsafe {
        enter(image, |handle| {
            handle.open()?.cancel_async(request_of(acb));
            Ok(())
        })
    })
}

/// The host's answer to an operation: each one exactly once, at once from inside
/// fvd_host_ops.submit or later from its loop. Callbacks of requests that end by it run before this
/// returns, unless the library is on the stack already. A late or doubled answer is counted and
/// has no effect, as long as the image is open.
///
/// @param image  fvd_io.image
/// @param token  fvd_io.token
/// @param ret    what fvd_io.kind says, or -errno
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_io_done(image: *mut fvd_image, token: u64, ret: i64) {
    // SAFETY: the C caller's promise.
    let Some(handle) = (unsafe { image.as_ref() }) else {
        return;
    };
    handle.answered(token, ret);
    if handle.is_outermost() {
        // SAFETY: the C caller's promise.
        let _ = unsafe {
            enter(image, |handle| {
                handle.go_on();
                Ok(())
            })
        };
    }
}

/// Runs the callbacks that are due or, where none is, the host's loop once.
///
/// @param image       the image
/// @param timeout_ns  how long to wait at most; below 0: for ever
/// @return 1: something may still happen; 0: nothing is under way; or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_poll(image: *mut fvd_image, timeout_ns: i64) -> c_int {
    let timeout = u64::try_from(timeout_ns).ok().map(Duration::from_nanos);
    // SAFETY: the C caller's promise.
    let alive = unsafe { enter(image, |handle| Ok(handle.open()?.poll(timeout))) };
    alive.map_or_else(|error| remember(&error), c_int::from)
}

/// Submits a request, and names it.
///
/// # Safety
/// `image` is NULL or a handle that was not closed; `cb` takes `opaque`.
unsafe fn submitted(
    image: *mut fvd_image,
    cb: fvd_completion_func,
    opaque: *mut c_void,
    submit: impl FnOnce(&Image, Callback) -> Result<RequestId>,
) -> *mut fvd_aiocb {
    // SAFETY: the caller's promise.
    let request = unsafe {
        enter(image, |handle| {
            let func = cb.ok_or_else(|| invalid("cb is NULL"))?;
            submit(&*handle.open()?, Callback { func, opaque })
        })
    };
    match request {
        Ok(request) => std::ptr::without_provenance_mut(index(request.data().as_ffi())),
        Err(error) => {
            remember(&error);
            std::ptr::null_mut()
        }
    }
}

fn request_of(acb: *mut fvd_aiocb) -> RequestId {
    KeyData::from_ffi(acb.addr() as u64).into()
}

/// # Safety
/// `iov` has `iovcnt` pieces, which stay valid until the request that uses them has ended.
unsafe fn vectors(iov: *const iovec, iovcnt: c_int) -> Result<IoVecs> {
    match usize::try_from(iovcnt) {
        // SAFETY: the caller's promise.
        Ok(count) if count == 0 || !iov.is_null() => Ok(unsafe { IoVecs::from_raw(iov, count) }),
        _ => Err(invalid("iov is NULL, or iovcnt below 0")),
    }
}

/// # Safety
/// As for [`vectors`].
unsafe fn sectors(first: i64, qiov: *const fvd_iovector, count: c_int) -> Result<(u64, IoVecs)> {
    // SAFETY: the caller's promise.
    let qiov = unsafe { qiov.as_ref() }.ok_or_else(|| invalid("qiov is NULL"))?;
    // SAFETY: the caller's promise.
    let iov = unsafe { vectors(qiov.iov, qiov.niov) }?;
    let offset = u64::try_from(first)
        .ok()
        .and_then(|first| first.checked_mul(SECTOR));
    let offset = offset.ok_or_else(|| invalid("sector_num is not on the disk"))?;
    if u64::try_from(count).map(|count| count * SECTOR) != Ok(iov.len()) {
        return Err(invalid("qiov does not hold nb_sectors sectors"));
    }
    Ok((offset, iov))
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::Invalid, what)
}
