//! What a simulated host does to its guests, as numbers that a scenario draws.

use super::prng::Prng;

/// How everything ends at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The power goes: caches are lost.
    PowerCut,
    /// The process goes: what it had written stays in the system's cache.
    Kill,
}

/// When a planned crash comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Instead of the event after this many more.
    Events(u64),
    /// Instead of the flush after this many more: then the most is at stake.
    Flushes(u64),
}

/// How likely operations fail, per mille of their kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Reads that give EIO.
    pub read: u32,
    /// Writes that give EIO; half of them took effect in some of their sectors.
    pub write: u32,
    /// Writes that give ENOSPC and took no effect.
    pub no_space: u32,
    /// Changes of the length, and growing a device, that fail.
    pub length: u32,
    /// Flushes that fail.
    pub flush: u32,
    /// Of the sectors that a failed flush should have covered: those that it lost for good.
    pub dropped: u32,
    /// Of the lost sectors: those that reads then find as the disk has them.
    pub reverted: u32,
}

impl Faults {
    /// True if nothing ever fails.
    pub fn none(&self) -> bool {
        [
            self.read,
            self.write,
            self.no_space,
            self.length,
            self.flush,
        ]
        .iter()
        .all(|odds| *odds == 0)
    }
}

/// Time and trouble.
#[derive(Clone, Copy, Debug, Default)]
pub struct Knobs {
    /// An operation takes effect up to this many microseconds after it was submitted. 0: operations
    /// take effect in their order.
    pub apply_us: u64,
    /// It is reported up to this many microseconds after it took effect.
    pub report_us: u64,
    /// Per mille of the operations that take a hundred times as long.
    pub slow: u32,
    /// Up to this many further answers are given in one poll.
    pub batch: u64,
    /// Per mille of the polls that return with nothing, as an interrupted system call does.
    pub idle_polls: u32,
    /// The host cannot make zeros but by writing them.
    pub no_zeroes: bool,
    /// What fails.
    pub faults: Faults,
}

impl Knobs {
    /// Delays, with no faults.
    pub fn draw(rng: &mut Prng) -> Self {
        Self {
            apply_us: rng.pick(&[0, 1, 20, 100]),
            report_us: rng.pick(&[0, 1, 20, 100]),
            slow: rng.pick(&[0, 0, 10, 100]),
            batch: rng.pick(&[0, 0, 3, 30]),
            idle_polls: rng.pick(&[0, 0, 20]),
            no_zeroes: rng.chance(200),
            faults: Faults::default(),
        }
    }
}
