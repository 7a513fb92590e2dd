//! The oracle of alerts.
//!
//! Each call of an evaluator is journaled with what it saw: the time, the version of the rules, and
//! the position up to which what was committed counted. [`judge`] takes those calls one after the
//! other, works out what each rule comes to over exactly the samples of that position
//! ([`mod@reference`]), steps every alert in the plainest way ([`life`]), and holds against that
//!
//! * the history: each transition there once, at that evaluation, of that incident, with that value;
//! * the alerts as they are stored;
//! * the journal of notifications ([`told`]): each firing and each end told once, and nothing else.
//!
//! It reads the database alone, in one moment, and asks no code of Sentinel's evaluator or alerting.
//! It knows few shapes of rules ([`rules`]) and refuses others.
//!
//! Two things cannot be told. What an evaluation saw is lost once a batch behind its position is
//! packed; and where more came while it was being made, either answer is right. Alerts then go on
//! as the history says, if there is such a way. How often that was is in the [`Report`].

mod court;
mod engines;
pub mod life;
pub mod position;
pub mod reference;
mod report;
pub mod rules;
mod stand;
pub mod stored;
pub mod told;

pub use engines::read;
pub use report::{Difference, Report};

use anyhow::{Context, Result, ensure};
use court::Court;
use rules::Rule;
use std::collections::BTreeMap;
use stored::{Labels, Stored};

/// The identity of an alert: FNV-1a (64 bit) over the rule's name and the labels in order of keys,
/// each text ended by a byte that UTF-8 never has; in hexadecimal digits.
#[must_use]
pub fn fingerprint(rule: &str, labels: &Labels) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let texts = labels.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    for text in std::iter::once(rule).chain(texts) {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// Compares what is stored with the reference.
///
/// # Errors
/// Where there is a rule that the reference cannot read.
pub fn judge(stored: &Stored) -> Result<Report> {
    let mut rules = BTreeMap::new();
    for (version, all) in &stored.rules {
        let all: Result<Vec<Rule>> = all.iter().map(Rule::read).collect();
        rules.insert(*version, all?);
    }
    let used = stored.evaluations.iter().map(|one| (one.rules_version, &one.rules));
    for (version, places) in used {
        let known = rules.get(&version).with_context(|| format!("no rules {version}"))?;
        let last = places.iter().max().map_or(0, |last| last + 1);
        ensure!(last <= known.len(), "version {version} has no rule {last}");
    }
    Ok(Court::of(stored, rules).judge())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alerts_identity_is_the_documented_one() {
        let labels = [("agent", "a"), ("cpu", "0")];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(fingerprint("high-cpu", &Labels::from(labels)), "62a5f29023c876e3");
    }
}
