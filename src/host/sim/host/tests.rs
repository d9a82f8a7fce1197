//! Stories about the host: what it does to operations, and what it does not put up with.

use std::collections::BTreeSet;

use super::*;
use crate::host::sim::Faults;
use crate::host::{IoVecs, Role};

const LEN: usize = 512;

/// A host with one file of four sectors, opened; and memory for operations.
struct Bench {
    host: SimHost,
    file: FileId,
    buffers: Vec<(Box<[u8; LEN]>, Box<libc::iovec>)>,
}

fn request(access: Access) -> OpenRequest {
    OpenRequest {
        role: Role::Metadata,
        name: "disk".into(),
        beneath: None,
        access,
    }
}

impl Bench {
    fn new(seed: u64, knobs: Knobs) -> Self {
        let host = SimHost::new(Prng::new(seed), knobs, Rc::new(Trace::default()));
        let bytes = vec![0; 4 * LEN];
        host.add_file(FileSpec {
            name: "disk".into(),
            bytes,
            is_device: false,
            protected: false,
        });
        let file = host.open(&request(Access::ReadWrite)).unwrap().id;
        Self {
            host,
            file,
            buffers: Vec::new(),
        }
    }

    fn memory(&mut self, byte: u8) -> IoVecs {
        let mut buffer = Box::new([byte; LEN]);
        let iov = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: LEN,
        };
        let list = Box::new(iov);
        let pointer: *const libc::iovec = &raw const *list;
        self.buffers.push((buffer, list));
        // SAFETY: the bench keeps list and buffer until its end.
        unsafe { IoVecs::from_raw(pointer, 1) }
    }

    fn write(&mut self, token: u64, sector: u64, byte: u8) {
        let iov = self.memory(byte);
        self.submit(
            token,
            OpKind::Write {
                offset: sector * LEN as u64,
                iov,
            },
        );
    }

    fn submit(&self, token: u64, kind: OpKind) {
        self.host.submit(Operation {
            token: Token(token),
            file: self.file,
            kind,
        });
    }

    /// Everything that is reported until nothing can happen any more.
    fn reports(&self) -> Vec<(u64, i64)> {
        let mut seen = Vec::new();
        while self
            .host
            .poll(None, &mut |token, result| seen.push((token.0, result)))
        {}
        seen
    }

    fn content(&self) -> Vec<u8> {
        self.host
            .look("disk", |file| {
                file.bytes().chunks(LEN).map(|s| s[0]).collect()
            })
            .unwrap()
    }
}

fn hasty() -> Knobs {
    Knobs {
        apply_us: 20,
        report_us: 20,
        ..Knobs::default()
    }
}

#[test]
fn operations_overtake_each_other_and_are_reported_once() {
    let mut orders = BTreeSet::new();
    for seed in 0..50 {
        let mut bench = Bench::new(seed, hasty());
        (0..3).for_each(|n| bench.write(n, n, 7));
        let reports = bench.reports();
        assert!(reports.iter().all(|(_, result)| *result == LEN as i64));
        orders.insert(reports.iter().map(|(token, _)| *token).collect::<Vec<_>>());
        assert_eq!(bench.content(), [7, 7, 7, 0]);
    }
    assert_eq!(orders.len(), 6, "every order of three occurs");
}

#[test]
fn a_poll_waits_no_longer_than_it_may() {
    let mut bench = Bench::new(
        1,
        Knobs {
            apply_us: 10_000,
            ..Knobs::default()
        },
    );
    bench.write(1, 0, 7);
    let mut none = |_, _| panic!("nothing is reported within a microsecond");
    assert!(bench.host.poll(Some(Duration::from_micros(1)), &mut none));
    assert_eq!((bench.host.now_us(), bench.host.in_flight()), (1, 1));
    assert_eq!(bench.reports().len(), 1);
    assert!(!bench.host.poll(None, &mut none));
}

#[test]
fn after_its_death_a_host_reports_nothing_until_it_is_revived() {
    let mut bench = Bench::new(1, hasty());
    bench.write(1, 0, 7);
    bench.host.crash(Crash::Kill);
    bench.write(2, 1, 8);
    assert_eq!(bench.reports(), []);
    assert!(bench.host.open(&request(Access::ReadOnly)).is_err());
    bench.host.revive();
    assert_eq!(
        bench.content()[1],
        0,
        "what a dead host is given never happens"
    );
    assert!(
        bench.host.open(&request(Access::ReadWrite)).is_ok(),
        "locks die with their owner"
    );
}

