//! The host of the search: a disk in memory whose every answer is a choice.
//!
//! Whatever is under way stays so until the search picks it; then it happens and is reported in one
//! step. (That it happens earlier than it is reported adds nothing: a crash in between leaves no
//! disk that a crash just before or just after does not leave too.) Before each pick somebody may
//! look: that is where crashes are enumerated, and where a run is cut whose state was seen before.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use fvd::host::{
    Access, FileId, Host, HostError, OpKind, OpenRequest, OpenedFile, Operation, Severity, Token,
};

use super::choice::Choices;
use super::content::{Content, SECTOR};
use super::disk::{Action, Disk, Ending};

/// Who picks what happens next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// The oldest operation, and nobody looks: for what is no part of the search.
    Quiet,
    /// The oldest operation.
    Oldest,
    /// The choices: every order.
    Any,
}

/// Operations that are made to fail, at most one a run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Faults {
    /// None.
    None,
    /// A read, a write or a truncation.
    Io,
    /// A flush.
    Flush,
}

/// What happened in a run, for the story that a failure tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// Something the driver did.
    Note(String),
    /// An operation ended.
    Ended {
        file: &'static str,
        action: Action,
        ending: Ending,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (file, action, ending) = match self {
            Self::Note(text) => return f.write_str(text),
            Self::Ended {
                file,
                action,
                ending,
            } => (file, action, ending),
        };
        match action {
            Action::Read { offset, len } => write!(f, "{file}: read {len} bytes at {offset}"),
            Action::Flush => write!(f, "{file}: flush"),
            Action::Truncate { length } => write!(f, "{file}: truncate to {length} sectors"),
            Action::Write { first, contents } => {
                write!(f, "{file}: write {} sectors at {first}:", contents.len())?;
                contents
                    .iter()
                    .try_for_each(|content| write!(f, " {content}"))
            }
        }?;
        if *ending == Ending::Good {
            Ok(())
        } else {
            write!(f, " -> {ending:?}")
        }
    }
}

/// Who looks at the disk before something happens to it, and says whether the run is of interest
/// still.
pub(crate) trait Watch {
    fn look(&self, host: &ModelHost) -> bool;

    /// An operation has been made to fail: a flush, or another.
    fn failed(&self, flush: bool);
}

/// The disk, what is under way on it, and how the run goes on.
pub(crate) struct ModelHost {
    pub(crate) disk: RefCell<Disk>,
    pub(crate) choices: RefCell<Choices>,
    pub(crate) events: RefCell<Vec<Event>>,
    pub(crate) order: Cell<Order>,
    faults: Cell<Faults>,
    /// An operation was made to fail.
    pub(crate) faulted: Cell<bool>,
    watch: RefCell<Option<Rc<dyn Watch>>>,
    /// What the driver has decided on for the next poll.
    next: Cell<Option<Pick>>,
    gone: Cell<bool>,
    /// The operations under way, in the order of `disk.pending`.
    operations: RefCell<Vec<Operation>>,
    handles: RefCell<Vec<Handle>>,
}

/// What a poll does.
#[derive(Clone, Copy)]
enum Pick {
    Way(usize),
    Nothing,
}

struct Handle {
    file: usize,
    writable: bool,
    open: bool,
}

impl ModelHost {
    /// A host over `disk` whose run takes `choices`.
    pub(crate) fn new(disk: Disk, choices: Choices, faults: Faults) -> Rc<Self> {
        Rc::new(Self {
            disk: RefCell::new(disk),
            choices: RefCell::new(choices),
            events: RefCell::default(),
            order: Cell::new(Order::Quiet),
            faults: Cell::new(faults),
            faulted: Cell::new(false),
            watch: RefCell::new(None),
            next: Cell::new(None),
            gone: Cell::new(false),
            operations: RefCell::default(),
            handles: RefCell::default(),
        })
    }

    /// From now on `watch` looks before each event, and the choices pick it.
    pub(crate) fn watched_by(&self, watch: Rc<dyn Watch>) {
        *self.watch.borrow_mut() = Some(watch);
        self.order.set(Order::Any);
    }

    /// How many files are open.
    pub(crate) fn open_files(&self) -> usize {
        self.handles
            .borrow()
            .iter()
            .filter(|handle| handle.open)
            .count()
    }

