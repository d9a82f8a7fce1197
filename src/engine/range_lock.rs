//! Range locks: who works on which part of the disk, first come, first served.
//!
//! Holders and waiters stand in one list in order of arrival. A range is held once no earlier range
//! in the list overlaps it; so two waiters that do not touch each other pass independently, and
//! nobody is overtaken by a later one on the same block. (The order in which the engine takes
//! several locks is in [`write`](mod@super::write).) A guard gives its range back when it is
//! dropped, by success, error or cancel alike.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::task::{Executor, TaskId};

struct Entry {
    ticket: u64,
    range: Range<u64>,
    task: TaskId,
}

/// A set of locks over ranges of one space.
#[derive(Default)]
pub(crate) struct RangeLock {
    entries: RefCell<Vec<Entry>>,
    next_ticket: Cell<u64>,
}

impl RangeLock {
    /// Waits until no earlier holder or waiter overlaps `range`, and holds it.
    pub(crate) async fn lock<'a>(
        &'a self,
        executor: &'a Executor,
        range: Range<u64>,
    ) -> RangeGuard<'a> {
        let guard = self.enqueue(executor, range);
        std::future::poll_fn(|_| match self.is_first(guard.ticket) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        })
        .await;
        guard
    }

    /// Holds `range` if nobody holds or waits for any of it.
    pub(crate) fn try_lock<'a>(
        &'a self,
        executor: &'a Executor,
        range: Range<u64>,
    ) -> Option<RangeGuard<'a>> {
        let free = !self
            .entries
            .borrow()
            .iter()
            .any(|e| overlap(&e.range, &range));
        free.then(|| self.enqueue(executor, range))
    }

    fn enqueue<'a>(&'a self, executor: &'a Executor, range: Range<u64>) -> RangeGuard<'a> {
        let ticket = self.next_ticket.replace(self.next_ticket.get() + 1);
        self.entries.borrow_mut().push(Entry {
            ticket,
            range,
            task: executor.current(),
        });
        RangeGuard {
            lock: self,
            executor,
            ticket,
        }
    }

    /// True if nobody holds or waits for anything.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.borrow().is_empty()
    }

    fn is_first(&self, ticket: u64) -> bool {
        let entries = self.entries.borrow();
        let at = entries
            .iter()
            .position(|e| e.ticket == ticket)
            .expect("the guard is alive");
        let mine = &entries[at].range;
        !entries[..at].iter().any(|e| overlap(&e.range, mine))
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

/// A range that is held, or waited for.
pub(crate) struct RangeGuard<'a> {
    lock: &'a RangeLock,
    executor: &'a Executor,
    ticket: u64,
}

impl Drop for RangeGuard<'_> {
    fn drop(&mut self) {
        let mut entries = self.lock.entries.borrow_mut();
        let at = entries
            .iter()
            .position(|e| e.ticket == self.ticket)
            .expect("dropped once");
        let gone = entries.remove(at);
        for waiting in entries[at..]
            .iter()
            .filter(|e| overlap(&e.range, &gone.range))
        {
            self.executor.wake(waiting.task);
        }
    }
}
