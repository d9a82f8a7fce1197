//! Limits that only tests lower, so that a rare path is a common one.

#[cfg(feature = "sim")]
mod knobs {
    use std::cell::Cell;

    thread_local! {
        static JOURNAL_SECTORS: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Uses only the first `sectors` of every journal that this thread opens from now on.
    pub fn set_journal_sectors(sectors: Option<u64>) {
        JOURNAL_SECTORS.set(sectors);
    }

    pub(in crate::engine) fn journal_sectors() -> Option<u64> {
        JOURNAL_SECTORS.get()
    }
}

#[cfg(not(feature = "sim"))]
mod knobs {
    pub(in crate::engine) const fn journal_sectors() -> Option<u64> {
        None
    }
}

pub(super) use knobs::journal_sectors;
#[cfg(feature = "sim")]
pub use knobs::set_journal_sectors;
