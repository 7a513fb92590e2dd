//! The language read straight from its JSON, with loops in place of plans, caches and joins.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

pub(super) type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub(super) struct Series {
    pub(super) name: &'static str,
    pub(super) labels: Labels,
    pub(super) samples: Vec<(i64, f64)>,
}

/// What holds at `at`, as labels and value, sorted.
pub(super) fn evaluate(world: &[Series], condition: &Value, at: i64) -> Vec<(Labels, f64)> {
    let mut rows: Vec<(Labels, f64)> = Vec::new();
    for (labels, value) in holds(world, condition, false, at) {
        let labels: Labels = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        if !rows.iter().any(|(known, _)| *known == labels) {
            rows.push((labels, value));
        }
    }
    rows.sort_by(|a, b| a.0.iter().cmp(b.0.iter()));
    rows
}

fn holds(world: &[Series], condition: &Value, negated: bool, at: i64) -> Vec<(Labels, f64)> {
    if let Some(member) = condition.get("not") {
        return holds(world, member, !negated, at);
    }
    for (key, joins) in [("all", !negated), ("any", negated)] {
        let Some(members) = condition.get(key).and_then(Value::as_array) else { continue };
        let mut members = members.iter().map(|member| holds(world, member, negated, at));
        let first = members.next().unwrap();
        return members.fold(first, |left, right| {
            once(if joins { join(&left, &right) } else { [left, right].concat() })
        });
    }
    if let Some(absent) = condition.get("absent") {
        return absences(world, absent, negated, at);
    }
    let limits = ["above", "at_least", "below", "at_most", "equals", "not_equals"];
    let word = limits.into_iter().find(|word| condition.get(word).is_some()).unwrap();
    let limit = condition[word].as_f64().unwrap();
    let compare = |value: f64| match word {
        "above" => value > limit,
        "at_least" => value >= limit,
        "below" => value < limit,
        "at_most" => value <= limit,
        "equals" => value == limit,
        _ => value != limit,
    };
    let mut rows = measure(world, condition, condition, "combine", at);
    if let Some(divisor) = condition.get("divided_by") {
        let combine = if divisor.get("combine").is_some() { divisor } else { condition };
        let divisors = measure(world, divisor, condition, combine["combine"].as_str().unwrap(), at);
        rows.retain_mut(|(labels, value)| {
            let divisor = divisors.iter().find(|(known, _)| known == labels);
            divisor.inspect(|(_, divisor)| *value /= divisor).is_some()
        });
    }
    rows.retain(|(_, value)| !value.is_nan() && compare(*value) != negated);
    rows
}

/// One value for each series or group. `combine` is the word, or `combine` for the condition's.
fn measure(
    world: &[Series],
    measure: &Value,
    condition: &Value,
    combine: &str,
    at: i64,
) -> Vec<(Labels, f64)> {
    let combine =
        if combine == "combine" { condition["combine"].as_str().unwrap_or("") } else { combine };
    let window = millis(measure.get("window"), 300_000);
    let at = at - millis(measure.get("offset"), 0);
    let mut groups: Vec<(Labels, Vec<f64>)> = Vec::new();
    for series in world.iter().filter(|series| selects(measure, series)) {
        let Some(value) = aggregate(measure.get("fn"), &within(series, at, window)) else {
            continue;
        };
        let labels = match condition.get("by") {
            Some(by) => grouped(by, series),
            None => series.labels.clone(),
        };
        match groups.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, values)) => values.push(value),
            None => groups.push((labels, vec![value])),
        }
    }
    let combined = |values: Vec<f64>| {
        let numbers = values.iter().copied().filter(|value| !value.is_nan());
        let sum = values.iter().copied().reduce(|a, b| a + b).unwrap();
        match combine {
            "avg" => sum / values.len() as f64,
            "min" => numbers.fold(f64::NAN, f64::min),
            "max" => numbers.fold(f64::NAN, f64::max),
            "count" => values.len() as f64,
            _ => sum,
        }
    };
    groups.into_iter().map(|(labels, values)| (labels, combined(values))).collect()
}

