//! Planted mistakes: one for each rule of DESIGN.md whose loss the simulation must notice.
//!
//! They exist only with the feature `sim`; without it [`planted`] is the constant `false`, and the
//! compiler leaves nothing of them.

#![cfg_attr(
    not(feature = "sim"),
    allow(
        unreachable_pub,
        dead_code,
        reason = "only the simulation reaches this from outside"
    )
)]

/// A mistake that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The overwrite of a copied block takes the fast path and leaves the block copy-dirty.
    CopiedBlockNotGuestDirty,
    /// The dirty set is taken after the data flush was submitted.
    DirtySetAfterDataFlush,
    /// Of several journal sectors of a round only the first carries the entries.
    EntryInFirstSectorOnly,
    /// A commit in place writes the bitmap before the table.
    BitmapBeforeTable,
    /// A chunk that may hold old content is not zeroed.
    OldChunkNotZeroed,
    /// A pending chunk that others share is freed by one writer's failure.
    SharedChunkFreedByOne,
    /// A close sets clean_shutdown before the bitmap is durable.
    CleanBeforeBitmap,
    /// After a failed flush the next one goes on as if nothing was lost.
    FailedFlushForgotten,
    /// Metadata is written without a flush of the data before it.
    NoDataFlush,
    /// A copy-on-write does not lock its blocks.
    NoLock,
    /// The bits of a write are set before its data is written.
    BitsBeforeData,
}

impl Canary {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::CopiedBlockNotGuestDirty,
        Self::DirtySetAfterDataFlush,
        Self::EntryInFirstSectorOnly,
        Self::BitmapBeforeTable,
        Self::OldChunkNotZeroed,
        Self::SharedChunkFreedByOne,
        Self::CleanBeforeBitmap,
        Self::FailedFlushForgotten,
        Self::NoDataFlush,
        Self::NoLock,
        Self::BitsBeforeData,
    ];
}

#[cfg(feature = "sim")]
mod switch {
    use super::Canary;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Canary>> = const { Cell::new(None) };
    }

    /// Plants a mistake in every image of this thread, or takes it out.
    pub fn plant(canary: Option<Canary>) {
        PLANTED.set(canary);
    }

    /// True if this mistake is planted.
    pub fn planted(canary: Canary) -> bool {
        PLANTED.get() == Some(canary)
    }
}

#[cfg(not(feature = "sim"))]
mod switch {
    use super::Canary;

    /// False: no mistake is compiled in.
    #[inline(always)]
    pub const fn planted(_: Canary) -> bool {
        false
    }
}

pub use switch::*;
