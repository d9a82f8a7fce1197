//! Memory that an operation reads or writes: the guest's scatter lists and the engine's own buffers.
//!
//! This is the one place where raw memory is touched on behalf of the engine. A scatter list is a
//! pointer to `iovec`s that somebody else owns; making one ([`IoVecs::from_raw`]) is the unsafe act,
//! and carries the promise that the memory stays valid, and is not otherwise written, until the
//! operation that uses it has been reported done. Everything built from there on is safe.
//!
//! A [`Buffer`] can be looked at only through `&mut`: while an operation holds a share of it (an
//! `Rc`), nobody can, so no reference ever overlaps what a host writes behind our back.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::rc::Rc;

use libc::iovec;

use crate::format::units::index;

/// Alignment of engine buffers: what direct I/O wants on every device we know.
const BUFFER_ALIGN: usize = 4096;

/// A scatter list somebody else owns: `count` iovecs at `list`.
#[derive(Clone, Copy, Debug)]
pub struct IoVecs {
    list: *const iovec,
    count: usize,
}

impl IoVecs {
    /// A list over `count` iovecs at `list`.
    ///
    /// # Safety
    /// The iovecs, and the memory they name, stay valid until the operation that uses this list is
    /// reported done; nobody else writes that memory meanwhile.
    pub const unsafe fn from_raw(list: *const iovec, count: usize) -> Self {
        Self { list, count }
    }

    /// Pointer and count, as `preadv` wants them.
    pub fn as_raw(&self) -> (*const iovec, usize) {
        (self.list, self.count)
    }

    /// The iovecs themselves.
    pub fn as_slice(&self) -> &[iovec] {
        if self.count == 0 {
            return &[];
        }
        // SAFETY: whoever called `from_raw` promised that `count` iovecs are valid at `list`.
        unsafe { std::slice::from_raw_parts(self.list, self.count) }
    }

    /// Bytes in the whole list.
    pub fn len(&self) -> u64 {
        self.as_slice().iter().map(|v| v.iov_len as u64).sum()
    }

    /// True if the list holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The part of the list that holds bytes `skip..skip + len`, as a list of its own.
    pub fn slice(&self, skip: u64, len: u64) -> IoVecList {
        let mut out = IoVecList::default();
        out.push_part(self, skip, len);
        out
    }

    /// Fills the memory with zeros.
    pub fn zero(&self) {
        for v in self.as_slice() {
            // SAFETY: `from_raw`'s promise: the memory is valid, and ours to write, until we are done.
            unsafe { std::ptr::write_bytes(v.iov_base.cast::<u8>(), 0, v.iov_len) };
        }
    }

    /// Copies `bytes` into the memory, from its start; stops where either ends.
    pub fn fill_from(&self, bytes: &[u8]) {
        let mut rest = bytes;
        for v in self.as_slice() {
            let n = v.iov_len.min(rest.len());
            // SAFETY: `from_raw`'s promise covers `iov_len` bytes, and n is no more than that.
            unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), v.iov_base.cast::<u8>(), n) };
            rest = &rest[n..];
        }
    }

    /// Copies the memory into `bytes`, from its start; stops where either ends.
    pub fn copy_to(&self, bytes: &mut [u8]) {
        let mut rest = bytes;
        for v in self.as_slice() {
            let n = v.iov_len.min(rest.len());
            // SAFETY: `from_raw`'s promise covers `iov_len` bytes, and n is no more than that.
            unsafe { std::ptr::copy_nonoverlapping(v.iov_base.cast::<u8>(), rest.as_mut_ptr(), n) };
            rest = &mut rest[n..];
        }
    }
}

/// A scatter list of our own, over memory that others own.
#[derive(Clone, Debug, Default)]
pub struct IoVecList(Vec<iovec>);

impl IoVecList {
    /// Appends bytes `skip..skip + len` of `from`.
    pub fn push_part(&mut self, from: &IoVecs, mut skip: u64, mut len: u64) {
        for v in from.as_slice() {
            let size = v.iov_len as u64;
            if skip >= size {
                skip -= size;
                continue;
            }
            let take = len.min(size - skip);
            if take == 0 {
                break;
            }
            let (at, n) = (index(skip), index(take));
            self.0.push(iovec {
                iov_base: v.iov_base.wrapping_byte_add(at),
                iov_len: n,
            });
            (skip, len) = (0, len - take);
        }
        debug_assert_eq!(len, 0, "the slice reaches past the end of the list");
    }

    /// Appends bytes `skip..skip + len` of `buffer`, which the caller keeps alive with the operation.
    pub fn push_buffer(&mut self, buffer: &Buffer, skip: usize, len: usize) {
        assert!(skip + len <= buffer.len, "a slice past the end of a buffer");
        let base = buffer.memory.as_ptr().wrapping_add(skip);
        self.0.push(iovec {
            iov_base: base.cast(),
            iov_len: len,
        });
    }

    /// The list as an operation carries it. It must outlive the operation.
    pub fn as_iovecs(&self) -> IoVecs {
        IoVecs {
            list: self.0.as_ptr(),
            count: self.0.len(),
        }
    }
}

/// Zeroed, aligned memory of the engine's own.
#[derive(Debug)]
pub struct Buffer {
    memory: NonNull<u8>,
    len: usize,
}

impl Buffer {
    /// `len` bytes of zeros; `None` where there is no memory left.
    pub fn zeroed(len: usize) -> Option<Self> {
        let layout = Self::layout(len)?;
        // SAFETY: the layout has a non-zero size.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { memory, len })
    }

    fn layout(len: usize) -> Option<Layout> {
        Layout::from_size_align(len.max(1), BUFFER_ALIGN).ok()
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes. Unique access proves that no operation holds a share of them.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: `memory` is `len` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let layout = Self::layout(self.len).expect("this layout made the buffer");
        // SAFETY: `memory` came from the allocator with this very layout, and goes away with `self`.
        unsafe { dealloc(self.memory.as_ptr(), layout) };
    }
}

/// What keeps an operation's memory alive until the operation is done.
#[derive(Clone, Debug, Default)]
pub struct Keep {
    /// The engine's buffers that the operation's list points into.
    pub buffers: Vec<Rc<Buffer>>,
    /// The list itself, where it is not the guest's own.
    pub list: Option<Rc<IoVecList>>,
}
