//! What the database holds of the counter fixture: the oracle of lost and doubled samples.

use crate::sentinel::Up;
use anyhow::Result;
use std::collections::BTreeMap;

/// How many values a complaint lists.
const LISTED: usize = 10;

/// The time, unix milliseconds.
///
/// # Panics
/// Where the clock stands before 1970.
#[must_use]
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("after 1970").as_millis() as i64
}

/// The counter's values as they are stored, each with how often.
pub struct Counted(BTreeMap<u64, u32>);

impl Counted {
    /// Asks for all since a time.
    ///
    /// # Errors
    /// As [`Up::get`].
    pub async fn since(up: &Up<'_>, since: i64) -> Result<Self> {
        Self::of(up, "sentinel_test_counter", since).await
    }

    /// Asks for what one slot counted since a time.
    ///
    /// # Errors
    /// As [`Up::get`].
    pub async fn of_slot(up: &Up<'_>, slot: &str, since: i64) -> Result<Self> {
        Self::of(up, &format!("sentinel_test_counter{{slot=\"{slot}\"}}"), since).await
    }

    async fn of(up: &Up<'_>, selector: &str, since: i64) -> Result<Self> {
        let mut values = BTreeMap::new();
        for series in up.samples(selector, since, now() + 60_000).await? {
            for (_, value) in series {
                *values.entry(value as u64).or_insert(0) += 1;
            }
        }
        Ok(Self(values))
    }

    /// The greatest value.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.0.last_key_value().map(|(value, _)| *value)
    }

    /// Checks that 1 to `last` are there, and nothing twice.
    ///
    /// # Panics
    /// Where they are not; `hint` says how to see it again.
    pub fn assert_each_once(&self, last: u64, hint: &str) {
        let missing: Vec<u64> = (1..=last).filter(|value| !self.0.contains_key(value)).collect();
        let doubled: Vec<u64> = self.0.iter().filter(|(_, n)| **n > 1).map(|(v, _)| *v).collect();
        let first = |values: &[u64]| values[..values.len().min(LISTED)].to_vec();
        assert!(
            missing.is_empty(),
            "{hint}: lost {} of {last}: {:?} …",
            missing.len(),
            first(&missing)
        );
        assert!(doubled.is_empty(), "{hint}: doubled {}: {:?} …", doubled.len(), first(&doubled));
    }
}
