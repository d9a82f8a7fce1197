//! Which of a sector's possible contents a power cut leaves.
//!
//! Every choice is allowed by the contract of storage, but a bug shows only under some: where a
//! record survived and its data did not, where all went down but one sector, where writes went down
//! whole and in the wrong order. A fair coin for each sector almost never draws those, so the style
//! is drawn first.

use super::disk::WriteNo;
use super::prng::{Prng, splitmix};

/// How a power cut treats what no flush has covered. Likelihoods are per mille.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// Each sector on its own: its newest content with this likelihood, otherwise any older one.
    Sectors(u32),
    /// Each write as a whole with this likelihood, drawn by its number and `salt`.
    Writes {
        /// How likely a write survives.
        kept: u32,
        /// Makes one power cut differ from another.
        salt: u64,
    },
    /// As `Sectors`, with one likelihood below sector `at` and another from there on: metadata
    /// without data, or data without metadata.
    Split {
        /// The first sector of the upper part.
        at: u64,
        /// For the lower part.
        below: u32,
        /// For the upper part.
        above: u32,
    },
}

const LIKELIHOODS: [u32; 8] = [0, 50, 200, 500, 500, 800, 950, 1000];

impl Survival {
    /// A style for a file of `sectors` sectors, more often divided near its start, where the
    /// metadata is.
    pub fn draw(rng: &mut Prng, sectors: u64) -> Self {
        match rng.below(6) {
            0..3 => Self::Sectors(rng.pick(&LIKELIHOODS)),
            3 => Self::Writes {
                kept: rng.pick(&LIKELIHOODS),
                salt: rng.next_u64(),
            },
            _ => Self::Split {
                at: rng.skewed(sectors),
                below: rng.pick(&LIKELIHOODS),
                above: rng.pick(&LIKELIHOODS),
            },
        }
    }

    /// Which of the contents that `writes` left in `sector`, oldest first, survives; `None`: what
    /// was durable before them.
    pub fn choose(self, rng: &mut Prng, sector: u64, writes: &[WriteNo]) -> Option<usize> {
        match self {
            Self::Sectors(newest) => choose_one(rng, newest, writes.len()),
            Self::Split { at, below, above } => {
                choose_one(rng, if sector < at { below } else { above }, writes.len())
            }
            Self::Writes { kept, salt } => writes.iter().rposition(|write| {
                let mut state = salt ^ u64::from(write.0);
                splitmix(&mut state) % 1000 < u64::from(kept)
            }),
        }
    }
}

/// The last of `count`, or else one of the others or what came before all.
fn choose_one(rng: &mut Prng, newest: u32, count: usize) -> Option<usize> {
    if rng.chance(newest) {
        return count.checked_sub(1);
    }
    super::index(rng.below(count.max(1) as u64)).checked_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_content_can_survive_a_power_cut() {
        let writes = [WriteNo(4), WriteNo(9)];
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut rng = Prng::new(seed);
            let style = Survival::draw(&mut rng, 100);
            seen.insert(style.choose(&mut rng, 50, &writes));
        }
        assert_eq!(Vec::from_iter(seen), [None, Some(0), Some(1)]);
    }

    #[test]
    fn a_write_survives_whole_where_writes_do() {
        let mut rng = Prng::new(3);
        let style = Survival::Writes {
            kept: 500,
            salt: 11,
        };
        let fates: Vec<_> = (0..64)
            .map(|n| style.choose(&mut rng, n, &[WriteNo(1)]))
            .collect();
        assert!(fates.iter().all(|fate| *fate == fates[0]));
    }

    #[test]
    fn the_two_sides_of_a_split_differ() {
        let mut rng = Prng::new(3);
        let style = Survival::Split {
            at: 10,
            below: 1000,
            above: 0,
        };
        assert!((0..10).all(|n| style.choose(&mut rng, n, &[WriteNo(1)]) == Some(0)));
        assert!((10..20).all(|n| style.choose(&mut rng, n, &[WriteNo(1)]).is_none()));
    }
}
