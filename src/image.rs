//! The Rust face: an image on a host.
//!
//! An [`Image`] joins an engine to the [`Host`] that carries its effects out; a host serves one
//! image at a time. All of it belongs to one thread. Requests are submitted with a callback, which
//! runs exactly once, from [`Image::poll`] or from one of the calls that poll for you
//! ([`Image::cancel`], [`Image::drain`], [`Image::close`], dropping, the synchronous forms), never
//! inside the call that submitted the request. A callback may submit and cancel. Offsets and
//! lengths are bytes of the guest's disk.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::engine::core::{Core, Started};
use crate::engine::create::create;
use crate::engine::error::{Error, ErrorKind, Result};
use crate::engine::open::open;
use crate::engine::options::OpenOptions;
use crate::engine::request::{Callback, Cancel, Listener, RequestId};
use crate::engine::task::{Effect, Executor};
use crate::engine::update::update;
use crate::format::attributes::Attribute;
use crate::format::header::Header;
use crate::format::options::CreateOptions;
use crate::host::{Host, IoVecs};

mod info;

pub use info::{Info, MapPiece, MapState};

/// An image that is open.
///
/// Dropped without [`close`](Image::close), it waits for what is under way, closes its files, and
/// is recovered when it is opened again.
pub struct Image {
    /// Dropped first, and with it the files.
    core: Rc<Core>,
    world: World,
}

/// Where effects go. The last of them are the closing of files.
struct World {
    executor: Rc<Executor>,
    host: Rc<dyn Host>,
    crashed: bool,
    /// The host said that nothing can happen any more, and requests were waiting.
    gone: Cell<bool>,
}

impl World {
    fn new(host: &Rc<dyn Host>) -> Self {
        Self {
            executor: Rc::default(),
            host: Rc::clone(host),
            crashed: false,
            gone: Cell::default(),
        }
    }

    fn executor(&self) -> Rc<Executor> {
        Rc::clone(&self.executor)
    }

    /// Runs tasks and carries out effects until neither is left.
    fn step(&self) {
        loop {
            self.executor.run();
            match self.executor.next_effect() {
                Some(effect) => self.carry_out(effect),
                None => return,
            }
        }
    }

    fn carry_out(&self, effect: Effect) {
        let Self { executor, host, .. } = self;
        match effect {
            Effect::Submit(operation) => host.submit(operation),
            Effect::Open(token, request) => executor.opened(token, host.open(&request)),
            Effect::Close(file) => host.close(file),
            Effect::Log(severity, message) => host.log(severity, &message),
        }
    }

