//! Images: create, open, close, and what can be asked of one.

use std::cell::{Cell, RefCell};
use std::ffi::{c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::host::Host;
use crate::{Attribute, CreateOptions, Error, ErrorKind, Image, OpenOptions, Result};

use super::error::{code, remember};
use super::host::{CHost, fvd_host_ops};
use super::text::{from_c, required};

/// An image that is open. It belongs to the thread that opened it, its home thread.
pub struct fvd_image {
    host: Rc<CHost>,
    /// Absent while it is being opened, and once it is closed.
    image: RefCell<Option<Rc<Image>>>,
    /// How many entries of the library are on the stack for it.
    depth: Cell<u32>,
    poisoned: Cell<bool>,
    /// A deferred call is on its way, which holds this handle.
    deferred: Cell<bool>,
}

impl fvd_image {
    /// A handle through which the host can answer, for an image that is not open yet.
    ///
    /// # Safety
    /// As for [`CHost::new`].
    unsafe fn new(ops: *const fvd_host_ops, host: *mut c_void) -> Result<*mut Self> {
        // SAFETY: the caller's promise.
        let host = Rc::new(unsafe { CHost::new(ops, host) }?);
        let handle = Box::into_raw(Box::new(Self {
            host: Rc::clone(&host),
            image: RefCell::default(),
            depth: Cell::default(),
            poisoned: Cell::default(),
            deferred: Cell::default(),
        }));
        host.serves(handle);
        Ok(handle)
    }

    fn host(&self) -> Rc<dyn Host> {
        Rc::clone(&self.host) as Rc<dyn Host>
    }

    /// The image behind the handle, unless it is poisoned.
    pub(super) fn open(&self) -> Result<Rc<Image>> {
        if self.poisoned.get() {
            let dead = "the library failed while it worked for this image; it only closes now";
            return Err(Error::new(ErrorKind::Host, dead));
        }
        let image = self.image.borrow().as_ref().map(Rc::clone);
        image.ok_or_else(|| Error::new(ErrorKind::Closed, "the image is not open"))
    }

    /// The error of a call that would have to wait for a host that cannot be polled.
    pub(super) fn require_poll(&self) -> Result<()> {
        if self.host.can_poll() {
            return Ok(());
        }
        let what = "this has to wait for I/O, and the host has no poll";
        Err(Error::host(
            libc::EBUSY,
            format!("{what}; use the calls with a callback"),
        ))
    }

    /// Takes an answer of the host, and goes on with it unless the library is on the stack.
    pub(super) fn answered(&self, token: u64, returned: i64) {
        self.host.answered(token, returned);
    }

    /// True if no entry of the library is on the stack.
    pub(super) fn is_outermost(&self) -> bool {
        self.depth.get() == 0
    }

    /// Takes the answers that wait, and runs the callbacks that are due; all that this leads to,
    /// where the host cannot defer the rest.
    pub(super) fn go_on(&self) {
        loop {
            let image = self.image.borrow().as_ref().map(Rc::clone);
            let Some(image) = image.filter(|image| self.owes(image)) else {
                return;
            };
            image.poll(Some(Duration::ZERO));
            if self.host.can_defer() {
                return;
            }
        }
    }

    /// True if an answer or a callback waits.
    fn owes(&self, image: &Image) -> bool {
        self.host.has_answers() || image.owes_callbacks()
    }

    /// What is left to do goes to the host's loop.
    fn defer_rest(&self) {
        let owes = self
            .image
            .borrow()
            .as_ref()
            .is_some_and(|image| self.owes(image));
        if owes && !self.deferred.get() {
            let handle = std::ptr::from_ref(self).cast_mut().cast();
            self.deferred.set(self.host.defer(fvd_deferred, handle));
        }
    }

    /// True if nobody will come back to this handle: it is closed, or was never open, and neither
    /// a deferred call nor an answer of the host is on its way.
    fn is_forgotten(&self) -> bool {
        self.image.borrow().is_none() && !self.deferred.get() && !self.host.owes_answers()
    }
}

/// What [`fvd_host_ops::defer`] is given: takes up what was left.
unsafe extern "C" fn fvd_deferred(handle: *mut c_void) {
    let handle = handle.cast::<fvd_image>();
    // SAFETY: the handle is not freed while `deferred` is set.
    unsafe { &*handle }.deferred.set(false);
    // SAFETY: as above; a closed one is freed by this entry.
    let _ = unsafe {
        enter(handle, |image| {
            image.go_on();
            Ok(())
        })
    };
}

/// Runs an entry on a handle. A panic in it poisons the image; where the entry was the outermost
/// one, what is left to do is deferred, and a handle that was closed meanwhile is freed.
///
/// # Safety
/// `handle` is NULL, or a handle that was not closed before.
pub(super) unsafe fn enter<T>(
    handle: *mut fvd_image,
    work: impl FnOnce(&fvd_image) -> Result<T>,
) -> Result<T> {
    // SAFETY: the caller's promise; only this function frees a handle, when nobody else uses it.
    let Some(image) = (unsafe { handle.as_ref() }) else {
        return Err(Error::new(ErrorKind::Invalid, "the image is NULL"));
    };
    image.depth.set(image.depth.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(|| work(image))).unwrap_or_else(|_| {
        image.poisoned.set(true);
        let open = image.image.borrow().as_ref().map(Rc::clone);
        open.iter().for_each(|open| open.poison());
        Err(Error::new(
            ErrorKind::Host,
            "the library failed; the image takes no more requests",
        ))
    });
    image.depth.set(image.depth.get() - 1);
    if image.is_outermost() {
        image.defer_rest();
        if image.is_forgotten() {
            // SAFETY: made by `fvd_image::new`, no entry is on the stack, and nobody comes back.
            drop(unsafe { Box::from_raw(handle) });
        }
    }
    result
}

/// Creates an image. Runs the host's loop until that is done.
///
/// @param ops      the host's functions; copied
/// @param host     their first argument
/// @param name     the image's name; a file of this name is emptied, and so is its data file
/// @param options  "name=value,name=value"; see fvd_get_option
/// @return 0, or -errno: -EINVAL for options that do not fit together, or what the host said.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_create(
    ops: *const fvd_host_ops,
    host: *mut c_void,
    name: *const c_char,
    options: *const c_char,
) -> c_int {
    // SAFETY: the C caller's promises about its arguments.
    let result = unsafe { texts(name, options) }.and_then(|(name, options)| {
        let options = CreateOptions::parse(options).map_err(|error| Error::argument(&error))?;
        // SAFETY: as above.
        unsafe { once(ops, host, |host| Image::create(host, name, &options)) }
    });
    code(result)
}

