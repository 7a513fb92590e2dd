//! How often somebody may ask: token buckets, pure, of bounded memory. Who asks too often is told
//! when to come again.

use parking_lot::Mutex;
use schemars::JsonSchema;
use sentinel_model::ids::AgentId;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};

/// The most keys that are remembered one by one; all others share one bucket.
const MAX_KEYS: usize = 100_000;
/// The longest that anybody is told to wait, milliseconds.
const MAX_WAIT: u64 = 60_000;

/// A rate, and how far it may be exceeded at once.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many a second in the long run.
    pub per_second: u32,
    /// So many at once.
    pub burst: u32,
}

/// How often may be asked, of each server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Batches of one agent. About what a core of the server takes: an agent that comes back with a
    /// backlog has it to itself, and no more than that. Beyond, the agent is told to wait, and waits
    /// for 250 ms at least, so that it loses nothing but time.
    pub agent_batches: Rate,
    /// Batches of all agents together.
    pub batches: Rate,
    /// Enrolments from one address.
    pub enrolments: Rate,
    /// Requests to REST with one token.
    pub requests: Rate,
    /// Requests to REST from one address with tokens that are not known yet.
    pub strangers: Rate,
    /// Connections at once, of each listener (REST, gRPC); more are refused. An agent has two.
    pub connections: u32,
    /// The same from one address. Whoever stands behind one, such as a proxy or a whole site, needs
    /// this many for all; the others' places are never taken by one.
    pub address_connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        Self {
            agent_batches: rate(5_000, 50_000),
            batches: rate(100_000, 200_000),
            enrolments: rate(20, 200),
            requests: rate(200, 1_000),
            strangers: rate(20, 500),
            connections: 8_192,
            address_connections: 4_096,
        }
    }
}

impl Limits {
    /// Everything that is wrong, by its path below `limits`.
    #[must_use]
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let rates = [
            ("/agent_batches", self.agent_batches),
            ("/batches", self.batches),
            ("/enrolments", self.enrolments),
            ("/requests", self.requests),
            ("/strangers", self.strangers),
        ];
        let none = rates.into_iter().filter(|(_, rate)| rate.per_second == 0 || rate.burst == 0);
        let none = none.map(|(path, _)| path);
        let connections = [
            ("/connections", self.connections),
            ("/address_connections", self.address_connections),
        ];
        let no = connections.into_iter().filter(|(_, most)| *most == 0).map(|(path, _)| path);
        none.chain(no)
            .map(|path| (path, "nobody could ask at all; write at least 1".to_owned()))
            .collect()
    }
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    /// Unix milliseconds.
    seen: i64,
}

impl Bucket {
    fn full(rate: Rate, now: i64) -> Self {
        Self { left: f64::from(rate.burst), seen: now }
    }

    fn refill(&mut self, rate: Rate, now: i64) {
        // A clock that is set back gives nothing and takes nothing.
        let passed = now.saturating_sub(self.seen).max(0) as f64 / 1000.0;
        self.left = (self.left + passed * f64::from(rate.per_second)).min(f64::from(rate.burst));
        self.seen = now;
    }

    /// Takes one; where none is left, after how many milliseconds there is.
    fn take(&mut self, rate: Rate, now: i64) -> Result<(), u32> {
        self.refill(rate, now);
        if self.left >= 1.0 {
            self.left -= 1.0;
            return Ok(());
        }
        // Less than a microsecond of it is how far fractions are off.
        let wait = (1.0 - self.left) * 1000.0 / f64::from(rate.per_second) - 1e-6;
        let wait = wait.ceil() as u64;
        Err(wait.clamp(1, MAX_WAIT) as u32)
    }
}

/// One bucket a key.
struct Buckets<K> {
    rate: Rate,
    most: usize,
    buckets: HashMap<K, Bucket>,
    /// For keys that there is no more room for.
    others: Bucket,
}

impl<K: Eq + Hash> Buckets<K> {
    fn new(rate: Rate, most: usize) -> Self {
        Self { rate, most, buckets: HashMap::new(), others: Bucket::full(rate, 0) }
    }