    /// Runs one job of an image's life to its end; no request is under way.
    fn drive<T: 'static>(&self, job: impl Future<Output = Result<T>> + 'static) -> Result<T> {
        let slot = Rc::new(RefCell::new(None));
        let result = Rc::clone(&slot);
        self.executor.spawn(async move {
            let value = job.await;
            *result.borrow_mut() = Some(value);
        });
        loop {
            self.step();
            if let Some(result) = slot.take() {
                return result;
            }
            if !self.poll_host() {
                self.executor.abandon();
                return Err(host_gone());
            }
        }
    }

    /// Lets the host answer to tasks.
    fn poll_host(&self) -> bool {
        self.host.poll(None, &mut |token, returned| {
            self.executor.answered(token, returned);
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.crashed {
            return;
        }
        if std::thread::panicking() {
            self.executor.abandon();
        }
        self.step();
        if self.executor.outstanding() > 0 {
            // The host says that nothing is under way, and owes answers. Should it give them after
            // all, their memory must be there: it is leaked.
            let _leaked: *const Executor = Rc::into_raw(self.executor());
        }
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if !self.world.crashed {
            self.core.begin_close();
            if !std::thread::panicking() {
                self.drain();
            }
            while self.world.executor.outstanding() > 0 && self.world.poll_host() {}
        }
        self.world.executor.abandon();
    }
}

impl Image {
    /// Creates the image `name`; a file of this name is emptied, and so is its data file.
    ///
    /// # Errors
    /// Options that do not fit together, and what the host says of a file.
    pub fn create(host: &Rc<dyn Host>, name: &str, options: &CreateOptions) -> Result<()> {
        let world = World::new(host);
        world.drive(create(world.executor(), name.to_owned(), options.clone()))
    }

    /// Opens the image `name`, and recovers it where it was not shut down cleanly.
    ///
    /// # Errors
    /// What the host says of a file; an image that breaks a rule of the format, that asks for
    /// something which `options` do not allow, or that only tools may open. The image is then as it
    /// was.
    pub fn open(host: &Rc<dyn Host>, name: &str, options: &OpenOptions) -> Result<Self> {
        let world = World::new(host);
        let core = world.drive(open(world.executor(), name.to_owned(), options.clone()))?;
        Ok(Self { core, world })
    }

    /// Changes attributes of the image `name`, which nobody may have open.
    ///
    /// # Errors
    /// A value that the image cannot have, before anything is changed; an image that is in use.
    pub fn update(
        host: &Rc<dyn Host>,
        name: &str,
        attributes: &[Attribute],
        options: &OpenOptions,
    ) -> Result<()> {
        let world = World::new(host);
        let attributes = attributes.to_vec();
        world.drive(update(
            world.executor(),
            name.to_owned(),
            attributes,
            options.follow,
        ))
    }

    /// True if a file that begins with these bytes is an FVD image.
    pub fn probe(first_bytes: &[u8]) -> bool {
        Header::looks_like(first_bytes)
    }

    /// The size of the guest's disk in bytes.
    pub fn virtual_size(&self) -> u64 {
        self.core.layer.geometry.virtual_size
    }

    /// Reads from `offset` into `iov`. 0 or -errno goes to `callback`.
    ///
    /// # Errors
    /// A range outside the disk or not in whole sectors; an image being closed. The callback does
    /// not run.
    ///
    /// # Safety
    /// `iov` and its memory stay valid until the callback has run or [`cancel`](Self::cancel) has
    /// returned, and nobody else uses that memory meanwhile.
    pub unsafe fn submit_read(
        &self,
        offset: u64,
        iov: IoVecs,
        callback: Callback,
    ) -> Result<RequestId> {
        self.core
            .read(offset, iov, callback.into())
            .map(|started| self.go_on(started))
    }

    /// Writes `iov` to `offset`; with `fua`, durable before its callback runs. 0 or -errno goes to
    /// `callback`.
    ///
    /// # Errors
    /// As for [`submit_read`](Self::submit_read); a read-only image; one whose flush failed.
    ///
    /// # Safety
    /// As for [`submit_read`](Self::submit_read); the memory may be read by others meanwhile.
    pub unsafe fn submit_write(
        &self,
        offset: u64,
        iov: IoVecs,
        fua: bool,
        callback: Callback,
    ) -> Result<RequestId> {
        self.core
            .write(offset, iov, fua, callback.into())
            .map(|started| self.go_on(started))
    }

    /// Makes durable what completed before. 0 or -errno goes to `callback`.
    ///
    /// # Errors
    /// An image being closed.
    pub fn submit_flush(&self, callback: Callback) -> Result<RequestId> {
        self.core
            .flush(callback.into())
            .map(|started| self.go_on(started))
    }

    /// Brings what is missing of `len` bytes at `offset` from the base image into this one. 0 or
    /// -errno goes to `callback`.
    ///
    /// # Errors
    /// As for [`submit_write`](Self::submit_write).
    pub fn submit_fetch(&self, offset: u64, len: u64, callback: Callback) -> Result<RequestId> {
        self.core
            .fetch(offset, len, callback.into())
            .map(|started| self.go_on(started))
    }

    /// Submits the operation of a fast request, or lets the new task take its first steps.
    #[inline]
    fn go_on(&self, started: Started) -> RequestId {
        match started.direct {
            Some(operation) => self.world.host.submit(operation),
            None => self.world.step(),
        }
        started.request
    }

    /// Cancels a request, and waits until nothing of it is under way. True: its callback will not
    /// run. False: it had ended before, and its callback has run or will run.
    pub fn cancel(&self, request: RequestId) -> bool {
        if !self.core.cancel(request, Cancel::Silent) {
            return false;
        }
        self.world.step();
        while self.core.requests.is_live(request) {
            if !self.poll(None) {
                self.give_up();
            }
        }
        true
    }

    /// Cancels a request as soon as may be. Its callback runs, with -ECANCELED or its real result.
    pub fn cancel_async(&self, request: RequestId) {
        if self.core.cancel(request, Cancel::Notify) {
            self.world.step();
        }
    }

    /// Runs the callbacks that are due or, where none is, the host's loop once and then those that
    /// are. Waits at most `timeout`; `None`: for ever. False: nothing can happen any more, since
    /// nothing is under way or the host is gone.
    pub fn poll(&self, timeout: Option<Duration>) -> bool {
        if self.run_callbacks() {
            return true;
        }
        let alive = self.world.host.poll(timeout, &mut |token, returned| {
            self.core.answered(token, returned);
        });
        self.world.step();
        self.end_poisoned();
        self.run_callbacks() || alive
    }

    /// Waits until every request has ended and been told so.
    pub fn drain(&self) {
        while !self.core.requests.is_idle() {
            if !self.poll(None) {
                self.give_up();
            }
        }
    }

    /// The host is gone, or has lost a request: every request ends, and nothing is done any more.
    fn give_up(&self) {
        self.world.gone.set(true);
        self.core.begin_close();
        self.core.requests.end_all(&host_gone());
        self.world.executor.abandon();
    }

    /// True if a callback is due.
    pub(crate) fn owes_callbacks(&self) -> bool {
        self.core.requests.completions() > 0
    }

    /// Runs the callbacks that are due, not those that they make due; false if there was none.
    fn run_callbacks(&self) -> bool {
        let due = self.core.requests.completions();
        for _ in 0..due {
            let Some(completion) = self.core.requests.next_completion() else {
                break; // a callback has run others
            };
            match completion.listener {
                Listener::Slot(slot) => *slot.borrow_mut() = Some(completion.result),
                Listener::Callback(Callback { func, opaque }) => {
                    let result = completion
                        .result
                        .map_or_else(|error| -error.errno(), |()| 0);
                    // SAFETY: whoever submitted the request gave a function that takes this
                    // argument, and this is its one call; no engine state is borrowed here.
                    unsafe { func(opaque, result) };
                }
            }
        }
        due > 0
    }

    /// Reads `bytes` from `offset`.
    ///
    /// # Errors
    /// As for [`submit_read`](Self::submit_read), and the request's own failure.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let iov = libc::iovec {
            iov_base: bytes.as_mut_ptr().cast(),
            iov_len: bytes.len(),
        };
        // SAFETY: `iov` and `bytes` are borrowed until `wait_for` returns, when the request is
        // over.
        let iov = unsafe { IoVecs::from_raw(&raw const iov, 1) };
        self.wait_for(|slot| self.core.read(offset, iov, slot))
    }

    /// Writes `bytes` to `offset`.
    ///
    /// # Errors
    /// As for [`submit_write`](Self::submit_write), and the request's own failure.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_and_wait(offset, bytes, false)
    }

    /// Writes `bytes` to `offset`, durably (FUA).
    ///
    /// # Errors
    /// As for [`write_at`](Self::write_at), and those of [`flush`](Self::flush).
    pub fn write_durably_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.write_and_wait(offset, bytes, true)
    }

    fn write_and_wait(&self, offset: u64, bytes: &[u8], fua: bool) -> Result<()> {
        let base = bytes.as_ptr().cast_mut().cast();
        let iov = libc::iovec {
            iov_base: base,
            iov_len: bytes.len(),
        };
        // SAFETY: `iov` and `bytes` are borrowed until `wait_for` returns, when the request is
        // over; a write only reads the memory.
        let iov = unsafe { IoVecs::from_raw(&raw const iov, 1) };
        self.wait_for(|slot| self.core.write(offset, iov, fua, slot))
    }

    /// Makes everything durable that was written.
    ///
    /// # Errors
    /// The flush failed: what was written since the last good one may be lost.
    pub fn flush(&self) -> Result<()> {
        self.wait_for(|slot| self.core.flush(slot))
    }

    /// Brings what is missing of `len` bytes at `offset` from the base image into this one.
    ///
    /// # Errors
    /// As for [`submit_fetch`](Self::submit_fetch), and the request's own failure.
    pub fn fetch(&self, offset: u64, len: u64) -> Result<()> {
        self.wait_for(|slot| self.core.fetch(offset, len, slot))
    }

    /// Submits a request and polls until it is over.
    fn wait_for(&self, submit: impl FnOnce(Listener) -> Result<Started>) -> Result<()> {
        let slot = Rc::new(RefCell::new(None));
        self.go_on(submit(Listener::Slot(Rc::clone(&slot)))?);
        loop {
            if let Some(result) = slot.take() {
                return result;
            }
            if !self.poll(None) {
                self.give_up();
            }
        }
    }

    /// Ends all requests, brings the image to rest, and closes its files, whatever is returned.
    ///
    /// # Errors
    /// Not everything could be written: what completed flushes covered is safe, and is recovered
    /// when the image is opened again.
    pub fn close(self) -> Result<()> {
        self.bring_to_rest()
    }

    /// All of [`close`](Self::close) but the closing of the files, which go with the image.
    pub(crate) fn bring_to_rest(&self) -> Result<()> {
        self.core.begin_close();
        self.drain();
        if self.world.gone.get() {
            return Err(host_gone());
        }
        let core = Rc::clone(&self.core);
        self.world.drive(async move { core.shut_down().await })
    }

    /// The engine is broken: no task takes a step any more, nothing is written, and what is under
    /// way ends with -EIO when the host has reported all of it.
    pub(crate) fn poison(&self) {
        self.core.begin_close();
        self.core.requests.freeze();
        self.world.executor.abandon();
        self.end_poisoned();
    }

    /// Ends the requests of a poisoned image, once nothing of them is under way.
    fn end_poisoned(&self) {
        if self.core.requests.is_frozen() && self.world.executor.outstanding() == 0 {
            let dead = "the library failed while it worked for this image";
            self.core
                .requests
                .end_all(&Error::new(ErrorKind::Host, dead));
        }
    }

    /// Forgets the image as a crash would: nothing more is written, no callback runs, no file is
    /// closed.
    ///
    /// # Safety
    /// The host touches no memory of an operation under way any more.
    pub unsafe fn abandon(mut self) {
        self.world.crashed = true;
    }
}

fn host_gone() -> Error {
    Error::new(
        ErrorKind::Host,
        "the host has nothing under way that could end this request",
    )
}

#[cfg(test)]
mod tests;
