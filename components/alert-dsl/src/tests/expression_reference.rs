//! Expressions read straight from their JSON, with loops in place of plans, hashes and caches.

use serde_json::{Value, json};

use super::reference::{self, Labels, Series};

pub(super) type Rows = Vec<(Labels, f64)>;

/// A number, or rows.
pub(super) enum Found {
    Number(f64),
    Rows(Rows),
}

use Found::{Number, Rows as Many};

impl Found {
    pub(super) fn rows(self) -> Rows {
        match self {
            Number(value) => vec![(Labels::new(), value)],
            Many(rows) => rows,
        }
    }
}

/// Rows that cannot be told apart.
pub(super) struct Ambiguous;

pub(super) fn find(world: &[Series], expression: &Value, at: i64) -> Result<Found, Ambiguous> {
    if let Some(number) = expression.as_f64() {
        return Ok(Number(number));
    }
    if expression == "now" {
        return Ok(Number(at as f64 / 1e3));
    }
    if let Some(of) = expression.get("vector") {
        return Ok(Many(find(world, of, at)?.rows()));
    }
    if let Some(absent) = expression.get("absent") {
        let holds = reference::evaluate(world, &json!({ "absent": absent }), at);
        return Ok(Many(holds.into_iter().map(|(labels, _)| (labels, 1.0)).collect()));
    }
    if let Some(of) = expression.get("of") {
        return made_of(expression, find(world, of, at)?);
    }
    for word in ["and", "or", "unless"] {
        let Some(members) = expression.get(word).and_then(Value::as_array) else { continue };
        let mut all: Vec<Rows> = Vec::new();
        for member in members {
            all.push(find(world, member, at)?.rows());
        }
        return Ok(Many(set(expression, word, all)));
    }
    for word in ["add", "sub", "mul", "div", "mod", "pow"] {
        let Some(sides) = expression.get(word) else { continue };
        let of = |a: f64, b: f64| {
            Some(match word {
                "add" => a + b,
                "sub" => a - b,
                "mul" => a * b,
                "div" => a / b,
                "mod" => a % b,
                _ => a.powf(b),
            })
        };
        return both(world, expression, (&sides[0], &sides[1]), at, of);
    }
    if let Some(value) = expression.get("value") {
        return compare(world, expression, value, at);
    }
    Ok(Many(measured(world, expression, at)))
}

fn compare(world: &[Series], whole: &Value, value: &Value, at: i64) -> Result<Found, Ambiguous> {
    let words = ["above", "at_least", "below", "at_most", "equals", "not_equals"];
    let word = words.into_iter().find(|word| whole.get(word).is_some()).unwrap();
    let numeric = whole.get("bool") == Some(&json!(true));
    let from_right = is_number(value) && !is_number(&whole[word]);
    both(world, whole, (value, &whole[word]), at, |a, b| {
        let holds = match word {
            "above" => a > b,
            "at_least" => a >= b,
            "below" => a < b,
            "at_most" => a <= b,
            "equals" => a == b,
            _ => a != b,
        };
        match (numeric, holds) {
            (true, holds) => Some(if holds { 1.0 } else { 0.0 }),
            (false, true) => Some(if from_right { b } else { a }),
            (false, false) => None,
        }
    })
}

fn is_number(expression: &Value) -> bool {
    expression.is_number() || expression.is_string()
}

fn keeps(whole: &Value, only: &str, without: &str, key: &str) -> bool {
    let has = |list: &Value| list.as_array().unwrap().iter().any(|one| one == key);
    match (whole.get(only), whole.get(without)) {
        (Some(only), _) => has(only),
        (None, Some(without)) => !has(without),
        (None, None) => only != "by",
    }
}

