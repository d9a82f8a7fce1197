//! What the executor promises: nothing of a task goes while an operation of it is outstanding.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::engine::range_lock::RangeLock;

const FILE: FileId = FileId(7);

/// Takes note when it is dropped.
struct Trace(Rc<Cell<bool>>);

impl Drop for Trace {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

fn submitted(executor: &Executor) -> Vec<Token> {
    std::iter::from_fn(|| match executor.next_effect()? {
        Effect::Submit(operation) => Some(operation.token),
        other => panic!("unexpected {other:?}"),
    })
    .collect()
}

/// A task that awaits `operations` flushes one after the other, and says whether it ended and
/// whether it is gone.
fn task(executor: &Rc<Executor>, operations: usize) -> (TaskId, Rc<Cell<i64>>, Rc<Cell<bool>>) {
    let (sum, gone) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let (inner, trace, exec) = (
        Rc::clone(&sum),
        Trace(Rc::clone(&gone)),
        Rc::clone(executor),
    );
    let id = executor.spawn(async move {
        let _trace = trace;
        for _ in 0..operations {
            let returned = exec.submit(FILE, OpKind::Flush, None).returned().await;
            inner.set(inner.get() + returned);
        }
    });
    (id, sum, gone)
}

#[test]
fn a_task_goes_on_when_its_operation_is_answered() {
    let executor = Rc::new(Executor::default());
    let (_, sum, gone) = task(&executor, 2);
    for _ in 0..2 {
        executor.run();
        let tokens = submitted(&executor);
        assert_eq!(tokens.len(), 1);
        assert_eq!(executor.answered(tokens[0], 5), Answer::Task);
    }
    assert!(!gone.get());
    executor.run();
    assert_eq!((sum.get(), gone.get()), (10, true));
}

#[test]
fn late_doubled_and_invented_answers_are_strays() {
    let executor = Rc::new(Executor::default());
    task(&executor, 1);
    executor.run();
    let token = submitted(&executor)[0];
    assert_eq!(executor.answered(token, 0), Answer::Task);
    assert_eq!(executor.answered(token, 0), Answer::Stray, "doubled");
    executor.run();
    assert_eq!(executor.answered(token, 0), Answer::Stray, "late");
    assert_eq!(
        executor.answered(Token(u64::MAX), 0),
        Answer::Stray,
        "invented"
    );
}

#[test]
fn a_cancelled_task_keeps_everything_until_its_operation_is_answered() {
    let executor = Rc::new(Executor::default());
    let (id, sum, gone) = task(&executor, 2);
    executor.run();
    let token = submitted(&executor)[0];
    executor.cancel(id);
    executor.run();
    assert!(!gone.get(), "dropped under an operation");
    assert_eq!(executor.outstanding(), 1);
    executor.answered(token, 5);
    executor.run();
    assert_eq!(
        (sum.get(), gone.get()),
        (0, true),
        "it took no further step"
    );
    assert!(executor.next_effect().is_none() && executor.steps().is_empty());
}

#[test]
fn a_task_that_waits_for_a_lock_is_cancelled_at_once_and_lets_the_next_pass() {
    let executor = Rc::new(Executor::default());
    let lock = Rc::new(RangeLock::default());
    let order = Rc::new(RefCell::new(Vec::new()));
    let holder = |name: &'static str, range: std::ops::Range<u64>| {
        let (exec, lock, order) = (Rc::clone(&executor), Rc::clone(&lock), Rc::clone(&order));
        executor.spawn(async move {
            let _guard = lock.lock(&exec, range).await;
            order.borrow_mut().push(name);
            exec.submit(FILE, OpKind::Flush, None).returned().await;
        })
    };
    holder("first", 0..10);
    let second = holder("second", 5..15);
    holder("third", 12..20);
    holder("elsewhere", 30..40);
    executor.run();
    assert_eq!(
        *order.borrow(),
        ["first", "elsewhere"],
        "third does not overtake second"
    );
    executor.cancel(second);
    executor.run();
    assert_eq!(*order.borrow(), ["first", "elsewhere", "third"]);
    for token in submitted(&executor) {
        executor.answered(token, 0);
    }
    executor.run();
    assert!(lock.is_idle());
}

#[test]
fn a_cancel_between_the_answer_and_the_next_step_drops_the_task() {
    let executor = Rc::new(Executor::default());
    let (id, sum, gone) = task(&executor, 1);
    executor.run();
    executor.answered(submitted(&executor)[0], 5);
    executor.cancel(id);
    executor.run();
    assert_eq!(
        (sum.get(), gone.get(), executor.outstanding()),
        (0, true, 0)
    );
}

#[test]
fn a_wait_list_wakes_everybody() {
    let executor = Rc::new(Executor::default());
    let list = Rc::new(WaitList::default());
    let woken = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let (exec, list, woken) = (Rc::clone(&executor), Rc::clone(&list), Rc::clone(&woken));
        executor.spawn(async move {
            list.wait(&exec).await;
            woken.set(woken.get() + 1);
        });
    }
    executor.run();
    assert_eq!(woken.get(), 0);
    list.wake_all(&executor);
    executor.run();
    assert_eq!(woken.get(), 3);
}

#[test]
fn an_operation_of_an_abandoned_task_keeps_its_memory_until_it_is_answered() {
    let executor = Rc::new(Executor::default());
    let buffer = Rc::new(crate::host::Buffer::zeroed(512).unwrap());
    let (exec, memory) = (Rc::clone(&executor), Memory::of(&buffer));
    executor.spawn(async move {
        let kind = OpKind::Read {
            offset: 0,
            iov: memory.iovecs(),
        };
        exec.submit(FILE, kind, Some(memory)).returned().await;
    });
    executor.run();
    let token = submitted(&executor)[0];
    executor.abandon();
    assert_eq!((Rc::strong_count(&buffer), executor.outstanding()), (2, 1));
    executor.answered(token, 512);
    executor.run();
    assert_eq!((Rc::strong_count(&buffer), executor.outstanding()), (1, 0));
}
