//! The executor: requests that need more than one step, as `async fn`s, without a runtime.
//!
//! A task asks for an operation and awaits its [`Ticket`]; the operation goes into the queue of
//! effects, which whoever owns the engine hands to the host after the engine has returned. The
//! host's answer carries the operation's token, the token knows its task, and the task runs on. No
//! wakers: a result says which task waits for it, and so does everything else that a task can wait
//! for ([`WaitList`]).
//!
//! The invariant that everything above leans on: **a task is never dropped while an operation of it
//! is outstanding**. [`Executor::cancel`] only marks a task whose operations are under way; its
//! future, and with it the task's locks, buffers and chunks, goes when the last of them is
//! reported. A task may be polled although nothing that it waits for has come: every wait looks
//! again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use slotmap::{Key, KeyData, SlotMap, new_key_type};

use crate::host::{
    FileId, HostError, Memory, OpKind, OpenRequest, OpenedFile, Operation, Severity, Token,
};

use super::request::RequestId;

new_key_type! {
    /// Names a task.
    pub(crate) struct TaskId;
    struct OpKey;
}

/// Something that the outside must do.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Start this operation.
    Submit(Operation),
    /// Open this file, and answer with [`Executor::opened`].
    Open(Token, OpenRequest),
    /// Close this file.
    Close(FileId),
    /// Pass this message on.
    Log(Severity, String),
}

/// What became of an answer of the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A task waits for it, and is ready to run.
    Task,
    /// It belongs to a request on the fast path, which is finished by it.
    Request(RequestId),
    /// Nobody waits for it: it came twice, or its token never was one.
    Stray,
}

type Job = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    /// Absent while it runs.
    job: Option<Job>,
    outstanding: u32,
    cancelled: bool,
    step: &'static str,
}

enum Owner {
    Task(TaskId),
    Request(RequestId),
}

enum Outcome {
    Returned(i64),
    Opened(Result<OpenedFile, HostError>),
}

struct Op {
    owner: Owner,
    outcome: Option<Outcome>,
    /// Held for its `Drop` alone.
    _memory: Option<Memory>,
    #[cfg(debug_assertions)]
    work: Option<(FileId, OpKind)>,
}

impl Op {
    fn new(owner: Owner, memory: Option<Memory>, work: Option<(FileId, OpKind)>) -> Self {
        #[cfg(not(debug_assertions))]
        let _ = work;
        Self {
            owner,
            outcome: None,
            _memory: memory,
            #[cfg(debug_assertions)]
            work,
        }
    }

    /// True if it is under way on any byte of `range` of `file`.
    #[cfg(debug_assertions)]
    fn touches(&self, file: FileId, range: &Range<u64>) -> bool {
        let Some((at, kind)) = self.work.filter(|_| self.outcome.is_none()) else {
            return false;
        };
        let (start, len) = match kind {
            OpKind::Read { offset, iov } | OpKind::Write { offset, iov } => (offset, iov.len()),
            OpKind::WriteZeroes { offset, len } => (offset, len),
            OpKind::Flush | OpKind::Truncate { .. } | OpKind::Grow { .. } => return false,
        };
        at == file && start < range.end && range.start < start + len
    }
}

/// Tasks, the operations they wait for, and the effects they asked for.
#[derive(Default)]
pub(crate) struct Executor {
    tasks: RefCell<SlotMap<TaskId, Task>>,
    ops: RefCell<SlotMap<OpKey, Op>>,
    ready: RefCell<VecDeque<TaskId>>,
    effects: RefCell<VecDeque<Effect>>,
    running: Cell<Option<TaskId>>,
}

impl Executor {
    /// Adds a task; it takes its first step in the next [`run`](Self::run).
    pub(crate) fn spawn(&self, job: impl Future<Output = ()> + 'static) -> TaskId {
        let task = Task {
            job: Some(Box::pin(job)),
            outstanding: 0,
            cancelled: false,
            step: "start",
        };
        let id = self.tasks.borrow_mut().insert(task);
        self.ready.borrow_mut().push_back(id);
        id
    }

    /// Runs every task that can go on, until none can.
    pub(crate) fn run(&self) {
        debug_assert!(
            self.running.get().is_none(),
            "the executor is not re-entrant"
        );
        loop {
            let Some(id) = self.ready.borrow_mut().pop_front() else {
                return;
            };
            let Some(mut job) = self.take_job(id) else {
                continue;
            };
            match self.poll(id, &mut job) {
                Poll::Pending => self.put_back(id, job),
                Poll::Ready(()) => self.finish(id, job),
            }
        }
    }