#[test]
fn a_crash_comes_after_as_many_events_as_planned() {
    for events in 0..4 {
        let mut bench = Bench::new(1, hasty());
        bench
            .host
            .plan_crash(Some((When::Events(events), Crash::PowerCut)));
        (0..2).for_each(|n| bench.write(n, n, 7));
        bench.reports();
        assert_eq!(bench.host.dead(), Some(Crash::PowerCut));
        assert_eq!(bench.host.stats().events, events);
    }
}

#[test]
fn a_crash_comes_instead_of_the_planned_flush() {
    let mut bench = Bench::new(1, Knobs::default());
    bench.host.plan_crash(Some((When::Flushes(1), Crash::Kill)));
    bench.write(1, 0, 7);
    bench.submit(2, OpKind::Flush);
    assert_eq!(bench.reports().len(), 2);
    bench.submit(3, OpKind::Flush);
    assert_eq!(bench.reports(), []);
    assert_eq!(bench.host.dead(), Some(Crash::Kill));
}

#[test]
fn a_write_in_flight_at_a_kill_happens_or_not() {
    let content = |seed| {
        let mut bench = Bench::new(seed, hasty());
        bench.write(1, 0, 7);
        bench.host.crash(Crash::Kill);
        bench.content()[0]
    };
    assert_eq!(
        Vec::from_iter((0..30).map(content).collect::<BTreeSet<_>>()),
        [0, 7]
    );
}

#[test]
fn what_a_flush_covered_survives_every_power_cut() {
    for seed in 0..100 {
        let mut bench = Bench::new(seed, hasty());
        bench.write(1, 0, 7);
        bench.reports();
        bench.write(2, 1, 8);
        bench.submit(3, OpKind::Flush);
        bench.reports();
        bench.host.crash(Crash::PowerCut);
        assert_eq!(bench.content()[0], 7);
    }
}

#[test]
fn faults_are_reported_and_counted() {
    let faults = Faults {
        read: 1000,
        write: 1000,
        length: 1000,
        flush: 1000,
        ..Faults::default()
    };
    let mut bench = Bench::new(1, Knobs { faults, ..hasty() });
    let iov = bench.memory(9);
    bench.submit(1, OpKind::Read { offset: 0, iov });
    bench.write(2, 0, 7);
    bench.submit(3, OpKind::Truncate { len: 512 });
    bench.submit(4, OpKind::Flush);
    assert!(
        bench
            .reports()
            .iter()
            .all(|(_, result)| *result == -i64::from(libc::EIO))
    );
    let stats = bench.host.stats();
    assert_eq!((stats.errors, stats.failed_flushes), (4, 1));
}

#[test]
fn one_writer_or_many_readers() {
    let bench = Bench::new(1, hasty());
    let open = |access| bench.host.open(&request(access)).map(|opened| opened.id);
    assert_eq!(open(Access::ReadWrite).unwrap_err().errno, libc::EBUSY);
    assert_eq!(open(Access::ReadOnly).unwrap_err().errno, libc::EBUSY);
    assert!(open(Access::ReadUnlocked).is_ok());
    bench.host.close(bench.file);
    assert!(open(Access::ReadOnly).is_ok());
    assert!(open(Access::ReadOnly).is_ok());
    assert_eq!(open(Access::ReadWrite).unwrap_err().errno, libc::EBUSY);
}

#[test]
#[should_panic(expected = "an operation on an open file")]
fn an_operation_on_a_closed_file_is_a_mistake() {
    let bench = Bench::new(1, hasty());
    bench.host.close(bench.file);
    bench.submit(1, OpKind::Flush);
}

#[test]
#[should_panic(expected = "with operations under way")]
fn a_close_with_operations_under_way_is_a_mistake() {
    let bench = Bench::new(1, hasty());
    bench.submit(1, OpKind::Flush);
    bench.host.close(bench.file);
}

#[test]
#[should_panic(expected = "is a base, opened for writing")]
fn a_base_opened_for_writing_is_a_mistake() {
    let bench = Bench::new(1, hasty());
    bench.host.close(bench.file);
    bench.host.protect("disk");
    let _ = bench.host.open(&request(Access::ReadWrite));
}

#[test]
#[should_panic(expected = "through a read-only open")]
fn a_write_through_a_read_only_open_is_a_mistake() {
    let mut bench = Bench::new(1, hasty());
    bench.host.close(bench.file);
    bench.file = bench.host.open(&request(Access::ReadOnly)).unwrap().id;
    bench.write(1, 0, 7);
}
