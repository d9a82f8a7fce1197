//! One run: an image is opened on a disk, a guest runs its program, and every decision is a choice.
//! Or attributes of the image are changed.

use std::rc::Rc;
use std::time::Duration;

use fvd::format::header::{Field, span};
use fvd::host::Host;
use fvd::{Attribute, Error, Image, OpenOptions};

use super::content::{Content, SECTOR};
use super::disk::Disk;
use super::guest::{Guest, Request};
use super::host::{Faults, ModelHost, Order};
use super::oracle::Oracle;

/// The name of every image here.
pub(crate) const IMAGE: &str = "image";

/// When the guest submits its next request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timing {
    /// At any moment, whatever is under way.
    AnyTime,
    /// When the one before has ended; of several operations under way, the oldest ends first.
    InTurn,
}

/// What is done with the image.
#[derive(Clone, Copy)]
pub(crate) enum Task<'a> {
    /// A guest has it open; its first request is, as a write, number `first_write`.
    Use {
        program: &'a [Request],
        timing: Timing,
        first_write: u32,
    },
    /// A tool changes attributes of it.
    Update(&'a [Attribute]),
}

/// What to run.
#[derive(Clone)]
pub(crate) struct Plan<'a> {
    pub(crate) disk: &'a Disk,
    /// What the guest's disk may read at the beginning.
    pub(crate) oracle: Oracle,
    pub(crate) task: Task<'a>,
    pub(crate) faults: Faults,
    pub(crate) options: OpenOptions,
    /// The disk is one that a crash left, so what it reads is to be looked at; `Some(false)`: a
    /// failed flush left something of it that no later one saves.
    pub(crate) crashed: Option<bool>,
}

impl Plan<'_> {
    /// A guest that has not started.
    pub(crate) fn guest(&self) -> Rc<Guest> {
        let first_write = match self.task {
            Task::Use { first_write, .. } => first_write,
            Task::Update(_) => 0,
        };
        Guest::new(self.oracle.clone(), first_write, self.options.write_through)
    }
}

/// What the disk of a crashed image read, and how many events there had been by then.
pub(crate) type Observed = (Vec<Content>, usize);

/// Runs the plan once. What was wrong, the guest knows.
pub(crate) fn run(plan: &Plan<'_>, host: &Rc<ModelHost>, guest: &Guest) -> Option<Observed> {
    let library_host: Rc<dyn Host> = Rc::<ModelHost>::clone(host);
    let (program, timing) = match plan.task {
        Task::Use {
            program, timing, ..
        } => (program, timing),
        Task::Update(attributes) => {
            let result = Image::update(&library_host, IMAGE, attributes, &plan.options);
            check_result(result, "the update fails", host, guest)?;
            host.look();
            return None;
        }
    };
    let opened = Image::open(&library_host, IMAGE, &plan.options);
    let image = check_result(opened, "the image does not open", host, guest)?;
    let observed = plan.crashed.map(|binding| {
        let contents = read_all(&image, host, guest, plan.oracle.sectors());
        guest.observed(&contents, binding);
        (contents, host.events.borrow().len())
    });
    if timing == Timing::InTurn {
        host.order.set(Order::Oldest);
    }
    match drive(program, timing, host, guest, &image) {
        Next::Close => close(image, host, guest),
        Next::End => {
            if !host.is_gone() {
                let contents = read_all(&image, host, guest, plan.oracle.sectors());
                guest.check_read(&contents);
            }
            // SAFETY: nobody polls this host again, and only then would it touch memory.
            unsafe { image.abandon() };
        }
    }
    observed
}

/// Takes note of how something ended that only a fault of the host may keep from ending well.
fn check_result<T>(
    result: Result<T, Error>,
    complaint: &str,
    host: &ModelHost,
    guest: &Guest,
) -> Option<T> {
    match &result {
        Ok(_) => host.note(|| "done".to_owned()),
        Err(error) => {
            if host.look() && !host.faulted.get() {
                guest.complain(format!("{complaint}: {error}"));
            }
        }
    }
    result.ok()
}

/// What is left to do.
enum Next {
    Close,
    End,
}

/// Lets things happen and submits requests, until the program is through or must close.
fn drive(
    program: &[Request],
    timing: Timing,
    host: &ModelHost,
    guest: &Guest,
    image: &Image,
) -> Next {
    while guest.wrong().is_none() && host.look() {
        let next = program.get(guest.submitted());
        let next = next.filter(|_| timing == Timing::AnyTime || guest.is_idle());
        let ways = host.ways();
        if ways == 0 && next.is_none() {
            if !guest.is_idle() {
                guest.complain("a request does not end, and nothing is under way".to_owned());
            }
            return Next::End;
        }
        match (host.choose(ways + usize::from(next.is_some())), next) {
            (way, _) if way < ways => host.pick(way),
            (_, Some(Request::Close)) => return Next::Close,
            (_, Some(request)) => {
                host.note(|| format!("submitted: {request}"));
                guest.submit(image, request);
                host.pick_nothing();
            }
            (_, None) => unreachable!("every way is one of those"),
        }
        // A poll that finds callbacks due runs them first, and nothing else.
        while host.has_pick() {
            image.poll(Some(Duration::ZERO));
        }
    }
    Next::End
}

fn close(image: Image, host: &ModelHost, guest: &Guest) {
    host.note(|| "closing".to_owned());
    guest.closing();
    let result = image.close();
    if host.is_gone() {
        return;
    }
    host.note(|| format!("closed: {result:?}"));
    guest.closed(result.is_ok());
    let place = span(Field::CleanShutdown).start;
    let sector = &host.disk.borrow().files[0].sectors[place / SECTOR];
    let flag = sector.durable.bytes()[place % SECTOR];
    if result.is_ok() && (flag == 0 || !sector.later.is_empty()) {
        guest.complain("a good close does not leave clean_shutdown = 1".to_owned());
    }
    host.look();
}

/// Reads the first `sectors` of the guest's disk; that is no part of what is explored. All behind
/// them is new, and must be zero.
fn read_all(image: &Image, host: &ModelHost, guest: &Guest, sectors: usize) -> Vec<Content> {
    let order = host.order.replace(Order::Quiet);
    let size = usize::try_from(image.virtual_size()).expect("a tiny disk");
    let mut bytes = vec![0xEE; size];
    if let Err(error) = image.read_at(0, &mut bytes) {
        guest.complain(format!("the disk cannot be read: {error}"));
    }
    host.order.set(order);
    if bytes[sectors * SECTOR..].iter().any(|byte| *byte != 0) {
        guest.complain("the part by which the disk has grown is not zero".to_owned());
    }
    bytes.as_chunks::<SECTOR>().0[..sectors]
        .iter()
        .map(Content::of_bytes)
        .collect()
}
