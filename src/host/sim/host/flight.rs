//! One operation between its submission and its report.

use slotmap::new_key_type;

use super::World;
use crate::host::sim::disk::{SimFile, Stamp, WriteNo};
use crate::host::sim::trace::Trace;
use crate::host::sim::{SECTOR, index};
use crate::host::{Access, FileId, IoVecs, OpKind, Operation, Token};

new_key_type! {
    /// Names an operation in flight.
    pub(super) struct FlightKey;
}

/// An operation in flight.
pub(super) struct Flight {
    pub(super) token: Token,
    pub(super) handle: FileId,
    pub(super) file: usize,
    pub(super) kind: OpKind,
    /// When it was submitted; for a flush.
    pub(super) stamp: Stamp,
    /// Its number once it has changed the file.
    pub(super) write: Option<WriteNo>,
    /// Its result once it has taken effect.
    pub(super) result: Option<i64>,
}

impl Flight {
    pub(super) fn new(operation: &Operation, file: usize, disk: &SimFile) -> Self {
        Self {
            token: operation.token,
            handle: operation.file,
            file,
            kind: operation.kind,
            stamp: disk.flush_begin(),
            write: None,
            result: None,
        }
    }

    /// What the guest of this host must not do.
    pub(super) fn check(&self, access: Access, name: &str) {
        let writes = matches!(access, Access::ReadWrite | Access::Create);
        let reads = matches!(self.kind, OpKind::Read { .. });
        assert!(
            reads || writes,
            "{:?} through a read-only open of {name}",
            self.kind
        );
        let (offset, len) = self.range();
        // A read may end where a file ends that is not whole sectors long: a base.
        let whole = offset % SECTOR as u64 == 0 && (reads || len % SECTOR as u64 == 0);
        assert!(whole, "{:?} of part of a sector of {name}", self.kind);
    }

    /// Offset and length in bytes; of a length or a growth, the length alone.
    pub(super) fn range(&self) -> (u64, u64) {
        match &self.kind {
            OpKind::Read { offset, iov } | OpKind::Write { offset, iov } => (*offset, iov.len()),
            OpKind::WriteZeroes { offset, len } => (*offset, *len),
            OpKind::Truncate { len } | OpKind::Grow { len } => (0, *len),
            OpKind::Flush => (0, 0),
        }
    }

    /// How many bytes it moves.
    pub(super) fn bytes(&self) -> u64 {
        match &self.kind {
            OpKind::Read { iov, .. } | OpKind::Write { iov, .. } => iov.len(),
            OpKind::WriteZeroes { len, .. } => *len,
            OpKind::Flush | OpKind::Truncate { .. } | OpKind::Grow { .. } => 0,
        }
    }

    pub(super) fn note(&self, trace: &Trace, what: &str, name: &str) {
        let (code, verb) = match self.kind {
            OpKind::Read { .. } => (1, "read"),
            OpKind::Write { .. } => (2, "write"),
            OpKind::Flush => (3, "flush"),
            OpKind::WriteZeroes { .. } => (4, "zero"),
            OpKind::Truncate { .. } => (5, "truncate"),
            OpKind::Grow { .. } => (6, "grow"),
        };
        let (offset, len) = self.range();
        let result = self.result.unwrap_or(0);
        trace.note(
            &[code, self.token.0, offset, len, result.cast_unsigned()],
            format_args!(
                "{what} {verb} {name} {offset}+{len} -> {result} ({:x})",
                self.token.0
            ),
        );
    }
}

impl World {
    /// Lets an operation take effect.
    pub(super) fn apply(&mut self, key: FlightKey) {
        let kind = self.flights[key].kind;
        let file = self.flights[key].file;
        let result = match kind {
            OpKind::Read { offset, iov } => self.read(file, offset, &iov),
            OpKind::WriteZeroes { .. } if self.knobs.no_zeroes => errno(libc::EOPNOTSUPP),
            OpKind::Write { .. } | OpKind::WriteZeroes { .. } => self.change(key),
            OpKind::Truncate { .. } if self.rng.chance(self.knobs.faults.length) => {
                errno(libc::EIO)
            }
            OpKind::Truncate { .. } if self.files[file].file.is_device() => errno(libc::EINVAL),
            OpKind::Truncate { .. } => {
                self.take_effect(key, false);
                0
            }
            OpKind::Grow { len } => self.grow(file, len),
            OpKind::Flush if self.rng.chance(self.knobs.faults.flush) => errno(libc::EIO),
            OpKind::Flush => 0,
        };
        self.flights[key].result = Some(result);
    }

    fn read(&mut self, file: usize, offset: u64, iov: &IoVecs) -> i64 {
        if self.rng.chance(self.knobs.faults.read) {
            return errno(libc::EIO);
        }
        count(self.files[file].file.read(offset, iov))
    }

    /// A write, which may fail: without effect, or in some of its sectors.
    fn change(&mut self, key: FlightKey) -> i64 {
        let faults = self.knobs.faults;
        let flight = &self.flights[key];
        let (offset, len) = flight.range();
        let file = &self.files[flight.file].file;
        if self.rng.chance(faults.no_space) || (file.is_device() && offset + len > file.len()) {
            return errno(libc::ENOSPC);
        }
        if self.rng.chance(faults.write) {
            if self.rng.chance(500) {
                self.take_effect(key, true);
            }
            return errno(libc::EIO);
        }
        let zeroes = matches!(self.flights[key].kind, OpKind::WriteZeroes { .. });
        self.take_effect(key, false);
        if zeroes { 0 } else { count(len) }
    }

    /// Changes the file; with `tear`, only in some of the sectors.
    pub(super) fn take_effect(&mut self, key: FlightKey, tear: bool) {
        let flight = &mut self.flights[key];
        let file = &mut self.files[flight.file].file;
        let write = file.begin();
        flight.write = Some(write);
        let tear = tear.then_some(&mut self.rng);
        match flight.kind {
            OpKind::Write { offset, iov } => {
                self.scratch.resize(index(iov.len()), 0);
                iov.copy_to(&mut self.scratch);
                file.write(write, offset, &self.scratch, tear);
            }
            OpKind::WriteZeroes { offset, len } => file.zero(write, offset, len, tear),
            OpKind::Truncate { len } => file.truncate(write, len),
            OpKind::Read { .. } | OpKind::Flush | OpKind::Grow { .. } => {
                unreachable!("only writes take effect")
            }
        }
    }

    /// Makes a device at least `len` bytes long; what it gains is garbage.
    fn grow(&mut self, file: usize, len: u64) -> i64 {
        let named = &mut self.files[file];
        if self.rng.chance(self.knobs.faults.length) || len > named.limit {
            return errno(libc::ENOSPC);
        }
        if !named.file.is_device() {
            return errno(libc::ENOTSUP);
        }
        let more = index(len.saturating_sub(named.file.len()));
        let mut garbage = vec![0; more.next_multiple_of(SECTOR)];
        garbage.fill_with(|| 0x80 | self.rng.next_u64().to_le_bytes()[0]);
        named.file.extend(&garbage);
        count(named.file.len())
    }
}

fn errno(errno: i32) -> i64 {
    -i64::from(errno)
}

fn count(bytes: u64) -> i64 {
    i64::try_from(bytes).expect("a simulated file is short")
}