fn part(whole: &Value, only: &str, without: &str, labels: &Labels) -> Labels {
    let kept = labels.iter().filter(|(key, _)| keeps(whole, only, without, key));
    kept.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn set(whole: &Value, word: &str, all: Vec<Rows>) -> Rows {
    let on = |labels: &Labels| part(whole, "on", "ignoring", labels);
    let partner = |rows: &Rows, labels: &Labels| rows.iter().any(|(l, _)| on(l) == on(labels));
    let mut all = all.into_iter();
    let mut rows = all.next().unwrap();
    for other in all {
        match word {
            "and" => rows.retain(|(labels, _)| partner(&other, labels)),
            "unless" => rows.retain(|(labels, _)| !partner(&other, labels)),
            _ => {
                let before = rows.clone();
                rows.extend(other.into_iter().filter(|(labels, _)| !partner(&before, labels)));
            }
        }
    }
    rows
}

fn both(
    world: &[Series],
    whole: &Value,
    sides: (&Value, &Value),
    at: i64,
    of: impl Fn(f64, f64) -> Option<f64>,
) -> Result<Found, Ambiguous> {
    let map = |rows: Rows, of: &dyn Fn(f64) -> Option<f64>| {
        Many(rows.into_iter().filter_map(|(l, v)| Some((l, of(v)?))).collect())
    };
    let (left, right) = match (find(world, sides.0, at)?, find(world, sides.1, at)?) {
        (Number(a), Number(b)) => return Ok(Number(of(a, b).unwrap())),
        (Many(rows), Number(b)) => return Ok(map(rows, &|a| of(a, b))),
        (Number(a), Many(rows)) => return Ok(map(rows, &|b| of(a, b))),
        (Many(left), Many(right)) => (left, right),
    };
    if left.is_empty() || right.is_empty() {
        return Ok(Many(Vec::new()));
    }
    let right_many = whole.get("many") == Some(&json!("right"));
    let (many, one) = if right_many { (&right, &left) } else { (&left, &right) };
    let on = |labels: &Labels| part(whole, "on", "ignoring", labels);
    let twice = |at: usize| one[..at].iter().any(|(labels, _)| on(labels) == on(&one[at].0));
    if (0..one.len()).any(twice) {
        return Err(Ambiguous);
    }
    let mut rows = Rows::new();
    for (labels, value) in many {
        let Some((other, partner)) = one.iter().find(|(other, _)| on(other) == on(labels)) else {
            continue;
        };
        let (a, b) = if right_many { (*partner, *value) } else { (*value, *partner) };
        let Some(value) = of(a, b) else { continue };
        let mut made = if whole.get("many").is_some() { labels.clone() } else { on(labels) };
        for key in whole.get("include").and_then(Value::as_array).into_iter().flatten() {
            let key = key.as_str().unwrap();
            made.remove(key);
            made.extend(other.get(key).map(|value| (key.to_owned(), value.clone())));
        }
        if rows.iter().any(|(known, _)| *known == made) {
            return Err(Ambiguous);
        }
        rows.push((made, value));
    }
    Ok(Many(rows))
}

fn made_of(whole: &Value, found: Found) -> Result<Found, Ambiguous> {
    if let Some(word) = whole.get("apply").and_then(Value::as_str) {
        let of = |value: f64| match word {
            "abs" => value.abs(),
            "ceil" => value.ceil(),
            "floor" => value.floor(),
            "round" => (value + 0.5).floor(),
            "sqrt" => value.sqrt(),
            "exp" => value.exp(),
            "ln" => value.ln(),
            "log2" => value.log2(),
            "log10" => value.log10(),
            "sign" if value > 0.0 => 1.0,
            "sign" if value < 0.0 => -1.0,
            "sign" => value,
            _ => 0.0 - value,
        };
        return Ok(match found {
            Number(value) => Number(of(value)),
            Many(rows) => Many(rows.into_iter().map(|(l, v)| (l, of(v))).collect()),
        });
    }
    let combine = whole["combine"].as_str().unwrap();
    let mut groups: Vec<(Labels, Vec<f64>)> = Vec::new();
    for (labels, value) in found.rows() {
        let labels = part(whole, "by", "without", &labels);
        match groups.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, values)) => values.push(value),
            None => groups.push((labels, vec![value])),
        }
    }
    Ok(Many(groups.into_iter().map(|(l, values)| (l, combined(combine, &values))).collect()))
}

fn combined(combine: &str, values: &[f64]) -> f64 {
    let numbers = values.iter().copied().filter(|value| !value.is_nan());
    let sum = values.iter().copied().reduce(|a, b| a + b).unwrap();
    match combine {
        "avg" => sum / values.len() as f64,
        "min" => numbers.fold(f64::NAN, f64::min),
        "max" => numbers.fold(f64::NAN, f64::max),
        "count" => values.len() as f64,
        _ => sum,
    }
}

