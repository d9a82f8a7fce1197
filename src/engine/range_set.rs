//! A set of numbers as ranges, neighbours merged: small where the numbers come in runs, however
//! long.

use std::collections::BTreeMap;
use std::ops::Range;

/// Numbers, as start → end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds the numbers of `range`.
    pub(crate) fn insert(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = *range;
        while let Some((&s, &e)) = self
            .0
            .range(..=end)
            .next_back()
            .filter(|(_, e)| **e >= start)
        {
            self.0.remove(&s);
            (start, end) = (start.min(s), end.max(e));
        }
        self.0.insert(start, end);
    }

    /// How many ranges it takes.
    pub(crate) fn ranges(&self) -> usize {
        self.0.len()
    }

    /// Takes out the lowest number.
    pub(crate) fn pop_first(&mut self) -> Option<u64> {
        let (start, end) = self.0.pop_first()?;
        if start + 1 < end {
            self.0.insert(start + 1, end);
        }
        Some(start)
    }

    /// The ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.0.iter().map(|(start, end)| *start..*end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_as_a_set(ranges in prop::collection::vec((0u64..200, 0u64..30), 1..40)) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (start, len) in ranges {
                set.insert(&(start..start + len));
                model.extend(start..start + len);
                prop_assert_eq!(set.iter().flatten().collect::<BTreeSet<_>>(), model.clone());
                let gaps = set.iter().zip(set.iter().skip(1)).all(|(a, b)| a.end < b.start);
                prop_assert!(gaps, "neighbours are merged");
            }
            prop_assert_eq!(set.pop_first(), model.pop_first());
            prop_assert_eq!(set.iter().flatten().collect::<BTreeSet<_>>(), model);
        }
    }
}
