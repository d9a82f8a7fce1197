//! What happened, as a number and, if asked for, as text.
//!
//! Each event of the simulated world is folded into a hash. Two runs of a seed that differ anywhere
//! differ here: that is how the claim "bit for bit repeatable" is checked. With printing on, the
//! same events are a story to read when a seed fails.

use std::cell::Cell;
use std::fmt;

/// A record of events.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Cell<u64>,
    events: Cell<u64>,
    print: bool,
}

impl Trace {
    /// A record that is still empty; with `print`, every event also goes to the standard error
    /// output.
    pub fn new(print: bool) -> Self {
        Self {
            print,
            ..Self::default()
        }
    }

    /// Takes note of an event: `numbers` tell it from others, `text` tells people what it was.
    pub fn note(&self, numbers: &[u64], text: fmt::Arguments<'_>) {
        for n in numbers {
            let mixed = (self.hash.get() ^ n).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            self.hash.set(mixed ^ (mixed >> 29));
        }
        self.events.set(self.events.get() + 1);
        if self.print {
            eprintln!("{:>7}  {text}", self.events.get());
        }
    }

    /// A number that two runs share only if their events were the same.
    pub fn hash(&self) -> u64 {
        self.hash.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_and_numbers() {
        let hash = |events: &[u64]| {
            let trace = Trace::new(false);
            events
                .iter()
                .for_each(|n| trace.note(&[*n], format_args!("")));
            trace.hash()
        };
        assert_eq!(hash(&[1, 2]), hash(&[1, 2]));
        assert_ne!(hash(&[1, 2]), hash(&[2, 1]));
        assert_ne!(hash(&[1, 2]), hash(&[1, 2, 3]));
    }
}
