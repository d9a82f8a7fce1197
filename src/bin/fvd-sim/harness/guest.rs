//! The guest: it submits, waits, cancels, and believes nothing.
//!
//! Each request is told to the oracle when it is submitted and when it ends, and what a read gives
//! is judged at once. Callbacks come while the image works, and may submit in turn, so nothing here
//! is borrowed across a call of the image; what goes wrong in a callback is kept until somebody
//! looks ([`Guest::verdict`]).

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use fvd::host::sim::{Crash, Ending, Oracle, Prng, SimHost, Trace, WriteId};
use fvd::{Callback, Image, RequestId};

use super::memory::{Memory, Pool};
use super::scenario::Mix;

mod submit;

/// What a request does, with what the oracle calls it.
#[derive(Clone, Copy, Debug)]
enum What {
    Read(u64),
    Write(WriteId, Ending),
    Flush(u64),
    Fetch,
}

/// A request that the guest waits for.
struct Request {
    key: u64,
    id: RequestId,
    what: What,
    first: u64,
    memory: Memory,
    cancelled: bool,
    /// Submitted after a flush of the host failed: it must fail too, unless it reads.
    doomed: bool,
    /// What the callback is given.
    _name: Box<Name>,
}

/// What a callback is told about its request.
struct Name {
    guest: *const Guest,
    key: u64,
}

/// What happened so far, for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) reads: u64,
    pub(crate) writes: u64,
    pub(crate) flushes: u64,
    pub(crate) fetches: u64,
    pub(crate) cancels: u64,
    pub(crate) failed: u64,
}

/// The user of an image, and what it knows.
pub(crate) struct Guest {
    host: Rc<SimHost>,
    trace: Rc<Trace>,
    mix: Mix,
    write_through: bool,
    /// Hot spots, and the size that neighbours are aligned to, in sectors.
    spots: RefCell<Vec<u64>>,
    unit: u64,
    pub(crate) oracle: RefCell<Oracle>,
    image: RefCell<Option<Image>>,
    rng: RefCell<Prng>,
    requests: RefCell<Vec<Request>>,
    next_key: Cell<u64>,
    pool: RefCell<Pool>,
    failure: RefCell<Option<String>>,
    tally: Cell<Tally>,
    /// A call that submits is under way.
    submitting: Cell<bool>,
    /// What the host had counted when the session began: errors, failed flushes.
    errors_before: Cell<u64>,
    flushes_before: Cell<u64>,
}

impl Guest {
    pub(crate) fn new(
        host: Rc<SimHost>,
        trace: Rc<Trace>,
        mix: Mix,
        oracle: Oracle,
        mut rng: Prng,
    ) -> Self {
        let sectors = oracle.sectors();
        let spots = (0..mix.hot_spots).map(|_| rng.below(sectors)).collect();
        Self {
            host,
            trace,
            mix,
            write_through: false,
            spots: RefCell::new(spots),
            unit: 8,
            oracle: RefCell::new(oracle),
            image: RefCell::new(None),
            rng: RefCell::new(rng),
            requests: RefCell::default(),
            next_key: Cell::new(0),
            pool: RefCell::default(),
            failure: RefCell::default(),
            tally: Cell::default(),
            submitting: Cell::new(false),
            errors_before: Cell::new(0),
            flushes_before: Cell::new(0),
        }
    }

    /// How the image is opened, and the unit (in sectors) that its borders lie on.
    pub(crate) fn knows(&mut self, write_through: bool, unit: u64) {
        self.write_through = write_through;
        self.unit = unit.max(1);
    }

    /// A session begins.
    pub(crate) fn begin(&self, image: Image) {
        let stats = self.host.stats();
        self.errors_before.set(stats.errors);
        self.flushes_before.set(stats.failed_flushes);
        *self.image.borrow_mut() = Some(image);
    }

    /// Asks something of the image, if there is one.
    pub(crate) fn with_image<T>(&self, ask: impl FnOnce(&Image) -> T) -> Option<T> {
        self.image.borrow().as_ref().map(ask)
    }