    /// Lets the watcher look now. False: the run is of no more interest, and the host is gone.
    pub(crate) fn look(&self) -> bool {
        if self.order.get() == Order::Quiet || self.gone.get() {
            return !self.gone.get();
        }
        let watch = self.watch.borrow().clone();
        if watch.is_some_and(|watch| !watch.look(self)) {
            self.gone.set(true);
        }
        !self.gone.get()
    }

    /// True once the host has stopped to answer.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// How many things can happen next.
    pub(crate) fn ways(&self) -> usize {
        match self.order.get() {
            Order::Any => self.endings().count_all(),
            _ => self.operations.borrow().len().min(1),
        }
    }

    /// Picks what the next poll does.
    pub(crate) fn pick(&self, way: usize) {
        self.next.set(Some(Pick::Way(way)));
    }

    /// Lets the next poll do nothing.
    pub(crate) fn pick_nothing(&self) {
        self.next.set(Some(Pick::Nothing));
    }

    /// True while what was picked has not happened.
    pub(crate) fn has_pick(&self) -> bool {
        self.next.get().is_some()
    }

    /// Takes one of `ways` ways.
    pub(crate) fn choose(&self, ways: usize) -> usize {
        match self.order.get() {
            Order::Any => self.choices.borrow_mut().choose(ways),
            _ => 0,
        }
    }

    /// Takes note of something for the story.
    pub(crate) fn note(&self, text: impl FnOnce() -> String) {
        self.events.borrow_mut().push(Event::Note(text()));
    }

    fn endings(&self) -> Endings {
        let faults = if self.faulted.get() {
            Faults::None
        } else {
            self.faults.get()
        };
        let disk = self.disk.borrow();
        let of = |action: &Action| -> &'static [Ending] {
            use Ending::{Deceived, Good, PagesDropped, PagesKept, Refused, Torn};
            match (action, faults) {
                (Action::Read { .. }, Faults::Io) => &[Good, Refused],
                (Action::Write { .. }, Faults::Io) => &[Good, Refused, Torn, Deceived],
                (Action::Truncate { .. }, Faults::Io) => &[Good, Refused, Deceived],
                (Action::Flush, Faults::Flush) => &[Good, PagesKept, PagesDropped],
                _ => &[Good],
            }
        };
        Endings(
            disk.pending
                .iter()
                .map(|pending| of(&pending.action))
                .collect(),
        )
    }

    /// Ends one operation, and says what its answer is.
    fn end_one(&self, way: usize) -> (Token, i64) {
        let (at, ending) = self.endings().get(way);
        let operation = self.operations.borrow_mut().remove(at);
        let mut disk = self.disk.borrow_mut();
        let pending = disk.pending[at].clone();
        if ending != Ending::Good {
            self.faulted.set(true);
            let watch = self.watch.borrow().clone();
            watch.inspect(|watch| watch.failed(pending.action == Action::Flush));
        }
        let answer = match &pending.action {
            _ if ending != Ending::Good => -i64::from(libc::EIO),
            Action::Read { offset, len } => {
                let mut bytes = vec![0; usize::try_from(*len).expect("a small read")];
                let n = disk.read(pending.file, *offset, &mut bytes);
                let OpKind::Read { iov, .. } = operation.kind else {
                    unreachable!("it is a read")
                };
                iov.fill_from(&bytes[..n]);
                n as i64
            }
            Action::Write { contents, .. } => {
                let now = Self::action(operation.kind);
                assert!(
                    now == pending.action,
                    "the memory of a write changed while it was under way"
                );
                match operation.kind {
                    OpKind::Write { .. } => (contents.len() * SECTOR) as i64,
                    _ => 0,
                }
            }
            Action::Flush | Action::Truncate { .. } => 0,
        };
        disk.complete(at, ending);
        let file = disk.files[pending.file].name;
        self.events.borrow_mut().push(Event::Ended {
            file,
            action: pending.action,
            ending,
        });
        (operation.token, answer)
    }

    fn action(kind: OpKind) -> Action {
        match kind {
            OpKind::Read { offset, iov } => Action::Read {
                offset,
                len: iov.len(),
            },
            OpKind::Write { offset, iov } => {
                let mut bytes = vec![0; usize::try_from(iov.len()).expect("a small write")];
                iov.copy_to(&mut bytes);
                let (sectors, rest) = bytes.as_chunks::<SECTOR>();
                assert!(rest.is_empty(), "a write of half a sector");
                let contents = sectors.iter().map(Content::of_bytes).collect();
                Action::Write {
                    first: sector(offset),
                    contents,
                }
            }
            OpKind::WriteZeroes { offset, len } => Action::Write {
                first: sector(offset),
                contents: vec![super::content::ZERO; sector(len)],
            },
            OpKind::Flush => Action::Flush,
            OpKind::Truncate { len } => Action::Truncate {
                length: u32::try_from(sector(len)).expect("a small file"),
            },
            OpKind::Grow { .. } => unreachable!("only devices grow"),
        }
    }
}

