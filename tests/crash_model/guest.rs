//! The guest: a program of a few requests, and what it has been told of them.
//!
//! Write number n of a program fills each sector with a pattern of n and the sector, so every
//! content tells where it came from. The guest keeps the [`Oracle`] up to date, and judges each
//! answer on the spot: what a read returned, a request that failed although nothing was broken, a
//! write that succeeded after a flush had failed.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

use fvd::host::IoVecs;
use fvd::{Callback, Image, RequestId};
use libc::iovec;

use super::content::{Content, SECTOR};
use super::disk::Time;
use super::oracle::Oracle;

/// What a program can ask for. Ranges are sectors of the guest's disk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Request {
    Write(Range<u32>),
    /// A write that is durable when it completes (FUA).
    Durable(Range<u32>),
    Read(Range<u32>),
    /// Brings what is missing in from the base, as copy-on-read and prefetching do.
    Fetch(Range<u32>),
    Flush,
    /// Cancels the newest request that has not ended, if there is one.
    Cancel,
    /// Closes the image; the last request of a program.
    Close,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(range) => write!(f, "write {range:?}"),
            Self::Durable(range) => write!(f, "write {range:?} durably"),
            Self::Read(range) => write!(f, "read {range:?}"),
            Self::Fetch(range) => write!(f, "fetch {range:?}"),
            Self::Flush => f.write_str("flush"),
            Self::Cancel => f.write_str("cancel"),
            Self::Close => f.write_str("close"),
        }
    }
}

/// One request that was submitted.
struct Submitted {
    request: Request,
    at: Time,
    /// How the library names it.
    id: Option<RequestId>,
    ended: bool,
    cancelled: bool,
    bytes: Vec<u8>,
    /// Held for the library, which has a pointer to it.
    _list: Box<[iovec; 1]>,
}

/// What a request's callback is called with.
struct Ticket {
    guest: *const Guest,
    number: usize,
}

struct State {
    oracle: Oracle,
    first_write: u32,
    written_through: bool,
    submitted: Vec<Submitted>,
    /// Boxed, for the library holds pointers to them.
    #[allow(clippy::vec_box, reason = "the library holds pointers to the tickets")]
    tickets: Vec<Box<Ticket>>,
    now: Time,
    /// When a flush of the host failed.
    lost_since: Option<Time>,
    /// Some operation of the host failed, so requests may fail too.
    excused: bool,
    /// What the guest was told, in order.
    told: Vec<u8>,
    wrong: Option<String>,
    /// The run was cut: what is told from now on is of no interest.
    left: bool,
}

impl State {
    fn write_number(&self, request: usize) -> u32 {
        self.first_write + u32::try_from(request).expect("few requests")
    }
}

/// A guest in the middle of its program.
pub(crate) struct Guest(RefCell<State>);

impl Guest {
    /// A guest that has not started. Its requests, as writes, have numbers from `first_write` on;
    /// where they are `written_through`, each is durable when it completes.
    pub(crate) fn new(oracle: Oracle, first_write: u32, written_through: bool) -> Rc<Self> {
        Rc::new(Self(RefCell::new(State {
            oracle,
            first_write,
            written_through,
            submitted: Vec::new(),
            tickets: Vec::new(),
            now: 1,
            lost_since: None,
            excused: false,
            told: Vec::new(),
            wrong: None,
            left: false,
        })))
    }

    /// Submits a request. ([`Request::Close`] is up to whoever owns the image.)
    pub(crate) fn submit(&self, image: &Image, request: &Request) {
        let (iov, callback, number) = self.prepare(request);
        let at = |range: &Range<u32>| u64::from(range.start) * SECTOR as u64;
        let started = match request {
            Request::Write(range) | Request::Durable(range) => {
                let durable = matches!(request, Request::Durable(_));
                // SAFETY: the guest keeps list and bytes until it is dropped, after the image.
                unsafe { image.submit_write(at(range), iov, durable, callback) }
            }
            // SAFETY: as above.
            Request::Read(range) => unsafe { image.submit_read(at(range), iov, callback) },
            Request::Fetch(range) => image.submit_fetch(at(range), iov.len(), callback),
            Request::Flush => image.submit_flush(callback),
            Request::Cancel => return self.cancel(image, number),
            Request::Close => unreachable!("the driver closes"),
        };
        match started {
            Ok(id) => self.0.borrow_mut().submitted[number].id = Some(id),
            Err(error) => self.ended(number, -error.errno()),
        }
    }

    /// Cancels the newest request under way.
    fn cancel(&self, image: &Image, number: usize) {
        let newest = self
            .0
            .borrow()
            .submitted
            .iter()
            .rposition(|s| !s.ended && s.id.is_some());
        self.ended(number, 0);
        let Some(newest) = newest else { return };
        let id = self.0.borrow().submitted[newest]
            .id
            .expect("it was looked for");
        if image.cancel(id) {
            self.0.borrow_mut().submitted[newest].cancelled = true;
            self.ended(newest, -libc::ECANCELED);
        }
    }