/// Changes attributes of an image that nobody has open, after recovering it.
///
/// @param ops         the host's functions; copied
/// @param host        their first argument
/// @param name        the image's name
/// @param attributes  "name=value,name=value"; see fvd_get_option
/// @return 0, or -errno: -EINVAL, with nothing changed, for a value that the image cannot have.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_update(
    ops: *const fvd_host_ops,
    host: *mut c_void,
    name: *const c_char,
    attributes: *const c_char,
) -> c_int {
    // SAFETY: the C caller's promises about its arguments.
    let result = unsafe { texts(name, attributes) }.and_then(|(name, attributes)| {
        let parse = |item: &str| Attribute::parse(item).map_err(|error| Error::argument(&error));
        let attributes = attributes
            .split(',')
            .map(parse)
            .collect::<Result<Vec<_>>>()?;
        let options = OpenOptions::default();
        // SAFETY: as above.
        unsafe {
            once(ops, host, |host| {
                Image::update(host, name, &attributes, &options)
            })
        }
    });
    code(result)
}

/// Opens an image, and recovers it where it was not shut down cleanly. Runs the host's loop until
/// that is done.
///
/// @param ops      the host's functions; copied
/// @param host     their first argument; both serve this image until it is closed
/// @param name     the image's name
/// @param options  "name=value,name=value"; NULL: the defaults; see fvd_get_option
/// @param image    set to the image, if 0 is returned; the caller closes it with fvd_close
/// @return 0, or -errno; the image is then as it was.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_open(
    ops: *const fvd_host_ops,
    host: *mut c_void,
    name: *const c_char,
    options: *const c_char,
    image: *mut *mut fvd_image,
) -> c_int {
    // SAFETY: the C caller's promises about its arguments.
    match unsafe { open(ops, host, name, options) } {
        Ok(_) if image.is_null() => remember(&Error::new(ErrorKind::Invalid, "image is NULL")),
        Ok(handle) => {
            // SAFETY: not NULL, and the caller's to be written.
            unsafe { image.write(handle) };
            0
        }
        Err(error) => remember(&error),
    }
}

