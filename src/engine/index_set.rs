//! Sets of block or entry numbers, kept by the 512-byte metadata sector that stores them.
//!
//! What is not yet committed is usually little and scattered, or long runs; a small bitmap for each
//! touched sector serves both, costs memory only for what is dirty, and names the sectors that a
//! commit in place must write.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bitmap::masks;

/// Numbers, in sectors of `WORDS` × 64 each.
#[derive(Clone, Debug)]
pub(crate) struct IndexSet<const WORDS: usize>(BTreeMap<u64, [u64; WORDS]>);

/// Block numbers: a sector of the bitmap holds 4096 bits.
pub(crate) type BlockSet = IndexSet<64>;
/// Entry numbers: a sector of the table holds 128 entries.
pub(crate) type EntrySet = IndexSet<2>;

impl<const WORDS: usize> Default for IndexSet<WORDS> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<const WORDS: usize> IndexSet<WORDS> {
    const PER_SECTOR: u64 = WORDS as u64 * 64;

    /// True if it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the numbers of `range`.
    pub(crate) fn insert(&mut self, range: &Range<u64>) {
        for (sector, local) in Self::split(range) {
            let words = self.0.entry(sector).or_insert([0; WORDS]);
            for (word, mask) in masks(&local) {
                words[word] |= mask;
            }
        }
    }

    /// Takes out the numbers of `range`, and returns those that were in, as runs.
    pub(crate) fn take(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        let taken: Vec<_> = self.runs_within(range).collect();
        for (sector, local) in taken.iter().flat_map(Self::split) {
            let words = self.0.get_mut(&sector).expect("the run was found here");
            for (word, mask) in masks(&local) {
                words[word] &= !mask;
            }
            if words.iter().all(|w| *w == 0) {
                self.0.remove(&sector);
            }
        }
        taken
    }

    /// True if any number of `range` is in.
    pub(crate) fn intersects(&self, range: &Range<u64>) -> bool {
        !self.is_empty() && self.runs_within(range).next().is_some()
    }

    /// Adds all of another set.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (sector, words) in &other.0 {
            let mine = self.0.entry(*sector).or_insert([0; WORDS]);
            mine.iter_mut().zip(words).for_each(|(a, b)| *a |= b);
        }
    }

    /// All numbers, as runs; neighbours are one run, across sectors too.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.runs_within(&(0..u64::MAX))
    }

    /// The numbers of `range` that are in, as runs.
    pub(crate) fn runs_within(&self, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let Range { start, end } = *range;
        let mut pieces = self
            .0
            .range(start / Self::PER_SECTOR..end.div_ceil(Self::PER_SECTOR))
            .flat_map(|(sector, words)| runs_of(sector * Self::PER_SECTOR, words))
            .map(move |run| run.start.max(start)..run.end.min(end))
            .filter(|run| !run.is_empty())
            .peekable();
        std::iter::from_fn(move || {
            let mut run = pieces.next()?;
            while let Some(next) = pieces.next_if(|next| next.start == run.end) {
                run.end = next.end;
            }
            Some(run)
        })
    }

    /// The sectors that hold any of the numbers, as runs of sectors.
    pub(crate) fn sectors(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let mut sectors = self.0.keys().copied().peekable();
        std::iter::from_fn(move || {
            let first = sectors.next()?;
            let mut end = first + 1;
            while sectors.next_if_eq(&end).is_some() {
                end += 1;
            }
            Some(first..end)
        })
    }

    /// Cuts a range at sector borders: the sector, and the numbers within it.
    fn split(range: &Range<u64>) -> impl Iterator<Item = (u64, Range<u64>)> + use<WORDS> {
        let Range { start, end } = *range;
        let sectors = if start < end {
            start / Self::PER_SECTOR..(end - 1) / Self::PER_SECTOR + 1
        } else {
            0..0
        };
        sectors.map(move |sector| {
            let first = sector * Self::PER_SECTOR;
            (
                sector,
                start.max(first) - first..end.min(first + Self::PER_SECTOR) - first,
            )
        })
    }
}

/// The runs of set bits in the words of a sector, whose first bit stands for `first`.
fn runs_of<const WORDS: usize>(
    first: u64,
    words: &[u64; WORDS],
) -> impl Iterator<Item = Range<u64>> + '_ {
    let bits = WORDS as u64 * 64;
    let next = move |from: u64, flip: u64| {
        masks(&(from..bits))
            .map(|(word, mask)| (word, (words[word] ^ flip) & mask))
            .find(|(_, found)| *found != 0)
            .map_or(bits, |(word, found)| {
                word as u64 * 64 + u64::from(found.trailing_zeros())
            })
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = next(at, 0);
        if start == bits {
            return None;
        }
        at = next(start, u64::MAX);
        Some(first + start..first + at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn numbers<const W: usize>(set: &IndexSet<W>) -> BTreeSet<u64> {
        set.runs().flatten().collect()
    }

    #[test]
    fn neighbours_across_sectors_are_one_run() {
        let mut set = EntrySet::default();
        set.insert(&(100..300));
        assert!(set.runs().eq(std::iter::once(100..300)));
        assert!(set.sectors().eq(std::iter::once(0..3)));
        assert!(
            set.take(&(128..256))
                .into_iter()
                .eq(std::iter::once(128..256))
        );
        assert_eq!(set.sectors().collect::<Vec<_>>(), [0..1, 2..3]);
    }

    proptest! {
        #[test]
        fn behaves_as_a_set(
            steps in prop::collection::vec((any::<bool>(), 0u64..600, 0u64..200), 1..40)
        ) {
            let (mut set, mut model) = (EntrySet::default(), BTreeSet::new());
            for (add, start, len) in steps {
                let range = start..start + len;
                let is_in = model.range(range.clone()).next().is_some();
                prop_assert_eq!(set.intersects(&range), is_in);
                if add {
                    set.insert(&range);
                    model.extend(range);
                } else {
                    let taken: BTreeSet<u64> = set.take(&range).into_iter().flatten().collect();
                    let expected: BTreeSet<u64> = model.range(range.clone()).copied().collect();
                    prop_assert_eq!(taken, expected);
                    model.retain(|n| !range.contains(n));
                }
                prop_assert_eq!(&numbers(&set), &model);
            }
        }
    }
}
