//! Memory that an operation reads or writes: the guest's scatter lists and the engine's own
//! buffers.
//!
//! This is the one place where raw memory is touched on behalf of the engine. The guest's list is a
//! pointer to `iovec`s that somebody else owns; taking one ([`IoVecs::from_raw`]) is the unsafe
//! act, and carries the promise that the memory stays valid, and is not otherwise written, until
//! the request that uses it has ended. A list of our own ([`IoVecList`]) holds a share of every
//! buffer it points into, and an operation holds the list ([`Memory`]), so nothing goes while a
//! host may use it.
//!
//! A [`Buffer`] can be looked at only through `&mut`: while anybody else holds a share of it (an
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

    /// Bytes in the whole list; where a stranger's lengths overflow, more than any disk has.
    pub fn len(&self) -> u64 {
        self.as_slice()
            .iter()
            .fold(0, |sum: u64, v| sum.saturating_add(v.iov_len as u64))
    }

    /// True if the list holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the memory with zeros.
    pub fn zero(&self) {
        for v in self.as_slice() {
            // SAFETY: `from_raw`'s promise: the memory is valid, and ours to write, until we are
            // done.
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

/// A scatter list of our own, over the guest's memory and over buffers that it keeps alive.
#[derive(Clone, Debug, Default)]
pub struct IoVecList {
    iovecs: Vec<iovec>,
    shares: Vec<Rc<Buffer>>,
}

impl IoVecList {
    /// Appends bytes `skip..skip + len` of `from`.
    pub fn push_part(&mut self, from: &Memory, mut skip: u64, mut len: u64) {
        if let Memory::Own(list) = from {
            self.shares.extend(list.shares.iter().map(Rc::clone));
        }
        for v in from.iovecs().as_slice() {
            let size = v.iov_len as u64;
            if skip >= size {
                skip -= size;
                continue;
            }
            let take = len.min(size - skip);
            if take == 0 {
                break;
            }
            let base = v.iov_base.wrapping_byte_add(index(skip));
            self.iovecs.push(iovec {
                iov_base: base,
                iov_len: index(take),
            });
            (skip, len) = (0, len - take);
        }
        debug_assert_eq!(len, 0, "the part reaches past the end of the list");
    }

    /// Appends a whole buffer.
    pub fn push_buffer(&mut self, buffer: &Rc<Buffer>) {
        self.iovecs.push(iovec {
            iov_base: buffer.memory.as_ptr().cast(),
            iov_len: buffer.len,
        });
        self.shares.push(Rc::clone(buffer));
    }
}

/// What an operation reads into or writes from.
#[derive(Clone, Debug)]
pub enum Memory {
    /// The guest's own list.
    Guest(IoVecs),
    /// A list of ours, which lives as long as the operation.
    Own(Rc<IoVecList>),
}

impl Memory {
    /// A whole buffer.
    pub fn of(buffer: &Rc<Buffer>) -> Self {
        let mut list = IoVecList::default();
        list.push_buffer(buffer);
        list.into()
    }

    /// The list as an operation carries it; whoever submits the operation keeps `self` until it is
    /// over.
    pub(crate) fn iovecs(&self) -> IoVecs {
        match self {
            Self::Guest(iov) => *iov,
            Self::Own(list) => IoVecs {
                list: list.iovecs.as_ptr(),
                count: list.iovecs.len(),
            },
        }
    }

    /// Bytes in all of it.
    pub fn len(&self) -> u64 {
        self.iovecs().len()
    }

    /// True if it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes `skip..skip + len` of it.
    #[must_use]
    pub fn part(&self, skip: u64, len: u64) -> Self {
        if skip == 0 && len == self.len() {
            return self.clone();
        }
        let mut list = IoVecList::default();
        list.push_part(self, skip, len);
        list.into()
    }

    /// Fills it with zeros.
    pub fn zero(&self) {
        self.iovecs().zero();
    }
}

impl From<IoVecs> for Memory {
    fn from(iov: IoVecs) -> Self {
        Self::Guest(iov)
    }
}

impl From<IoVecList> for Memory {
    fn from(list: IoVecList) -> Self {
        Self::Own(Rc::new(list))
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
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: `memory` is `len` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let layout = Self::layout(self.len).expect("this layout made the buffer");
        // SAFETY: `memory` came from the allocator with this very layout, and goes away with
        // `self`.
        unsafe { dealloc(self.memory.as_ptr(), layout) };
    }
}