    /// The session ends: the caller closes the image, or lets it be forgotten.
    pub(crate) fn take_image(&self) -> Option<Image> {
        self.image.borrow_mut().take()
    }

    /// What was under way is over, and nobody will be told.
    pub(crate) fn forget_requests(&self) {
        let mut pool = self.pool.borrow_mut();
        self.requests
            .borrow_mut()
            .drain(..)
            .for_each(|request| pool.give_back(request.memory));
    }

    /// How many requests are under way.
    pub(crate) fn waiting(&self) -> u64 {
        self.requests.borrow().len() as u64
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally.get()
    }

    /// What went wrong, if anything did.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        self.failure.borrow().clone().map_or(Ok(()), Err)
    }

    fn fail(&self, what: impl Into<String>) {
        let what = what.into();
        self.failure.borrow_mut().get_or_insert(what);
    }

    fn count(&self, add: impl FnOnce(&mut Tally)) {
        let mut tally = self.tally.get();
        add(&mut tally);
        self.tally.set(tally);
    }

    /// True if the host reported a failed flush in this session. The oracle is told.
    pub(crate) fn flush_failed(&self) -> bool {
        let failed = self.host.stats().failed_flushes > self.flushes_before.get();
        let mut oracle = self.oracle.borrow_mut();
        if failed && !oracle.session_failed() {
            oracle.host_flush_failed();
        }
        failed
    }

    /// True if the host reported any error in this session.
    pub(crate) fn host_failed(&self) -> bool {
        self.host.dead().is_some() || self.host.stats().errors > self.errors_before.get()
    }

    fn draw(&self, per_mille: u32) -> bool {
        self.rng.borrow_mut().chance(per_mille)
    }

    /// Gives a request to the image.
    fn start(
        &self,
        what: What,
        first: u64,
        memory: Memory,
        submit: impl FnOnce(&Image, Callback) -> fvd::Result<RequestId>,
    ) {
        let image = self.image.borrow();
        let image = image.as_ref().expect("a request needs an image");
        let doomed = self.flush_failed();
        let key = self.next_key.replace(self.next_key.get() + 1);
        self.trace.note(
            &[key, first],
            format_args!("guest: request {key}: {what:?} from {first}"),
        );
        let name = Box::new(Name { guest: self, key });
        let opaque = (&raw const *name).cast_mut().cast::<c_void>();
        self.submitting.set(true);
        let result = submit(
            image,
            Callback {
                func: ended,
                opaque,
            },
        );
        self.submitting.set(false);
        match result {
            Ok(id) => {
                let (cancelled, _name) = (false, name);
                let request = Request {
                    key,
                    id,
                    what,
                    first,
                    memory,
                    cancelled,
                    doomed,
                    _name,
                };
                self.requests.borrow_mut().push(request);
            }
            Err(error) => {
                self.finish(what, false);
                self.pool.borrow_mut().give_back(memory);
                let refusable = doomed && !matches!(what, What::Read(_));
                if !refusable && self.host.dead().is_none() {
                    self.fail(format!("request {key}, {what:?}, was refused: {error}"));
                }
            }
        }
    }

    /// Tells the oracle that a request is over.
    fn finish(&self, what: What, well: bool) {
        let mut oracle = self.oracle.borrow_mut();
        match what {
            What::Read(read) => oracle.end_read(read),
            What::Write(id, ending) => {
                oracle.end_write(id, if well { ending } else { Ending::Unsure })
            }
            What::Flush(flush) if well => oracle.end_flush(flush),
            What::Flush(_) | What::Fetch => {}
        }
    }

    /// A callback ran.
    fn ended(&self, key: u64, result: c_int) {
        if self.submitting.get() {
            return self.fail("a callback ran inside the call that submits");
        }
        let at = self
            .requests
            .borrow()
            .iter()
            .position(|request| request.key == key);
        let Some(at) = at else {
            return self.fail(format!("a callback for request {key}, which was over"));
        };
        let request = self.requests.borrow_mut().swap_remove(at);
        let number = u64::from(result.unsigned_abs());
        self.trace.note(
            &[key, number],
            format_args!("guest: request {key} ended: {result}"),
        );
        self.flush_failed();
        self.judge(&request, result);
        self.finish(request.what, result == 0);
        self.pool.borrow_mut().give_back(request.memory);
        if self.draw(self.mix.nested) && self.image.borrow().is_some() {
            self.submit();
        }
    }

    fn judge(&self, request: &Request, result: c_int) {
        let Request {
            key,
            what,
            first,
            memory,
            doomed,
            ..
        } = request;
        if !memory.guards_hold() && !matches!(what, What::Flush(_) | What::Fetch) {
            self.fail(format!(
                "request {key}: bytes were written beside its memory"
            ));
        }
        if result == 0 {
            match what {
                What::Read(read) => {
                    let mut bytes = Vec::new();
                    memory.gather(&mut bytes);
                    let judged = self.oracle.borrow_mut().check_read(*read, *first, &bytes);
                    judged.unwrap_or_else(|violation| {
                        self.fail(format!("request {key}: {violation}"))
                    });
                }
                What::Write(..) | What::Flush(_) if *doomed => {
                    self.fail(format!(
                        "request {key}, {what:?}, succeeded after a flush failed"
                    ));
                }
                What::Write(..) | What::Flush(_) | What::Fetch => {}
            }
            return;
        }
        self.count(|tally| tally.failed += 1);
        let expected =
            *doomed || self.host_failed() || (request.cancelled && result == -libc::ECANCELED);
        if !expected {
            self.fail(format!(
                "request {key}, {what:?}, failed with {result} for no reason"
            ));
        }
    }

    /// Lets the image go on. False: nothing can happen any more.
    pub(crate) fn poll(&self, timeout: Option<Duration>) -> bool {
        self.with_image(|image| image.poll(timeout))
            .unwrap_or(false)
    }

    /// Cancels some request, and waits for it or not.
    pub(crate) fn cancel_one(&self) {
        let (key, id) = {
            let mut requests = self.requests.borrow_mut();
            if requests.is_empty() {
                return;
            }
            let at = self.rng.borrow_mut().below(requests.len() as u64);
            let request = &mut requests[usize::try_from(at).expect("few requests")];
            request.cancelled = true;
            (request.key, request.id)
        };
        self.count(|tally| tally.cancels += 1);
        self.trace
            .note(&[key], format_args!("guest: cancel request {key}"));
        if self.draw(500) {
            self.with_image(|image| image.cancel_async(id));
            return;
        }
        let over = self.with_image(|image| image.cancel(id)).unwrap_or(false);
        if !over || self.host.dead().is_some() {
            return;
        }
        let at = self
            .requests
            .borrow()
            .iter()
            .position(|request| request.key == key);
        let Some(at) = at else {
            return self.fail(format!(
                "request {key} was cancelled, and its callback ran all the same"
            ));
        };
        let request = self.requests.borrow_mut().swap_remove(at);
        self.flush_failed();
        self.finish(request.what, false);
        self.pool.borrow_mut().give_back(request.memory);
    }
}

/// A guest that goes away takes its image along, without a word to the host.
impl Drop for Guest {
    fn drop(&mut self) {
        let Some(image) = self.image.get_mut().take() else {
            return;
        };
        self.host.crash(Crash::Kill);
        if std::thread::panicking() {
            // The engine may be in the middle of anything: it is left as it is.
            let _ = std::mem::ManuallyDrop::new(image);
        } else {
            // SAFETY: a dead host touches no memory.
            unsafe { image.abandon() };
        }
    }
}

/// The callback of every request. A panic must not leave it: it is kept as a failure.
unsafe extern "C" fn ended(opaque: *mut c_void, result: c_int) {
    // SAFETY: `opaque` is the name of a request that is not over, which the request keeps.
    let name = unsafe { &*opaque.cast::<Name>() };
    // SAFETY: the guest outlives the image that calls back.
    let guest = unsafe { &*name.guest };
    let key = name.key;
    if catch_unwind(AssertUnwindSafe(|| guest.ended(key, result))).is_err() {
        guest.fail(format!("a panic in the callback of request {key}"));
    }
}
