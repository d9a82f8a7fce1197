//! A simulated world: disks that forget, a clock that jumps, an oracle of what may be read.
//!
//! Everything here is drawn from one seed and repeats bit for bit: a failure is a number.
//!
//! - [`Prng`]: the only source of chance;
//! - [`SimFile`]: one file, which remembers for each sector every content that a power cut could
//!   leave;
//! - [`SimHost`]: the [`Host`](super::Host) over such files, which delays, reorders, tears and
//!   fails operations, and dies in the middle of them;
//! - [`Oracle`]: for each sector of the guest's disk, the contents that the contract allows.
//!
//! The disk knows nothing of the format, and the oracle nothing of the disk: what the guest is
//! promised is judged by what the guest did alone.

mod disk;
mod host;
mod knobs;
mod oracle;
mod pattern;
mod prng;
mod survival;
mod trace;

pub use disk::{SimFile, Stamp, WriteNo};
pub use host::{FileSpec, SimHost, Stats};
pub use knobs::{Crash, Faults, Knobs, When};
pub use oracle::{Ending, Oracle, Violation, WriteId};
pub use pattern::{Content, SECTOR};
pub use prng::Prng;
pub use survival::Survival;
pub use trace::Trace;

/// A byte or sector number as an index: simulated files are small enough for every address space.
pub(crate) fn index(n: u64) -> usize {
    usize::try_from(n).expect("a simulated file fits into memory")
}