    fn poll(&self, id: TaskId, job: &mut Job) -> Poll<()> {
        /// A task that panics is not running any more either.
        struct Running<'a>(&'a Cell<Option<TaskId>>);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                self.0.set(None);
            }
        }
        self.running.set(Some(id));
        let _running = Running(&self.running);
        job.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// The task's future, to be polled; a cancelled one with nothing outstanding is dropped
    /// instead.
    fn take_job(&self, id: TaskId) -> Option<Job> {
        let mut tasks = self.tasks.borrow_mut();
        let task = tasks.get_mut(id)?;
        if !task.cancelled {
            return task.job.take();
        }
        if task.outstanding == 0 {
            let gone = tasks.remove(id);
            drop(tasks);
            drop(gone);
        }
        None
    }

    fn put_back(&self, id: TaskId, job: Job) {
        self.tasks.borrow_mut()[id].job = Some(job);
    }

    fn finish(&self, id: TaskId, job: Job) {
        let task = self.tasks.borrow_mut().remove(id);
        let task = task.expect("a task stays in the map while it runs");
        let Task {
            outstanding, step, ..
        } = task;
        assert_eq!(
            outstanding, 0,
            "a task ended in step '{step}' with I/O under way"
        );
        drop(job);
    }

    /// Stops a task: it takes no further step, and goes in a [`run`](Self::run) as soon as nothing
    /// of it is outstanding.
    pub(crate) fn cancel(&self, id: TaskId) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(id) {
            task.cancelled = true;
            self.wake(id);
        }
    }

    /// Lets a task take another look at what it waits for.
    pub(crate) fn wake(&self, id: TaskId) {
        self.ready.borrow_mut().push_back(id);
    }

    /// The task that is running now.
    ///
    /// # Panics
    /// Where none is: only tasks wait.
    pub(crate) fn current(&self) -> TaskId {
        self.running.get().expect("only a task can wait")
    }

    /// Names the step that the running task is in, for whoever asks what it is doing.
    pub(crate) fn step(&self, step: &'static str) {
        if let Some(task) = self.tasks.borrow_mut().get_mut(self.current()) {
            task.step = step;
        }
    }

    /// The step of each live task, with how many operations it waits for.
    pub(crate) fn steps(&self) -> Vec<(&'static str, u32)> {
        self.tasks
            .borrow()
            .values()
            .map(|t| (t.step, t.outstanding))
            .collect()
    }

    /// Asks for an operation on behalf of the running task. It keeps `memory` until it is over.
    pub(crate) fn submit(&self, file: FileId, kind: OpKind, memory: Option<Memory>) -> Ticket<'_> {
        let ticket = self.ticket(memory, Some((file, kind)));
        let token = token_of(ticket.op);
        self.effects
            .borrow_mut()
            .push_back(Effect::Submit(Operation { token, file, kind }));
        ticket
    }

    /// True, in a debug build, only if nothing is under way on any byte of `range` of `file`.
    pub(crate) fn is_idle(&self, file: FileId, range: &Range<u64>) -> bool {
        #[cfg(debug_assertions)]
        return !self.ops.borrow().values().any(|op| op.touches(file, range));
        #[cfg(not(debug_assertions))]
        return {
            let _ = (file, range);
            true
        };
    }

    /// Asks for a file on behalf of the running task.
    pub(crate) async fn open(&self, request: OpenRequest) -> Result<OpenedFile, HostError> {
        let ticket = self.ticket(None, None);
        self.effects
            .borrow_mut()
            .push_back(Effect::Open(token_of(ticket.op), request));
        match ticket.outcome().await {
            Outcome::Opened(result) => result,
            Outcome::Returned(_) => unreachable!("an open is answered by `opened`"),
        }
    }

    /// Asks for a file to be closed.
    pub(crate) fn close(&self, file: FileId) {
        self.effects.borrow_mut().push_back(Effect::Close(file));
    }

    /// Passes a message on to whoever looks after the machine.
    pub(crate) fn log(&self, severity: Severity, message: String) {
        self.effects
            .borrow_mut()
            .push_back(Effect::Log(severity, message));
    }

    /// Registers the operation of a request that takes the fast path; the caller submits it.
    pub(crate) fn direct(&self, request: RequestId, file: FileId, kind: OpKind) -> Operation {
        let op = Op::new(Owner::Request(request), None, Some((file, kind)));
        let token = token_of(self.ops.borrow_mut().insert(op));
        Operation { token, file, kind }
    }

    fn ticket(&self, memory: Option<Memory>, work: Option<(FileId, OpKind)>) -> Ticket<'_> {
        let id = self.current();
        self.tasks.borrow_mut()[id].outstanding += 1;
        let op = self
            .ops
            .borrow_mut()
            .insert(Op::new(Owner::Task(id), memory, work));
        Ticket { executor: self, op }
    }

    /// Takes the host's answer to an operation.
    pub(crate) fn answered(&self, token: Token, returned: i64) -> Answer {
        self.settle(token, Outcome::Returned(returned))
    }

    /// Takes the host's answer to [`Effect::Open`].
    pub(crate) fn opened(&self, token: Token, result: Result<OpenedFile, HostError>) {
        self.settle(token, Outcome::Opened(result));
    }

    fn settle(&self, token: Token, outcome: Outcome) -> Answer {
        let key = key_of(token);
        let mut ops = self.ops.borrow_mut();
        let Some(op) = ops.get_mut(key).filter(|op| op.outcome.is_none()) else {
            return Answer::Stray;
        };
        match op.owner {
            Owner::Request(request) => {
                ops.remove(key);
                Answer::Request(request)
            }
            Owner::Task(id) => {
                op.outcome = Some(outcome);
                let mut tasks = self.tasks.borrow_mut();
                let Some(task) = tasks.get_mut(id) else {
                    ops.remove(key); // its task was abandoned
                    return Answer::Stray;
                };
                task.outstanding -= 1;
                self.ready.borrow_mut().push_back(id);
                Answer::Task
            }
        }
    }

    /// The next effect to carry out.
    pub(crate) fn next_effect(&self) -> Option<Effect> {
        self.effects.borrow_mut().pop_front()
    }

    /// How many operations the host has not answered.
    pub(crate) fn outstanding(&self) -> usize {
        self.ops
            .borrow()
            .values()
            .filter(|op| op.outcome.is_none())
            .count()
    }

    /// Drops every task, and forgets the effects: no task takes a step any more. What the tasks
    /// held is released, and files that go with them are asked to be closed. Operations that the
    /// host has not answered keep their memory, in case it does after all.
    pub(crate) fn abandon(&self) {
        for effect in self.effects.take() {
            if let Effect::Submit(operation) = effect {
                self.ops.borrow_mut().remove(key_of(operation.token)); // the host never saw it
            }
        }
        self.ready.borrow_mut().clear();
        // What the tasks give back nobody takes again: it does not matter what is under way there.
        #[cfg(debug_assertions)]
        self.ops
            .borrow_mut()
            .values_mut()
            .for_each(|op| op.work = None);
        // Drained, not replaced: a later task never gets the name of one of these.
        let tasks: Vec<_> = self.tasks.borrow_mut().drain().collect();
        drop(tasks);
    }
}