fn measured(world: &[Series], measure: &Value, at: i64) -> Rows {
    let window = reference::millis(measure.get("window"), 300_000);
    let until = at - reference::millis(measure.get("offset"), 0);
    let closed = i64::from(measure.get("closed") == Some(&json!(true)));
    let mut groups: Vec<(Labels, Vec<f64>)> = Vec::new();
    for series in world.iter().filter(|series| reference::selects(measure, series)) {
        let samples = reference::within(series, until, window + closed);
        let function = measure.get("fn");
        let value = match function.and_then(Value::as_str) {
            Some(word) if ESTIMATES.contains(&word) => estimate(word, &samples, until, window),
            None if function.is_some_and(|function| function.get("predict").is_some()) => {
                let ahead = reference::millis(function.unwrap().get("predict"), 0) + at - until;
                line(&samples, until).map(|(slope, value)| value + slope * (ahead as f64 / 1e3))
            }
            _ => reference::aggregate(function, &samples),
        };
        let Some(value) = value else { continue };
        let mut labels = match measure.get("by") {
            Some(by) => reference::grouped(by, series),
            None => series.labels.clone(),
        };
        labels.retain(|_, value| !value.is_empty());
        match groups.iter_mut().find(|(known, _)| *known == labels) {
            Some((_, values)) => values.push(value),
            None => groups.push((labels, vec![value])),
        }
    }
    let combine = measure.get("combine").and_then(Value::as_str).unwrap_or("sum");
    groups.into_iter().map(|(labels, values)| (labels, combined(combine, &values))).collect()
}

pub(super) const ESTIMATES: [&str; 10] = [
    "extrapolated_increase",
    "extrapolated_rate",
    "delta",
    "instant_rate",
    "instant_delta",
    "slope",
    "changes",
    "resets",
    "stddev",
    "stdvar",
];

/// Slope, and value at `until`, of the line with the least squares.
fn line(samples: &[(i64, f64)], until: i64) -> Option<(f64, f64)> {
    let (n, first) = (samples.len() as f64, samples.first()?.1);
    if samples.len() < 2 {
        return None;
    }
    if samples.iter().all(|(_, value)| *value == first) {
        return Some(if first.is_finite() { (0.0, first) } else { (f64::NAN, f64::NAN) });
    }
    // Added in the order of time, as comparisons with whole numbers come after it.
    let seconds = |time: i64| (time - until) as f64 / 1e3;
    let mean_x = samples.iter().map(|(time, _)| seconds(*time)).sum::<f64>() / n;
    let mean_y = samples.iter().map(|(_, value)| value).sum::<f64>() / n;
    let (mut both, mut own) = (0.0, 0.0);
    for (time, value) in samples {
        both += (seconds(*time) - mean_x) * (value - mean_y);
        own += (seconds(*time) - mean_x).powi(2);
    }
    let slope = both / own;
    Some((slope, mean_y - slope * mean_x))
}

fn estimate(word: &str, samples: &[(i64, f64)], until: i64, window: i64) -> Option<f64> {
    let n = samples.len();
    let value = |at: usize| samples[at].1;
    let time = |at: usize| samples[at].0 as f64 / 1e3;
    if n == 0 {
        return None;
    }
    let steps = |is: &dyn Fn(f64, f64) -> bool| {
        (1..n).filter(|at| is(value(at - 1), value(*at))).count() as f64
    };
    let mean = (0..n).map(value).sum::<f64>() / n as f64;
    let variance = (0..n).map(|at| (value(at) - mean).powi(2)).sum::<f64>() / n as f64;
    match word {
        "changes" => return Some(steps(&|a, b| !(a == b || a.is_nan() && b.is_nan()))),
        "resets" => return Some(steps(&|a, b| b < a)),
        "stdvar" => return Some(variance),
        "stddev" => return Some(variance.sqrt()),
        "slope" => return line(samples, until).map(|(slope, _)| slope),
        _ if n == 1 => return None,
        "instant_delta" => return Some(value(n - 1) - value(n - 2)),
        "instant_rate" => {
            let (a, b) = (value(n - 2), value(n - 1));
            let grown = if b < a { b } else { b - a };
            return Some(grown / (time(n - 1) - time(n - 2)));
        }
        _ => {}
    }
    let is_counter = word != "delta";
    let mut grown = value(n - 1) - value(0);
    for at in 1..n {
        if is_counter && value(at) < value(at - 1) {
            grown += value(at - 1);
        }
    }
    let sampled = time(n - 1) - time(0);
    let mut start = time(0) - (until - window) as f64 / 1e3;
    if is_counter && grown > 0.0 && value(0) >= 0.0 {
        start = start.min(sampled * (value(0) / grown));
    }
    let apart = sampled / (n - 1) as f64;
    let end = until as f64 / 1e3 - time(n - 1);
    let reach = |distance: f64| if distance < apart * 1.1 { distance } else { apart / 2.0 };
    let increase = grown * ((sampled + reach(start) + reach(end)) / sampled);
    Some(if word == "extrapolated_rate" { increase / (window as f64 / 1e3) } else { increase })
}