/// # Safety
/// The arguments are as [`fvd_open`] wants them.
unsafe fn open(
    ops: *const fvd_host_ops,
    host: *mut c_void,
    name: *const c_char,
    options: *const c_char,
) -> Result<*mut fvd_image> {
    // SAFETY: the caller's promise.
    let (name, options) = unsafe { texts(name, options) }?;
    let options = OpenOptions::parse(options).map_err(|error| Error::argument(&error))?;
    // SAFETY: the caller's promise.
    let handle = unsafe { fvd_image::new(ops, host) }?;
    let open = |image: &fvd_image| {
        let opened = Image::open(&image.host(), name, &options)?;
        *image.image.borrow_mut() = Some(Rc::new(opened));
        Ok(())
    };
    // SAFETY: the handle is new; where the open fails, `enter` frees it.
    unsafe { enter(handle, open) }.map(|()| handle)
}

/// Runs something that needs a host, but no image that stays open.
///
/// # Safety
/// As for [`CHost::new`].
unsafe fn once(
    ops: *const fvd_host_ops,
    host: *mut c_void,
    work: impl FnOnce(&Rc<dyn Host>) -> Result<()>,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let handle = unsafe { fvd_image::new(ops, host) }?;
    // SAFETY: the handle is new, and has no image: `enter` frees it.
    unsafe { enter(handle, |image| work(&image.host())) }
}

/// # Safety
/// Both are NULL, or NUL-terminated and valid as long as the result is used.
unsafe fn texts<'a>(name: *const c_char, options: *const c_char) -> Result<(&'a str, &'a str)> {
    // SAFETY: the caller's promise.
    let name = unsafe { required("name", name) }?;
    // SAFETY: the caller's promise.
    Ok((name, unsafe { from_c("options", options) }?))
}

/// Ends all requests, brings the image to rest, and closes its files. Runs the host's loop until
/// that is done; callbacks run meanwhile. The image is gone then, whatever is returned but -EBUSY;
/// called from a callback, it is gone when the outermost callback has returned.
///
/// @param image  the image; NULL does nothing
/// @return 0, or -errno: not everything could be written. What completed flushes covered is safe,
///         and the next open recovers it. -EBUSY: requests are pending and the host has no poll;
///         the image is still open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_close(image: *mut fvd_image) -> c_int {
    if image.is_null() {
        return 0;
    }
    // SAFETY: the C caller's promise.
    let result = unsafe {
        enter(image, |handle| {
            let open = handle.image.borrow().as_ref().map(Rc::clone);
            let Some(open) = open else { return Ok(()) };
            if open.live_requests() > 0 {
                handle.require_poll()?;
            }
            let result = if handle.poisoned.get() {
                open.drain();
                handle.open().map(drop)
            } else {
                open.bring_to_rest()
            };
            handle.image.borrow_mut().take();
            result
        })
    };
    code(result)
}

/// The size of the guest's disk in bytes; 0 where the image is not open.
///
/// @param image  the image
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_getlength(image: *mut fvd_image) -> u64 {
    // SAFETY: the C caller's promise.
    let size = unsafe { enter(image, |handle| Ok(handle.open()?.virtual_size())) };
    size.unwrap_or_else(|error| {
        remember(&error);
        0
    })
}

/// Tells whether a byte of the disk is in this image, rather than in its base or nowhere.
///
/// @param image   the image
/// @param offset  where the byte is, in bytes
/// @param len     for how many bytes the answer is wanted
/// @param same    set to the number of bytes, from `offset` on, for which it holds; may be NULL
/// @return 1 if it is, 0 if it is not, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_is_allocated(
    image: *mut fvd_image,
    offset: u64,
    len: u64,
    same: *mut u64,
) -> c_int {
    // SAFETY: the C caller's promise.
    match unsafe { enter(image, |handle| Ok(handle.open()?.is_allocated(offset, len))) } {
        Ok((is_here, run)) => {
            if !same.is_null() {
                // SAFETY: not NULL, and the caller's to be written.
                unsafe { same.write(run) };
            }
            c_int::from(is_here)
        }
        Err(error) => remember(&error),
    }
}

/// Tells whether a new image of this kind reads as zeros: it has no base image.
///
/// @param image  the image
/// @return 1 if it does, 0 if it does not, or -errno.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn fvd_has_zero_init(image: *mut fvd_image) -> c_int {
    // SAFETY: the C caller's promise.
    match unsafe { enter(image, |handle| Ok(handle.open()?.has_zero_init())) } {
        Ok(zero) => c_int::from(zero),
        Err(error) => remember(&error),
    }
}