fn absences(world: &[Series], absent: &Value, negated: bool, at: i64) -> Vec<(Labels, f64)> {
    let count = |labels: Option<&Labels>, window: i64| {
        let there = |series: &&Series| {
            selects(absent, series)
                && labels.is_none_or(|labels| grouped(&absent["by"], series) == *labels)
                && !within(series, at, window).is_empty()
        };
        world.iter().filter(there).count()
    };
    let window = millis(absent.get("window"), 300_000);
    let Some(by) = absent.get("by") else {
        let found = count(None, window);
        let labels = absent.get("match").and_then(Value::as_object).into_iter().flatten();
        let labels = labels
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        return if (found == 0) != negated { vec![(labels, found as f64)] } else { Vec::new() };
    };
    let within = millis(absent.get("seen_within"), 86_400_000);
    let mut rows: Vec<(Labels, f64)> = Vec::new();
    for series in world.iter().filter(|series| selects(absent, series)) {
        let labels = grouped(by, series);
        let found = count(Some(&labels), window);
        let known = count(Some(&labels), within) > 0;
        if known && (found == 0) != negated && !rows.iter().any(|(row, _)| *row == labels) {
            rows.push((labels, found as f64));
        }
    }
    rows
}

fn join(left: &[(Labels, f64)], right: &[(Labels, f64)]) -> Vec<(Labels, f64)> {
    let mut rows = Vec::new();
    for (a, value) in left {
        for (b, _) in right {
            if a.iter().all(|(key, value)| b.get(key).is_none_or(|other| other == value)) {
                let mut labels = a.clone();
                labels.extend(b.clone());
                rows.push((labels, *value));
            }
        }
    }
    rows
}

fn once(rows: Vec<(Labels, f64)>) -> Vec<(Labels, f64)> {
    let mut kept: Vec<(Labels, f64)> = Vec::new();
    for row in rows {
        if !kept.iter().any(|(labels, _)| *labels == row.0) {
            kept.push(row);
        }
    }
    kept
}

pub(super) fn grouped(by: &Value, series: &Series) -> Labels {
    let keys = by.as_array().unwrap().iter().map(|key| key.as_str().unwrap());
    keys.map(|key| (key.to_owned(), series.labels.get(key).cloned().unwrap_or_default())).collect()
}

pub(super) fn selects(measure: &Value, series: &Series) -> bool {
    let matchers = measure.get("match").and_then(Value::as_object).into_iter().flatten();
    let mut matches = matchers.map(|(label, matcher)| {
        let value = series.labels.get(label).map_or("", String::as_str);
        let regex = |text: &Value| {
            Regex::new(&format!("^(?:{})$", text.as_str().unwrap())).unwrap().is_match(value)
        };
        match matcher {
            Value::String(text) => value == text,
            other if other.get("not").is_some() => other["not"] != value,
            other if other.get("regex").is_some() => regex(&other["regex"]),
            other => !regex(&other["not_regex"]),
        }
    });
    series.name == measure["metric"] && matches.all(|matches| matches)
}

pub(super) fn within(series: &Series, at: i64, window: i64) -> Vec<(i64, f64)> {
    let inside = |(time, _): &(i64, f64)| at - window < *time && *time <= at;
    series.samples.iter().copied().filter(inside).collect()
}

pub(super) fn aggregate(function: Option<&Value>, samples: &[(i64, f64)]) -> Option<f64> {
    let values: Vec<f64> = samples.iter().map(|(_, value)| *value).collect();
    let last = samples.last()?;
    let sum = values.iter().sum::<f64>();
    let numbers: Vec<_> = samples.iter().filter(|(_, value)| !value.is_nan()).collect();
    let mut ordered: Vec<f64> = numbers.iter().map(|(_, value)| *value).collect();
    let grown = |pair: &[f64]| if pair[1] < pair[0] { pair[1] } else { pair[1] - pair[0] };
    let increase: f64 = ordered.windows(2).map(grown).sum();
    let several = numbers.len() > 1;
    let millis = || (numbers[numbers.len() - 1].0 - numbers[0].0) as f64;
    match function.map_or("last", |function| function.as_str().unwrap_or("quantile")) {
        "last" => Some(last.1),
        "avg" => Some(sum / values.len() as f64),
        "min" => values.into_iter().reduce(f64::min),
        "max" => values.into_iter().reduce(f64::max),
        "sum" => Some(sum),
        "count" => Some(values.len() as f64),
        "increase" => several.then_some(increase),
        "rate" => several.then(|| increase / (millis() / 1e3)),
        _ if ordered.is_empty() => Some(f64::NAN),
        _ => {
            let rank = function.unwrap()["quantile"].as_f64().unwrap() * (ordered.len() - 1) as f64;
            ordered.sort_by(f64::total_cmp);
            let (below, above) = (ordered[rank.floor() as usize], ordered[rank.ceil() as usize]);
            Some(if below == above { below } else { below + (above - below) * rank.fract() })
        }
    }
}

pub(super) fn millis(text: Option<&Value>, unsaid: i64) -> i64 {
    let Some(text) = text.and_then(Value::as_str) else { return unsaid };
    text.strip_suffix('s').unwrap().parse::<i64>().unwrap() * 1_000
}
