//! Ids without randomness: a row of UUIDs that a seed determines.

use std::sync::Arc;

/// A source of ids. Two of the same seed give the same ids.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: u64,
    given: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, given: 0 }
    }

    pub(crate) fn next(&mut self) -> Arc<str> {
        self.given += 1;
        let high = mix(self.seed ^ mix(self.given));
        let low = mix(high ^ self.given);
        let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
        let mut buffer = uuid::Uuid::encode_buffer();
        let id = uuid::Builder::from_random_bytes(bytes).into_uuid();
        Arc::from(&*id.hyphenated().encode_lower(&mut buffer))
    }
}

/// The finaliser of splitmix64: a bijection whose outputs look unrelated.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ_and_a_seed_repeats_them() {
        let mut ids = Ids::new(7);
        let given: Vec<_> = (0..1000).map(|_| ids.next()).collect();
        assert_eq!(given.iter().collect::<HashSet<_>>().len(), 1000);
        assert_eq!(given[0], Ids::new(7).next());
        assert_ne!(given[0], Ids::new(8).next());
        assert!(uuid::Uuid::parse_str(&given[0]).is_ok());
    }
}
