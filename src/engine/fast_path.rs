//! The fast path: a request that needs one operation, with the guest's own iovecs, and nothing
//! else.
//!
//! No task, no lock, no copy, no allocation. A read qualifies where all of it is in one piece of
//! one file; a write where its blocks are present, its chunks allocated and in one piece, and all
//! of that is committed or guest-dirty: an overwrite of what is only copy-dirty would be lost with
//! the copy.

use std::ops::Range;

use crate::host::{IoVecs, OpKind, Operation, Severity};

use super::canary::{Canary, planted};
use super::core::Core;
use super::file::transferred;
use super::layer::Source;
use super::request::{Kind, RequestId};

impl Core {
    /// The one operation that a read needs, if it is only one.
    #[inline]
    pub(super) fn direct_read(
        &self,
        request: RequestId,
        range: &Range<u64>,
        iov: IoVecs,
    ) -> Option<Operation> {
        if !self.config.fast_path || range.is_empty() {
            return None;
        }
        let extent = self.layer.extent(range.clone());
        let Source::File(file, offset) = extent.source else {
            return None;
        };
        let kind = OpKind::Read { offset, iov };
        (extent.range == *range).then(|| self.executor.direct(request, file.id(), kind))
    }

    /// The one operation that a write needs, if it is only one.
    #[inline]
    pub(super) fn direct_write(
        &self,
        request: RequestId,
        range: &Range<u64>,
        iov: IoVecs,
    ) -> Option<Operation> {
        if !self.config.fast_path || range.is_empty() || !self.layer.all_present(range) {
            return None;
        }
        let offset = self.layer.data_place(range)?;
        if self.is_copied(range) && !planted(Canary::CopiedBlockNotGuestDirty) {
            return None;
        }
        let kind = OpKind::Write { offset, iov };
        Some(
            self.executor
                .direct(request, self.layer.data.file.id(), kind),
        )
    }

    /// True if any block or entry of `range` is copy-dirty.
    #[inline]
    fn is_copied(&self, range: &Range<u64>) -> bool {
        let copied = &self.dirty.borrow().copied;
        !copied.is_empty()
            && (copied.blocks.intersects(&self.layer.blocks_of(range))
                || copied.entries.intersects(&self.layer.entries_of(range)))
    }

    /// Ends a request of the fast path by the host's answer.
    pub(super) fn end_direct(&self, request: RequestId, returned: i64) {
        let Some((kind, range)) = self.requests.look_up(request) else {
            return; // ended before, because the host seemed to be gone
        };
        let name = || format!("{} on '{}'", kind.name(), self.layer.metadata.name());
        let result = transferred(returned, &range, name);
        if let Err(error) = &result {
            self.executor.log(Severity::Error, error.to_string());
        }
        if kind == Kind::Write {
            self.write_ended(&range, &result);
        }
        self.requests.finish(request, result);
    }
}
