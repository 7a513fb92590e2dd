//! What a rule's condition comes to at a time, over exactly the samples of a position.

use super::position::Position;
use super::rules::Rule;
use super::stored::{Labels, Sample, Series};
use std::collections::BTreeMap;

/// What is known of one set of labels; of those that are not named the condition does not hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Seen {
    /// It holds, with this value.
    Holds(f64),
    /// More came while it was being evaluated: nobody knows what was seen of it.
    Unsure,
}

/// What the newest sample within the window may have been; one where that is sure. `None` is
/// that there was none. Samples are in the order of their times.
fn newest(
    samples: &[Sample],
    (at, window): (i64, i64),
    position: &Position,
    until: Option<&Position>,
) -> Vec<Option<f64>> {
    let mut found = Vec::new();
    let past = samples.partition_point(|sample| sample.time <= at);
    for sample in samples[..past].iter().rev().take_while(|one| one.time > at - window) {
        if position.sees(sample.origin) {
            found.push(Some(sample.value));
            return found;
        }
        if until.is_some_and(|until| until.sees(sample.origin)) {
            found.push(Some(sample.value));
        }
    }
    found.push(None);
    found
}

/// The labels of its instances, and what is known of each.
#[must_use]
pub fn evaluate(
    rule: &Rule,
    series: &[Series],
    at: i64,
    position: &Position,
    until: Option<&Position>,
) -> BTreeMap<Labels, Seen> {
    // The sum of each group, or nothing where a member of it is not sure.
    let mut groups: BTreeMap<Labels, Option<f64>> = BTreeMap::new();
    let mut seen = BTreeMap::new();
    let is_read = |one: &&Series| {
        let matches = |(key, value): (&String, &String)| {
            one.labels.get(key).map_or("", String::as_str) == value
        };
        one.name == rule.metric && rule.matches.iter().all(matches)
    };
    for one in series.iter().filter(is_read) {
        let found = newest(&one.samples, (at, rule.window), position, until);
        if let Some(by) = &rule.sum_by {
            let group = one.labels.iter().filter(|(key, _)| by.contains(key));
            let group: Labels = group.map(|(key, value)| (key.clone(), value.clone())).collect();
            match found[..] {
                [Some(value)] => {
                    let sum = groups.entry(group).or_insert(Some(0.0));
                    *sum = sum.map(|sum| sum + value);
                }
                [None] => {}
                _ => {
                    groups.insert(group, None);
                }
            }
            continue;
        }
        let holds = |value: &Option<f64>| value.is_some_and(|value| rule.holds(value));
        match found[..] {
            [Some(value)] if rule.holds(value) => {
                seen.insert(one.labels.clone(), Seen::Holds(value));
            }
            [_] => {}
            _ if !found.iter().any(holds) => {}
            _ => {
                seen.insert(one.labels.clone(), Seen::Unsure);
            }
        }
    }
    for (labels, sum) in groups {
        match sum {
            Some(sum) if rule.holds(sum) => drop(seen.insert(labels, Seen::Holds(sum))),
            Some(_) => {}
            None => drop(seen.insert(labels, Seen::Unsure)),
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::super::position::Origin;
    use super::*;
    use serde_json::json;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// A series whose samples are (time, value, id of the batch).
    fn series(of: &[(&str, &str)], samples: &[(i64, f64, i64)]) -> Series {
        let sample = |&(time, value, id): &(i64, f64, i64)| Sample {
            time,
            value,
            origin: Origin::Batch { id, transaction: 0 },
        };
        Series {
            name: "m".to_owned(),
            labels: labels(of),
            samples: samples.iter().map(sample).collect(),
        }
    }

    fn rule(condition: serde_json::Value) -> Rule {
        let mut rule = json!({"name": "r", "notify": ["pager"], "condition": {
            "metric": "m", "window": "10ms", "above": 1.5}});
        for (key, value) in condition.as_object().unwrap() {
            rule["condition"][key] = value.clone();
        }
        Rule::read(&rule).unwrap()
    }

    fn check(
        rule: &Rule,
        all: &[Series],
        (at, position, until): (i64, i64, Option<i64>),
        expected: &[(&[(&str, &str)], Seen)],
    ) {
        let until = until.map(Position::UpTo);
        let found = evaluate(rule, all, at, &Position::UpTo(position), until.as_ref());
        let expected = expected.iter().map(|(of, seen)| (labels(of), *seen)).collect();
        assert_eq!(found, expected, "{at}, {position}, {until:?}");
    }

    #[test]
    fn the_newest_sample_that_was_there_counts_and_none_that_came_later() {
        let a: &[_] = &[("agent", "a")];
        let all = [series(a, &[(100, 2.0, 1), (105, 1.0, 3), (120, 2.5, 4)])];
        let rule = rule(json!({}));
        let holds = |value| vec![(a, Seen::Holds(value))];
        for (at, position, expected) in [
            (99, 4, vec![]),
            (100, 1, holds(2.0)),
            (105, 2, holds(2.0)),
            (105, 3, vec![]),
            // The window has its end and not its beginning.
            (109, 2, holds(2.0)),
            (110, 2, vec![]),
            (119, 4, vec![]),
            (120, 4, holds(2.5)),
            (120, 3, vec![]),
        ] {
            check(&rule, &all, (at, position, None), &expected);
        }
        check(&rule, &all, (105, 2, Some(3)), &[(a, Seen::Unsure)]);
        check(&rule, &all, (108, 3, Some(4)), &[]);
    }

    #[test]
    fn a_sum_is_of_those_that_have_a_value() {
        let (a, b): (&[_], &[_]) =
            (&[("agent", "a"), ("wave", "1")], &[("agent", "b"), ("wave", "1")]);
        let all = [series(a, &[(100, 1.0, 1)]), series(b, &[(100, 1.0, 2), (104, 0.0, 3)])];
        let rule = rule(json!({"by": ["wave"], "combine": "sum", "match": {"wave": "1"}}));
        let wave: &[_] = &[("wave", "1")];
        check(&rule, &all, (103, 1, None), &[]);
        check(&rule, &all, (103, 3, None), &[(wave, Seen::Holds(2.0))]);
        check(&rule, &all, (104, 2, None), &[(wave, Seen::Holds(2.0))]);
        check(&rule, &all, (104, 3, None), &[]);
        check(&rule, &all, (104, 2, Some(3)), &[(wave, Seen::Unsure)]);
        check(&rule, &all, (111, 3, None), &[]);
    }
}
