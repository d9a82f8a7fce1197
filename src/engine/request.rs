//! Requests: what the guest asked for and has not been told the end of.
//!
//! A request ends exactly once, by [`Requests::finish`]. Unless it was cancelled silently, its
//! [`Completion`] then waits in a queue until the owner of the image passes it on, never inside the
//! call that submitted it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::rc::Rc;

use slotmap::{SlotMap, new_key_type};

use super::error::{Error, Result};
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

/// Who is told of a request's end.
#[derive(Clone, Debug)]
pub(crate) enum Listener {
    /// A function.
    Callback(Callback),
    /// Somebody who polls until it is there.
    Slot(Rc<RefCell<Option<Result<()>>>>),
}

impl From<Callback> for Listener {
    fn from(callback: Callback) -> Self {
        Self::Callback(callback)
    }
}

/// A request that ended, of which nobody has been told.
#[derive(Debug)]
pub(crate) struct Completion {
    /// Who is to be told.
    pub(crate) listener: Listener,
    /// How it ended.
    pub(crate) result: Result<()>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads a range of the disk.
    Read,
    /// Writes a range of the disk.
    Write,
    /// Makes what completed before durable.
    Flush,
    /// Brings a range of the base image in.
    Fetch,
}

impl Kind {
    /// Its name in a message.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Fetch => "fetch",
        }
    }
}

/// How a cancelled request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    /// Its listener is told, -ECANCELED or the real result.
    Notify,
    /// Nobody is told.
    Silent,
}

/// One request.
#[derive(Debug)]
struct Request {
    kind: Kind,
    range: Range<u64>,
    listener: Listener,
    is_silent: bool,
    task: Option<TaskId>,
}

/// The requests under way, and the completions that nobody has been told of.
#[derive(Default)]
pub(crate) struct Requests {
    live: RefCell<SlotMap<RequestId, Request>>,
    ended: RefCell<VecDeque<Completion>>,
    /// No request ends by itself any more.
    frozen: Cell<bool>,
}

impl Requests {
    /// Takes note of a new request over `range` of the disk, in bytes.
    pub(crate) fn begin(&self, kind: Kind, range: Range<u64>, listener: Listener) -> RequestId {
        let request = Request {
            kind,
            range,
            listener,
            is_silent: false,
            task: None,
        };
        self.live.borrow_mut().insert(request)
    }

    /// Says which task works on a request.
    pub(crate) fn assign(&self, id: RequestId, task: TaskId) {
        if let Some(request) = self.live.borrow_mut().get_mut(id) {
            request.task = Some(task);
        }
    }

    /// Ends a request: its listener will be told, unless it was cancelled silently.
    pub(crate) fn finish(&self, id: RequestId, result: Result<()>) {
        if self.frozen.get() {
            return;
        }
        let Some(request) = self.live.borrow_mut().remove(id) else {
            return;
        };
        if !request.is_silent {
            let listener = request.listener;
            self.ended
                .borrow_mut()
                .push_back(Completion { listener, result });
        }
    }

    /// From now on requests end by [`end_all`](Self::end_all) alone: an engine that is broken does
    /// not know when nothing of them is under way.
    pub(crate) fn freeze(&self) {
        self.frozen.set(true);
    }

    /// True from [`freeze`](Self::freeze) to [`end_all`](Self::end_all).
    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.get()
    }

    /// Ends every request that is live, with the same error.
    pub(crate) fn end_all(&self, error: &Error) {
        self.frozen.set(false);
        let ids: Vec<_> = self.live.borrow().keys().collect();
        ids.into_iter()
            .for_each(|id| self.finish(id, Err(error.clone())));
    }

    /// What a request does, and to which bytes of the disk.
    pub(crate) fn look_up(&self, id: RequestId) -> Option<(Kind, Range<u64>)> {
        let live = self.live.borrow();
        live.get(id)
            .map(|request| (request.kind, request.range.clone()))
    }

    /// Takes note that a request is cancelled; once it was silently, it stays so. False: it has
    /// ended.
    pub(crate) fn cancel(&self, id: RequestId, how: Cancel) -> bool {
        let mut live = self.live.borrow_mut();
        let request = live.get_mut(id);
        request
            .map(|request| request.is_silent |= how == Cancel::Silent)
            .is_some()
    }

    /// The task that works on a request, if it is one's work.
    pub(crate) fn task(&self, id: RequestId) -> Option<TaskId> {
        self.live.borrow().get(id)?.task
    }

    /// True while the request has not ended.
    pub(crate) fn is_live(&self, id: RequestId) -> bool {
        self.live.borrow().contains_key(id)
    }

    /// How many requests have not ended.
    pub(crate) fn live(&self) -> usize {
        self.live.borrow().len()
    }

    /// How many completions wait to be passed on.
    pub(crate) fn completions(&self) -> usize {
        self.ended.borrow().len()
    }

    /// The next completion to pass on.
    pub(crate) fn next_completion(&self) -> Option<Completion> {
        self.ended.borrow_mut().pop_front()
    }

    /// True if no request is live, and no completion waits to be passed on.
    pub(crate) fn is_idle(&self) -> bool {
        self.live() == 0 && self.completions() == 0
    }
}