fn key_of(token: Token) -> OpKey {
    KeyData::from_ffi(token.0).into()
}

fn token_of(op: OpKey) -> Token {
    Token(op.data().as_ffi())
}

/// An operation under way; awaiting it gives what the host returned.
///
/// Every ticket is awaited to its end (see [`File`](super::file::File)): a task that ended with one
/// left would release locks and chunks that the operation still needs, and the executor asserts
/// that none does.
pub(crate) struct Ticket<'a> {
    executor: &'a Executor,
    op: OpKey,
}

impl Ticket<'_> {
    fn take(&self) -> Option<Outcome> {
        let mut ops = self.executor.ops.borrow_mut();
        let outcome = ops.get_mut(self.op)?.outcome.take()?;
        ops.remove(self.op);
        Some(outcome)
    }

    async fn outcome(self) -> Outcome {
        std::future::poll_fn(|_| self.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// What the host returned: bytes, 0, or -errno.
    pub(crate) async fn returned(self) -> i64 {
        match self.outcome().await {
            Outcome::Returned(n) => n,
            Outcome::Opened(_) => unreachable!("only an open is answered by `opened`"),
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        // It is taken already, unless its task was dropped: between the answer and the next step,
        // or abandoned with the operation under way, which then keeps its memory.
        let mut ops = self.executor.ops.borrow_mut();
        if ops.get(self.op).is_some_and(|op| op.outcome.is_some()) {
            ops.remove(self.op);
        }
    }
}

/// Tasks that wait for something to change.
#[derive(Default)]
pub(crate) struct WaitList(RefCell<Vec<TaskId>>);

impl WaitList {
    /// Waits until the next [`wake_all`](Self::wake_all), or a little less: the caller looks again
    /// and waits again where nothing has changed.
    pub(crate) async fn wait(&self, executor: &Executor) {
        self.0.borrow_mut().push(executor.current());
        let mut waited = false;
        std::future::poll_fn(|_| {
            if std::mem::replace(&mut waited, true) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Lets every waiting task look again.
    pub(crate) fn wake_all(&self, executor: &Executor) {
        for id in self.0.borrow_mut().drain(..) {
            executor.wake(id);
        }
    }
}

#[cfg(test)]
mod tests;
