//! How often somebody may ask: token buckets, pure, of bounded memory.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// Most keys that a [`Buckets`] remembers one by one; all others share one bucket.
pub(crate) const MAX_KEYS: usize = 20_000;

/// A rate and how far it may be exceeded at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Requests a second in the long run.
    pub per_second: f64,
    /// Requests at once.
    pub burst: f64,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    /// Unix milliseconds.
    seen: i64,
}

/// One bucket a key.
#[derive(Debug)]
pub(crate) struct Buckets<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
    /// For keys that there is no more room for.
    others: Bucket,
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now: i64) {
        // A clock that is set back gives nothing and takes nothing.
        let passed = now.saturating_sub(self.seen).max(0);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds since the last request")]
        let seconds = passed as f64 / 1000.0;
        self.left = (self.left + seconds * rate.per_second).min(rate.burst);
        self.seen = now;
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Full buckets of a rate.
    #[must_use]
    pub(crate) fn new(rate: Rate) -> Self {
        let others = Bucket { left: rate.burst, seen: 0 };
        Self { rate, buckets: HashMap::new(), others }
    }

    /// Whether `key` has a request left at `now` (unix milliseconds); takes nothing.
    pub(crate) fn has_left(&mut self, key: K, now: i64) -> bool {
        let rate = self.rate;
        let bucket = self.bucket(key, now);
        bucket.refill(rate, now);
        bucket.left >= 1.0
    }

    /// Takes one request of `key` at `now` (unix milliseconds); false where none is left.
    pub(crate) fn take(&mut self, key: K, now: i64) -> bool {
        let rate = self.rate;
        let bucket = self.bucket(key, now);
        bucket.refill(rate, now);
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }

    fn bucket(&mut self, key: K, now: i64) -> &mut Bucket {
        let rate = self.rate;
        if self.buckets.len() >= MAX_KEYS && !self.buckets.contains_key(&key) {
            // A full bucket says no more than a new one does.
            self.buckets.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.left < rate.burst
            });
            if self.buckets.len() >= MAX_KEYS {
                return &mut self.others;
            }
        }
        self.buckets.entry(key).or_insert(Bucket { left: rate.burst, seen: now })
    }
}

/// What counts as one asker: an IPv4 address, or the 64 bits of an IPv6 address that one
/// customer usually has whole.
#[must_use]
pub(crate) fn asker(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate { per_second: 2.0, burst: 3.0 };

    #[test]
    fn a_burst_passes_then_the_rate() {
        let mut buckets = Buckets::new(RATE);
        let passed: Vec<bool> = [0, 0, 0, 0, 499, 500, 500, 1000, 10_000, 10_000, 10_000, 10_000]
            .into_iter()
            .map(|now| buckets.take("a", now))
            .collect();
        assert_eq!(
            passed,
            [true, true, true, false, false, true, false, true, true, true, true, false]
        );
        assert!(buckets.take("b", 10_000), "another asker has a bucket of its own");
    }

    #[test]
    fn strangers_beyond_the_bound_share_one_bucket_and_memory_stays_bounded() {
        let mut buckets = Buckets::new(RATE);
        let passed = (0..MAX_KEYS + 100).filter(|key| buckets.take(*key, 0)).count();
        assert_eq!(passed, MAX_KEYS + 3);
        assert_eq!(buckets.buckets.len(), MAX_KEYS);
        assert!(buckets.take(MAX_KEYS + 1, 10_000), "full buckets make room");
        assert_eq!(buckets.buckets.len(), 1);
    }

    #[test]
    fn one_customer_of_ipv6_is_one_asker() {
        let same = |a: &str, b: &str| asker(a.parse().unwrap()) == asker(b.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_together(
            gaps in proptest::collection::vec(0_i64..2_000, 1..200)
        ) {
            let mut buckets = Buckets::new(RATE);
            let (mut now, mut passed) = (0, 0.0);
            for gap in gaps {
                now += gap;
                passed += f64::from(u8::from(buckets.take((), now)));
                #[expect(clippy::cast_precision_loss, reason = "small")]
                let most = RATE.burst + RATE.per_second * now as f64 / 1000.0;
                prop_assert!(passed <= most + 1e-6);
            }
        }
    }
}
