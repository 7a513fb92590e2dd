//! The oracle of lost and doubled samples, and of alerts ([`alerts`]).
//!
//! The fixture `sentinel/counter` makes rows whose values are 1, 2, 3 …, and says in its agent's
//! log how far that was synced. The database must hold each of those values exactly once; above
//! them it may hold what the agent still had to sync when it was last heard of, with gaps, but
//! nothing twice. [`judge`] decides that from two things alone: what the generators said
//! ([`logs`]) and what is stored ([`database`]). It asks no part of Sentinel.

pub mod alerts;
pub mod database;
pub mod logs;
mod report;
mod sqlite;

pub use report::{Count, Report, Trouble};

use database::{Sample, Stored};
use logs::Logs;
use std::collections::BTreeMap;

/// Whose values they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Generator {
    /// The agent.
    pub agent: String,
    /// The slot in which the counter runs.
    pub slot: String,
}

/// How often one value is stored. Packing leaves a sample in a batch and in a chunk for a
/// moment, which readers take for one; so do we.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    packed: u64,
    waiting: u64,
}

/// Compares what is stored with what was said.
#[must_use]
pub fn judge(logs: &Logs, stored: &Stored) -> Report {
    let mut all: BTreeMap<Generator, BTreeMap<u64, BTreeMap<i64, Seen>>> = BTreeMap::new();
    let mut report = Report { troubles: stored.troubles.clone(), ..Report::default() };
    for sample in &stored.samples {
        let Some(value) = number(sample) else {
            let (value, series) = (sample.value, sample.series.clone());
            report.troubles.push(Trouble::Foreign {
                generator: sample.generator.clone(),
                value,
                series,
            });
            continue;
        };
        let values = all.entry(sample.generator.clone()).or_default();
        let seen = values.entry(value).or_default().entry(sample.time).or_default();
        if sample.packed { seen.packed += 1 } else { seen.waiting += 1 }
    }
    report.troubles.extend(logs.troubles.iter().cloned());
    for (generator, &kept) in &logs.kept {
        let values = all.remove(generator).unwrap_or_default();
        let times = values.into_iter().map(|(value, seen)| {
            (value, seen.values().map(|seen| seen.packed.max(seen.waiting)).sum())
        });
        report.counts.push(Count::of(generator.clone(), kept, times));
    }
    report.troubles.extend(all.into_keys().map(|generator| Trouble::Unsaid { generator }));
    if report.counts.iter().all(|count| count.kept == 0) {
        report.troubles.push(Trouble::Nothing);
    }
    report
}

/// A counter's value, where it is one.
fn number(sample: &Sample) -> Option<u64> {
    let value = sample.value as u64;
    // The counter's values stay far below what a double tells apart.
    (value as f64 == sample.value && value > 0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn generator(agent: &str) -> Generator {
        Generator { agent: agent.to_owned(), slot: "counter".to_owned() }
    }

    fn sample(agent: &str, value: f64, time: i64, packed: bool) -> Sample {
        Sample { generator: generator(agent), series: "0".to_owned(), value, time, packed }
    }

    fn check(kept: u64, values: &[f64]) -> Report {
        let logs = Logs { kept: BTreeMap::from([(generator("a"), kept)]), troubles: Vec::new() };
        let samples = values.iter().enumerate();
        let samples = samples.map(|(i, value)| sample("a", *value, i as i64, false)).collect();
        judge(&logs, &Stored { samples, troubles: Vec::new() })
    }

    #[test]
    fn what_is_there_once_is_right_and_above_what_was_kept_there_may_be_gaps() {
        for values in [&[1., 2., 3.][..], &[3., 1., 2.], &[1., 2., 3., 4.], &[1., 2., 3., 7., 9.]] {
            let report = check(3, values);
            assert!(report.holds(), "{values:?}: {report}");
        }
    }

    #[test]
    fn gaps_doubles_and_foreign_values_are_found() {
        for (values, words) in [
            (&[1., 3.][..], "missing 1: 2"),
            (&[2., 3.], "missing 1: 1"),
            (&[1., 2.], "missing 1: 3"),
            (&[], "missing 3: 1–3"),
            (&[1., 2., 2., 3.], "doubled 1: 2 (2 times)"),
            (&[1., 2., 3., 5., 5., 5.], "doubled 1: 5 (3 times)"),
            (&[1., 2., 3., 0.5], "0.5"),
        ] {
            let report = check(3, values);
            assert!(!report.holds() && report.to_string().contains(words), "{values:?}: {report}");
        }
        let only_late = |values: &[f64]| check(3, values).may_still_hold();
        assert!(only_late(&[1., 2.]) && !only_late(&[1., 1.]), "doubles do not go away");
    }

    #[test]
    fn a_sample_that_is_being_packed_is_one() {
        let logs = Logs { kept: BTreeMap::from([(generator("a"), 1)]), troubles: Vec::new() };
        let of = |samples: &[(i64, bool)]| {
            let samples = samples.iter().map(|&(time, packed)| sample("a", 1., time, packed));
            judge(&logs, &Stored { samples: samples.collect(), troubles: Vec::new() }).holds()
        };
        assert!(of(&[(7, true), (7, false)]));
        assert!(!of(&[(7, true), (8, false)]));
        assert!(!of(&[(7, false), (7, false)]));
        assert!(!of(&[(7, true), (7, true)]));
    }

    #[test]
    fn generators_that_said_nothing_and_logs_that_say_nothing_are_troubles() {
        let samples = vec![sample("a", 1., 0, false), sample("b", 1., 0, false)];
        let kept = BTreeMap::from([(generator("a"), 1)]);
        let stored = Stored { samples, troubles: Vec::new() };
        let report = judge(&Logs { kept, troubles: Vec::new() }, &stored);
        assert!(!report.holds() && report.to_string().contains("agent b"), "{report}");
        let report = judge(&Logs::default(), &Stored::default());
        assert!(!report.holds() && report.to_string().contains("nothing to judge"), "{report}");
    }

    proptest! {
        /// Whatever is planted, the report counts it as a plain loop over all values does.
        #[test]
        fn planted_gaps_and_doubles_are_counted(times in proptest::collection::vec(0u64..3, 1..60), kept in 1u64..60) {
            let values: Vec<f64> = times.iter().zip(1u64..)
                .flat_map(|(&n, value)| std::iter::repeat_n(value as f64, n as usize)).collect();
            let report = check(kept, &values);
            let stored = |value: u64| times.get(value as usize - 1).copied().unwrap_or(0);
            let missing = (1..=kept).filter(|&value| stored(value) == 0).count() as u64;
            let doubled = times.iter().filter(|&&n| n > 1).count() as u64;
            prop_assert_eq!((report.counts[0].missing, report.counts[0].doubled), (missing, doubled));
            prop_assert_eq!(report.holds(), missing == 0 && doubled == 0);
        }
    }
}
