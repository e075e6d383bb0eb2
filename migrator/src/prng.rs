//! A small seeded generator, so that a run can be repeated.

/// SplitMix64 (Steele, Lea and Flood, 2014): any seed is a good one.
#[derive(Clone, Debug)]
pub(crate) struct Prng(u64);

impl Prng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `bound`, by multiplication: the bias is below `bound` / 2^64.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence_for_seed_0() {
        let mut prng = Prng::new(0);
        assert_eq!(prng.next(), 0xe220_a839_7b1d_cdaf);
        assert_eq!(prng.next(), 0x6e78_9e6a_a1b9_65f4);
        assert!((0..1000).all(|_| prng.below(7) < 7));
    }
}
