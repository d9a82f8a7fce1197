//! Requests: what the guest asked for and has not been told the end of.
//!
//! A request ends exactly once, by [`Requests::finish`]. Unless it was cancelled synchronously, its
//! [`Completion`] then waits in a queue until the owner of the image runs its callback, never inside the
//! call that submitted it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ops::Range;

use slotmap::{SlotMap, new_key_type};

use super::task::TaskId;

new_key_type! {
    /// Names a request; a late cancel finds that it is gone.
    pub struct RequestId;
}

/// What to call at a request's end: `func(opaque, result)`, result 0 or -errno.
#[derive(Clone, Copy, Debug)]
pub struct Callback {
    /// The function.
    pub func: unsafe extern "C" fn(*mut c_void, c_int),
    /// Its first argument.
    pub opaque: *mut c_void,
}

/// A request that ended and whose callback has not run.
#[derive(Clone, Copy, Debug)]
pub struct Completion {
    /// The request.
    pub request: RequestId,
    /// What to call.
    pub callback: Callback,
    /// 0 or -errno.
    pub result: c_int,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Reads a range of the disk.
    Read,
    /// Writes a range of the disk.
    Write,
    /// Makes what completed before durable.
    Flush,
    /// Brings a range of the base image in.
    Fetch,
}

/// How a cancelled request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// Its callback runs, with -ECANCELED or the real result.
    Notify,
    /// Its callback does not run.
    Silent,
}

/// One request.
#[derive(Debug)]
pub struct Request {
    /// What it does.
    pub kind: Kind,
    /// Where it begins on the guest's disk, in bytes.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    callback: Callback,
    cancelled: Option<Cancel>,
    task: Option<TaskId>,
}

/// The requests under way, and the completions that nobody has been told of.
#[derive(Default)]
pub struct Requests {
    live: RefCell<SlotMap<RequestId, Request>>,
    ended: RefCell<VecDeque<Completion>>,
    /// Requests finished, for those who wait for one to end.
    finished: Cell<u64>,
}

impl Requests {
    /// Takes note of a new request.
    pub fn begin(&self, kind: Kind, offset: u64, len: u64, callback: Callback) -> RequestId {
        let request = Request {
            kind,
            offset,
            len,
            callback,
            cancelled: None,
            task: None,
        };
        self.live.borrow_mut().insert(request)
    }

    /// Forgets a request that could not be started after all; its callback never runs.
    pub fn forget(&self, id: RequestId) {
        self.live.borrow_mut().remove(id);
    }

    /// Says which task works on a request.
    pub fn assign(&self, id: RequestId, task: TaskId) {
        if let Some(request) = self.live.borrow_mut().get_mut(id) {
            request.task = Some(task);
        }
    }

    /// Ends a request: its callback will run with `result`, unless it was cancelled silently.
    pub fn finish(&self, id: RequestId, result: c_int) {
        let Some(request) = self.live.borrow_mut().remove(id) else {
            return;
        };
        self.finished.set(self.finished.get() + 1);
        if request.cancelled != Some(Cancel::Silent) {
            let callback = request.callback;
            self.ended.borrow_mut().push_back(Completion {
                request: id,
                callback,
                result,
            });
        }
    }

    /// What a request does, and to which bytes of the disk.
    pub fn range(&self, id: RequestId) -> Option<(Kind, Range<u64>)> {
        let live = self.live.borrow();
        live.get(id).map(|r| (r.kind, r.offset..r.offset + r.len))
    }

    /// Marks a request as cancelled, and names its task if it has one. `None`: it has ended.
    pub fn cancel(&self, id: RequestId, how: Cancel) -> Option<Option<TaskId>> {
        let mut live = self.live.borrow_mut();
        let request = live.get_mut(id)?;
        request.cancelled = Some(how);
        Some(request.task)
    }

    /// True while the request has not ended.
    pub fn is_live(&self, id: RequestId) -> bool {
        self.live.borrow().contains_key(id)
    }

    /// How many requests have not ended.
    pub fn live(&self) -> usize {
        self.live.borrow().len()
    }

    /// How many requests have ended since the beginning.
    pub fn finished(&self) -> u64 {
        self.finished.get()
    }

    /// The next completion to run.
    pub fn next_completion(&self) -> Option<Completion> {
        self.ended.borrow_mut().pop_front()
    }

    /// True if no completion waits to be run.
    pub fn all_told(&self) -> bool {
        self.ended.borrow().is_empty()
    }
}
