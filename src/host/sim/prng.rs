//! The only source of chance: a small generator whose whole future is its seed.
//!
//! xoshiro256** fed by splitmix64, as its authors advise. Not the standard library's, whose hashes
//! are salted a run, and not a crate's, whose stream may change with its version: a seed that once
//! found a bug has to find it for ever.

/// A stream of numbers that a seed determines.
#[derive(Clone, Debug)]
pub struct Prng([u64; 4]);

impl Prng {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        Self(std::array::from_fn(|_| splitmix(&mut state)))
    }

    /// A stream of its own, so that two users do not shift each other's numbers.
    pub fn fork(&mut self) -> Self {
        Self::new(self.next_u64())
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `n`, each as likely as any other to within 2⁻⁶⁴ × n. `n` is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert_ne!(n, 0, "no number lies below 0");
        let product = u128::from(self.next_u64()) * u128::from(n);
        u64::try_from(product >> 64).expect("the upper half of a product of two u64")
    }

    /// A number in `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        match (high - low).checked_add(1) {
            Some(count) => low + self.below(count),
            None => self.next_u64(),
        }
    }

    /// True `per_mille` times out of a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// One of `items`, which is not empty.
    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[super::index(self.below(items.len() as u64))]
    }

    /// An index into `weights`, as likely as its weight among all; not all weights are 0.
    pub fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            match left.checked_sub(*weight) {
                Some(rest) => left = rest,
                None => return index,
            }
        }
        unreachable!("the number drawn lies below the sum of all weights")
    }

    /// A number in `0..=high` whose logarithm is about uniform: small ones are common, large ones
    /// occur.
    pub fn skewed(&mut self, high: u64) -> u64 {
        let bits = u64::from(u64::BITS - high.leading_zeros());
        let limit = (0..self.between(0, bits)).fold(0, |limit: u64, _| limit << 1 | 1);
        self.between(0, limit.min(high))
    }
}

/// The next number of the generator that spreads a seed, and mixes where quality does not matter.
pub(super) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream() {
        let (mut a, mut b, mut c) = (Prng::new(7), Prng::new(7), Prng::new(8));
        let first: Vec<u64> = (0..8).map(|_| a.next_u64()).collect();
        assert!(first.iter().all(|n| *n == b.next_u64()));
        assert!(first.iter().any(|n| *n != c.next_u64()));
    }

    #[test]
    fn numbers_stay_in_their_range_and_reach_its_ends() {
        let mut rng = Prng::new(1);
        let drawn: Vec<u64> = (0..1000).map(|_| rng.between(3, 6)).collect();
        assert_eq!(
            (drawn.iter().min(), drawn.iter().max()),
            (Some(&3), Some(&6))
        );
        let skewed: Vec<u64> = (0..1000).map(|_| rng.skewed(100)).collect();
        assert_eq!(
            (skewed.iter().min(), skewed.iter().max()),
            (Some(&0), Some(&100))
        );
    }

    #[test]
    fn weights_count() {
        let mut rng = Prng::new(1);
        let mut counts = [0; 3];
        (0..1000).for_each(|_| counts[rng.weighted(&[1, 0, 3])] += 1);
        assert_eq!(counts[1], 0);
        assert!(counts[0] > 150 && counts[2] > 600, "{counts:?}");
    }

    #[test]
    fn chance_knows_never_and_always() {
        let mut rng = Prng::new(1);
        assert!((0..1000).all(|_| !rng.chance(0) && rng.chance(1000)));
    }
}