    /// Takes note of a request, and lays out its memory.
    fn prepare(&self, request: &Request) -> (IoVecs, Callback, usize) {
        let state = &mut *self.0.borrow_mut();
        let number = state.submitted.len();
        let write = state.write_number(number);
        state.now += 1;
        state.told.push(u8::try_from(number).expect("few requests"));
        let mut bytes = Vec::new();
        if let Request::Write(range) | Request::Durable(range) = request {
            state.oracle.write(write, range.clone(), state.now);
            range
                .clone()
                .for_each(|sector| bytes.extend(Content::pattern(write, sector).bytes()));
        }
        if let Request::Read(range) | Request::Fetch(range) = request {
            bytes.resize(range.len() * SECTOR, 0xEE);
        }
        let base = bytes.as_mut_ptr().cast();
        let list = Box::new([iovec {
            iov_base: base,
            iov_len: bytes.len(),
        }]);
        // SAFETY: list and bytes stay where they are until the guest is dropped.
        let iov = unsafe { IoVecs::from_raw(list.as_ptr(), 1) };
        let request = request.clone();
        state.submitted.push(Submitted {
            request,
            at: state.now,
            id: None,
            ended: false,
            cancelled: false,
            bytes,
            _list: list,
        });
        let ticket = Box::new(Ticket {
            guest: self,
            number,
        });
        let opaque = (&raw const *ticket).cast_mut().cast();
        state.tickets.push(ticket);
        (
            iov,
            Callback {
                func: request_ended,
                opaque,
            },
            number,
        )
    }

    /// A request has ended.
    fn ended(&self, number: usize, result: c_int) {
        let state = &mut *self.0.borrow_mut();
        if state.left {
            return;
        }
        state.now += 1;
        state
            .told
            .push(u8::try_from(number).expect("few requests") | 0x80);
        let good = result == 0;
        let (now, write) = (state.now, state.write_number(number));
        let submitted = &mut state.submitted[number];
        if std::mem::replace(&mut submitted.ended, true) {
            state.wrong = Some(format!("request {number} ended twice"));
            return;
        }
        let at = submitted.at;
        let changes = !matches!(submitted.request, Request::Read(_) | Request::Cancel);
        if !good && !state.excused && !submitted.cancelled {
            state.wrong = Some(format!("{} failed with {result}", submitted.request));
        }
        if good && changes && state.lost_since.is_some_and(|lost| lost < at) {
            state.wrong = Some(format!(
                "{} went well after a failed flush",
                submitted.request
            ));
        }
        match &submitted.request {
            Request::Write(_) => state.oracle.ended(write, now, good, state.written_through),
            Request::Durable(_) => state.oracle.ended(write, now, good, true),
            Request::Flush if good => state.oracle.flushed(at),
            Request::Read(range) if good && state.lost_since.is_none() => {
                let (sectors, _) = submitted.bytes.as_chunks::<SECTOR>();
                for (sector, bytes) in range.clone().zip(sectors) {
                    let content = Content::of_bytes(bytes);
                    if !state.oracle.may_read(sector, content, at) {
                        state.wrong = Some(format!("sector {sector} was read as {content}"));
                    }
                }
            }
            _ => {}
        }
    }

    /// The image is being closed.
    pub(crate) fn closing(&self) {
        self.0.borrow_mut().told.push(0xFE);
    }

    /// The image was closed, with this result.
    pub(crate) fn closed(&self, good: bool) {
        let state = &mut *self.0.borrow_mut();
        state.now += 1;
        state.told.push(0xFF);
        if good && state.lost_since.is_none() {
            state.oracle.flushed(state.now);
        }
        if !good && !state.excused {
            state.wrong = Some("the close failed".to_owned());
        }
    }

    /// The image was opened, and its disk read; `binding` as for [`Oracle::observed`].
    pub(crate) fn observed(&self, contents: &[Content], binding: bool) {
        let state = &mut *self.0.borrow_mut();
        state.now += 1;
        state.oracle.observed(contents, state.now, binding);
    }

    /// The whole disk was read, with nothing under way. After a failed flush that says nothing.
    pub(crate) fn check_read(&self, contents: &[Content]) {
        let state = &mut *self.0.borrow_mut();
        if state.lost_since.is_some() {
            return;
        }
        for (sector, content) in (0..).zip(contents) {
            if !state.oracle.may_read(sector, *content, state.now) {
                state.wrong = Some(format!("sector {sector} was read as {content}"));
            }
        }
    }

    /// The run is cut here.
    pub(crate) fn leave(&self) {
        self.0.borrow_mut().left = true;
    }

    /// Something of the host failed: a flush, or anything else.
    pub(crate) fn host_failed(&self, flush: bool) {
        let state = &mut *self.0.borrow_mut();
        state.excused = true;
        if flush && state.lost_since.is_none() {
            state.now += 1;
            state.lost_since = Some(state.now);
        }
    }

    /// How many requests were submitted.
    pub(crate) fn submitted(&self) -> usize {
        self.0.borrow().submitted.len()
    }

    /// True if no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.0
            .borrow()
            .submitted
            .iter()
            .all(|submitted| submitted.ended)
    }

    /// What was wrong, if anything was.
    pub(crate) fn wrong(&self) -> Option<String> {
        self.0.borrow().wrong.clone()
    }

    /// Takes note of something wrong.
    pub(crate) fn complain(&self, what: String) {
        self.0.borrow_mut().wrong.get_or_insert(what);
    }

    /// Looks at the oracle.
    pub(crate) fn oracle<T>(&self, look: impl FnOnce(&Oracle) -> T) -> T {
        look(&self.0.borrow().oracle)
    }

    /// What the guest was told so far, in order.
    pub(crate) fn told(&self) -> Vec<u8> {
        self.0.borrow().told.clone()
    }
}

/// The callback of every request.
unsafe extern "C" fn request_ended(opaque: *mut c_void, result: c_int) {
    // SAFETY: `prepare` made the ticket; the guest keeps it, and outlives the image.
    let ticket = unsafe { &*opaque.cast::<Ticket>() };
    // SAFETY: the guest does not move (it lives in an `Rc`), and outlives the image.
    let guest = unsafe { &*ticket.guest };
    guest.ended(ticket.number, result);
}