    fn take(&mut self, key: K, now: i64) -> Result<(), u32> {
        let rate = self.rate;
        if self.buckets.len() >= self.most && !self.buckets.contains_key(&key) {
            // A full bucket says no more than a new one does.
            self.buckets.retain(|_, bucket| {
                bucket.refill(rate, now);
                bucket.left < f64::from(rate.burst)
            });
            if self.buckets.len() >= self.most {
                return self.others.take(rate, now);
            }
        }
        self.buckets.entry(key).or_insert(Bucket::full(rate, now)).take(rate, now)
    }
}

/// What counts as one asker: an IPv4 address, or the 64 bits of an IPv6 address that one
/// customer usually has whole.
pub(crate) fn asker(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address @ IpAddr::V4(_) => address,
    }
}

/// All that is counted. Each answers after how many milliseconds to come again, where it is too
/// soon.
pub(crate) struct Rates {
    batches: Mutex<(Rate, Bucket)>,
    agents: Mutex<Buckets<AgentId>>,
    enrolments: Mutex<Buckets<IpAddr>>,
    requests: Mutex<Buckets<String>>,
    strangers: Mutex<Buckets<IpAddr>>,
}

impl Rates {
    pub(crate) fn new(limits: &Limits, now: i64) -> Self {
        Self {
            batches: Mutex::new((limits.batches, Bucket::full(limits.batches, now))),
            agents: Mutex::new(Buckets::new(limits.agent_batches, MAX_KEYS)),
            enrolments: Mutex::new(Buckets::new(limits.enrolments, MAX_KEYS)),
            requests: Mutex::new(Buckets::new(limits.requests, MAX_KEYS)),
            strangers: Mutex::new(Buckets::new(limits.strangers, MAX_KEYS)),
        }
    }

    /// A batch, whosever it is.
    pub(crate) fn batch(&self, now: i64) -> Result<(), u32> {
        let (rate, bucket) = &mut *self.batches.lock();
        bucket.take(*rate, now)
    }

    /// A batch of an agent whose signature was checked.
    pub(crate) fn agent(&self, agent: &AgentId, now: i64) -> Result<(), u32> {
        self.agents.lock().take(agent.clone(), now)
    }

    /// An enrolment from an address.
    pub(crate) fn enrolment(&self, address: IpAddr, now: i64) -> Result<(), u32> {
        self.enrolments.lock().take(asker(address), now)
    }

    /// A request of a caller.
    pub(crate) fn request(&self, caller: &str, now: i64) -> Result<(), u32> {
        self.requests.lock().take(caller.to_owned(), now)
    }

    /// A request from an address with a token that is not known yet.
    pub(crate) fn stranger(&self, address: IpAddr, now: i64) -> Result<(), u32> {
        self.strangers.lock().take(asker(address), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 2, burst: 3 };

    #[test]
    fn a_burst_passes_then_the_rate_and_who_is_too_soon_is_told_when_to_come() {
        let mut buckets = Buckets::new(RATE, 9);
        for (now, taken) in [
            (0, Ok(())),
            (0, Ok(())),
            (0, Ok(())),
            (0, Err(500)),
            (499, Err(1)),
            (500, Ok(())),
            (500, Err(500)),
            (400, Err(500)),
            (1000, Ok(())),
            (10_000, Ok(())),
        ] {
            assert_eq!(buckets.take("a", now), taken, "{now}");
        }
        assert_eq!(buckets.take("b", 10_000), Ok(()), "another has a bucket of its own");
    }

    #[test]
    fn strangers_beyond_the_bound_share_one_bucket_and_memory_stays_bounded() {
        let mut buckets = Buckets::new(RATE, 100);
        let passed = (0..200).filter(|key| buckets.take(*key, 0).is_ok()).count();
        assert_eq!(passed, 103);
        assert_eq!(buckets.buckets.len(), 100);
        assert!(buckets.take(201, 10_000).is_ok(), "full buckets make room");
        assert_eq!(buckets.buckets.len(), 1);
    }

    #[test]
    fn limits_that_let_nobody_ask_are_all_said() {
        assert!(Limits::default().problems().is_empty());
        let none = Rate { per_second: 1, burst: 0 };
        let limits = Limits { requests: none, address_connections: 0, ..Limits::default() };
        let paths: Vec<_> = limits.problems().into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["/requests", "/address_connections"]);
    }

    #[test]
    fn one_customer_of_ipv6_is_one_asker() {
        let same = |a: &str, b: &str| asker(a.parse().unwrap()) == asker(b.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
    }
}