/// What can happen next: how each operation under way can end.
struct Endings(Vec<&'static [Ending]>);

impl Endings {
    fn count_all(&self) -> usize {
        self.0.iter().map(|endings| endings.len()).sum()
    }

    fn get(&self, way: usize) -> (usize, Ending) {
        let all = self.0.iter().enumerate();
        let mut all = all.flat_map(|(at, endings)| endings.iter().map(move |ending| (at, *ending)));
        all.nth(way).expect("a way that exists")
    }
}

fn sector(bytes: u64) -> usize {
    let bytes = usize::try_from(bytes).expect("a small file");
    assert!(
        bytes.is_multiple_of(SECTOR),
        "{bytes} bytes are not whole sectors"
    );
    bytes / SECTOR
}

// SAFETY: an operation that has been answered, or lost in a crash, is forgotten.
unsafe impl Host for ModelHost {
    fn open(&self, request: &OpenRequest) -> Result<OpenedFile, HostError> {
        let disk = self.disk.borrow();
        let name = request.name.rsplit('/').next().expect("a name");
        let found = disk.files.iter().position(|file| file.name == name);
        let file = found.unwrap_or_else(|| panic!("the library opens '{}'", request.name));
        let writable = matches!(request.access, Access::ReadWrite | Access::Create);
        assert!(
            !(writable && disk.files[file].fixed),
            "the base is opened for writing"
        );
        let mut handles = self.handles.borrow_mut();
        let id = FileId(u32::try_from(handles.len()).expect("few handles"));
        handles.push(Handle {
            file,
            writable,
            open: true,
        });
        let length = u64::from(disk.files[file].length.view()) * SECTOR as u64;
        Ok(OpenedFile {
            id,
            length,
            is_device: false,
        })
    }

    fn close(&self, file: FileId) {
        let handle = &mut self.handles.borrow_mut()[file.0 as usize];
        assert!(
            std::mem::replace(&mut handle.open, false),
            "a file is closed twice"
        );
        let under_way = self
            .disk
            .borrow()
            .pending
            .iter()
            .any(|p| p.file == handle.file);
        assert!(
            !under_way || self.gone.get(),
            "a file is closed with I/O under way"
        );
    }

    fn submit(&self, operation: Operation) {
        if self.gone.get() {
            return;
        }
        let handle = &self.handles.borrow()[operation.file.0 as usize];
        let action = Self::action(operation.kind);
        assert!(handle.open, "an operation on a closed file");
        let harmless = matches!(action, Action::Read { .. } | Action::Flush);
        assert!(
            harmless || handle.writable,
            "{action:?} of a file that is open for reading"
        );
        self.operations.borrow_mut().push(operation);
        self.disk.borrow_mut().submit(handle.file, action);
    }

    fn poll(&self, _timeout: Option<Duration>, done: &mut dyn FnMut(Token, i64)) -> bool {
        let way = match self.next.take() {
            Some(Pick::Nothing) => return !self.gone.get(),
            Some(Pick::Way(way)) => way,
            None if self.ways() == 0 || !self.look() => return false,
            None => self.choose(self.ways()),
        };
        let (token, answer) = self.end_one(way);
        done(token, answer);
        true
    }

    fn log(&self, _severity: Severity, message: &str) {
        self.note(|| format!("log: {message}"));
    }
}
