//! Finding series by their rows.
//!
//! A row is found by a 128-bit hash of its name and labels, keyed at random at each start: two
//! series share one with a probability of about 2^-80 among 2^24, and nobody outside can make
//! them. Each symbol of a batch is hashed once; a row only combines the hashes of its symbols,
//! in a way that does not depend on the order of labels.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Keys that are hashes already.
#[derive(Default, Clone, Copy)]
pub(crate) struct Hashed;
pub(crate) struct HashedHasher(u64);

impl BuildHasher for Hashed {
    type Hasher = HashedHasher;
    fn build_hasher(&self) -> HashedHasher {
        HashedHasher(0)
    }
}

impl Hasher for HashedHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("only u128 is hashed here")
    }
    fn write_u128(&mut self, value: u128) {
        self.0 = value as u64;
    }
}

pub(crate) struct RowHasher {
    symbols: [RandomState; 2],
    seeds: [u64; 4],
}

pub(crate) type SymbolHash = [u64; 2];

fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

impl RowHasher {
    pub(crate) fn new() -> Self {
        let seeds = std::array::from_fn(|i| RandomState::new().hash_one(i));
        Self { symbols: [RandomState::new(), RandomState::new()], seeds }
    }

    pub(crate) fn symbol(&self, text: &str) -> SymbolHash {
        [self.symbols[0].hash_one(text), self.symbols[1].hash_one(text)]
    }

    /// Keys of a row are distinct, so the sum over its labels does not lose any.
    #[inline]
    pub(crate) fn row(
        &self,
        name: SymbolHash,
        labels: impl Iterator<Item = (SymbolHash, SymbolHash)>,
    ) -> u128 {
        let [a, b, c, d] = self.seeds;
        let mut lanes = [mix(name[0] ^ a, b), mix(name[1] ^ a, b)];
        for (key, value) in labels {
            for lane in 0..2 {
                lanes[lane] = lanes[lane].wrapping_add(mix(key[lane] ^ c, value[lane] ^ d));
            }
        }
        u128::from(mix(lanes[0] ^ b, c)) | u128::from(mix(lanes[1] ^ d, a)) << 64
    }
}
