//! From PromQL's shape to the language's.

use serde_json::{Map, Value, json};

use crate::Obstacle;
use crate::parse::{Keys, Kind, Matching, Node, Selector};

/// How far back Prometheus looks for the newest sample.
const LOOKBACK_MS: u64 = 300_000;
/// Longest window and offset of the language.
const MAX_SPAN_MS: u64 = 7 * 86_400_000;

/// Functions of a range that need nothing else.
const OF_RANGES: [(&str, &str); 17] = [
    ("rate", "extrapolated_rate"),
    ("increase", "extrapolated_increase"),
    ("delta", "delta"),
    ("irate", "instant_rate"),
    ("idelta", "instant_delta"),
    ("deriv", "slope"),
    ("changes", "changes"),
    ("resets", "resets"),
    ("avg_over_time", "avg"),
    ("min_over_time", "min"),
    ("max_over_time", "max"),
    ("sum_over_time", "sum"),
    ("count_over_time", "count"),
    ("last_over_time", "last"),
    ("stddev_over_time", "stddev"),
    ("stdvar_over_time", "stdvar"),
    ("present_over_time", "count"),
];
/// Functions of each value.
const APPLIED: [(&str, &str); 10] = [
    ("abs", "abs"),
    ("ceil", "ceil"),
    ("floor", "floor"),
    ("round", "round"),
    ("sqrt", "sqrt"),
    ("exp", "exp"),
    ("ln", "ln"),
    ("log2", "log2"),
    ("log10", "log10"),
    ("sgn", "sign"),
];
const OPERATIONS: [(&str, &str); 12] = [
    ("+", "add"),
    ("-", "sub"),
    ("*", "mul"),
    ("/", "div"),
    ("%", "mod"),
    ("^", "pow"),
    (">", "above"),
    (">=", "at_least"),
    ("<", "below"),
    ("<=", "at_most"),
    ("==", "equals"),
    ("!=", "not_equals"),
];

#[derive(Default)]
pub(crate) struct Translator {
    pub(crate) obstacles: Vec<Obstacle>,
}

impl Translator {
    fn refuse<T>(&mut self, at: usize, message: impl Into<String>) -> Option<T> {
        self.obstacles.push(Obstacle { at, message: message.into() });
        None
    }

    /// An expression as rows; a number is one without labels.
    pub(crate) fn rows(&mut self, node: &Node) -> Option<Value> {
        let translated = self.expression(node)?;
        Some(if is_number(node) { json!({ "vector": translated }) } else { translated })
    }

    /// An expression where PromQL takes rows only.
    fn of_rows(&mut self, node: &Node) -> Option<Value> {
        if is_number(node) {
            return self
                .refuse(node.at, "a number where rows are needed; write vector(…) around it");
        }
        self.expression(node)
    }

    fn expression(&mut self, node: &Node) -> Option<Value> {
        if let Some(number) = constant(node) {
            if !number.is_finite() {
                return self.refuse(node.at, "numbers that are not finite cannot be written");
            }
            return Some(json!(number));
        }
        match &node.kind {
            Kind::Number(_) => None,
            Kind::Text => self.refuse(node.at, "a text is no value"),
            Kind::Subquery => self.refuse(
                node.at,
                "subqueries are not expressible: record the inner expression as a metric",
            ),
            Kind::Selector(selector) if selector.range_ms.is_some() => {
                self.refuse(node.at, "a range has no value without a function such as rate")
            }
            Kind::Selector(selector) => self.measure(node.at, selector, "last", LOOKBACK_MS),
            Kind::Negated(of) => {
                let of = self.expression(of)?;
                Some(json!({ "of": of, "apply": "negate" }))
            }
            Kind::Call { name, arguments } => self.call(node.at, name, arguments),
            Kind::Aggregate { name, arguments, keys } => {
                self.aggregate(node.at, name, arguments, keys.as_ref())
            }
            Kind::Binary { op, sides, matching } => self.binary(node.at, op, sides, matching),
        }
    }

    fn measure(
        &mut self,
        at: usize,
        selector: &Selector,
        function: impl Into<Value>,
        window_ms: u64,
    ) -> Option<Value> {
        let mut measure = self.selected(at, selector, window_ms)?;
        let function = function.into();
        if function != "last" {
            measure.insert("fn".to_owned(), function);
        }
        if selector.offset_ms > 0 {
            measure.insert("offset".to_owned(), json!(duration(selector.offset_ms.unsigned_abs())));
        }
        Some(Value::Object(measure))
    }

    /// Name, matchers and window.
    fn selected(
        &mut self,
        at: usize,
        selector: &Selector,
        window_ms: u64,
    ) -> Option<Map<String, Value>> {
        let before = self.obstacles.len();
        if selector.fixed {
            self.refuse::<()>(at, "`@` fixes a selector in time, which rules cannot");
        }
        if selector.offset_ms < 0 {
            self.refuse::<()>(at, "a negative offset looks into the future");
        }
        if window_ms > MAX_SPAN_MS || selector.offset_ms.unsigned_abs() > MAX_SPAN_MS {
            self.refuse::<()>(at, "windows and offsets are at most 7d");
        }
        if window_ms == 0 {
            self.refuse::<()>(at, "a window is longer than 0");
        }
        let mut name = selector.name.clone();
        let mut matchers = Map::new();
        for (label, op, value) in &selector.matchers {
            if label == "__name__" && op == "=" && name.is_none() {
                name = Some(value.clone());
                continue;
            }
            if label.starts_with("__") {
                self.refuse::<()>(
                    at,
                    format!("the label {label} cannot be matched; name the metric"),
                );
            }
            let written = match op.as_str() {
                "=" => json!(value),
                "!=" => json!({ "not": value }),
                "=~" => json!({ "regex": value }),
                _ => json!({ "not_regex": value }),
            };
            if matchers.insert(label.clone(), written).is_some() {
                let said =
                    format!("two matchers on the label {label}; write one expression for both");
                self.refuse::<()>(at, said);
            }
        }
        let Some(name) = name else {
            return self.refuse(at, "a selector without the name of a metric");
        };
        if self.obstacles.len() > before {
            return None;
        }
        let mut measure = Map::from_iter([("metric".to_owned(), json!(name))]);
        if !matchers.is_empty() {
            measure.insert("match".to_owned(), Value::Object(matchers));
        }
        measure.insert("window".to_owned(), json!(duration(window_ms)));
        measure.insert("closed".to_owned(), json!(true));
        Some(measure)
    }

    fn range<'n>(&mut self, node: &'n Node) -> Option<(&'n Selector, u64)> {
        match &node.kind {
            Kind::Selector(selector) => match selector.range_ms {
                Some(range) => Some((selector, range)),
                None => self.refuse(node.at, "a range such as [5m] is missing"),
            },
            Kind::Subquery => self.refuse(
                node.at,
                "subqueries are not expressible: record the inner expression as a metric",
            ),
            _ => self.refuse(node.at, "a range is needed here"),
        }
    }

    fn call(&mut self, at: usize, name: &str, arguments: &[Node]) -> Option<Value> {
        match (name, arguments) {
            ("time", []) => return Some(json!("now")),
            ("vector", [of]) => {
                if !is_number(of) {
                    return self.refuse(of.at, "vector takes a number");
                }
                let of = self.expression(of)?;
                return Some(json!({ "vector": of }));
            }
            ("absent", [of]) => return self.absent(of, LOOKBACK_MS),
            ("absent_over_time", [of]) => {
                let (_, range) = self.range(of)?;
                return self.absent(of, range);
            }
            ("sort" | "sort_desc", [of]) => return self.of_rows(of),
            ("predict_linear", [of, ahead]) => {
                let found = self.range(of);
                let seconds = constant(ahead).filter(|s| (0.0..=604_800.0).contains(s));
                let Some(seconds) = seconds else {
                    return self.refuse(
                        ahead.at,
                        "how far ahead is a constant from 0 to 7 days of seconds",
                    );
                };
                let (selector, range) = found?;
                let predict = json!({ "predict": duration((seconds * 1_000.0).round() as u64) });
                return self.measure(of.at, selector, predict, range);
            }
            ("quantile_over_time", [quantile, of]) => {
                let found = self.range(of);
                let quantile = self.part(quantile)?;
                let (selector, range) = found?;
                return self.measure(of.at, selector, json!({ "quantile": quantile }), range);
            }
            ("histogram_quantile", [quantile, of]) => {
                let quantile = self.part(quantile);
                let of = self.of_rows(of)?;
                return Some(json!({ "of": of, "histogram_quantile": quantile? }));
            }
            _ => {}
        }
        if let Some((_, function)) = OF_RANGES.iter().find(|(known, _)| *known == name)
            && let [of] = arguments
        {
            let (selector, range) = self.range(of)?;
            let measure = self.measure(of.at, selector, *function, range)?;
            let present = name == "present_over_time";
            return Some(if present { one_for_each(measure) } else { measure });
        }
        if let Some((_, function)) = APPLIED.iter().find(|(known, _)| *known == name)
            && let [of] = arguments
        {
            let of = self.of_rows(of)?;
            return Some(json!({ "of": of, "apply": function }));
        }
        self.refuse(
            at,
            format!("the function {name} with {} arguments has no counterpart", arguments.len()),
        )
    }

    /// A constant from 0 to 1.
    fn part(&mut self, node: &Node) -> Option<f64> {
        match constant(node).filter(|part| (0.0..=1.0).contains(part)) {
            Some(part) => Some(part),
            None => self.refuse(node.at, "a quantile is a constant from 0 to 1"),
        }
    }

    fn absent(&mut self, of: &Node, window_ms: u64) -> Option<Value> {
        let Kind::Selector(selector) = &of.kind else {
            return self.refuse(of.at, "only the absence of a selector's series is expressible");
        };
        if selector.offset_ms != 0 {
            return self.refuse(of.at, "absence is looked at now, without an offset");
        }
        let missed = self.selected(of.at, selector, window_ms)?;
        Some(json!({ "absent": missed }))
    }

    fn aggregate(
        &mut self,
        at: usize,
        name: &str,
        arguments: &[Node],
        keys: Option<&Keys>,
    ) -> Option<Value> {
        let combine = match name {
            "sum" | "avg" | "min" | "max" | "count" => name,
            "group" => "count",
            _ => return self.refuse(at, format!("the aggregation {name} has no counterpart")),
        };
        let [of] = arguments else {
            return self.refuse(at, format!("{name} takes one expression"));
        };
        let of = self.of_rows(of)?;
        let mut grouped = json!({ "of": of, "combine": combine });
        if let Some(keys) = keys {
            let labels = self.labels(at, &keys.keys)?;
            grouped[if keys.without { "without" } else { "by" }] = labels;
        }
        Some(if name == "group" { one_for_each(grouped) } else { grouped })
    }

    fn labels(&mut self, at: usize, keys: &[String]) -> Option<Value> {
        let mut keys = keys.to_vec();
        keys.sort_unstable();
        keys.dedup();
        if let Some(key) = keys.iter().find(|key| key.starts_with("__")) {
            return self.refuse(at, format!("the label {key} is not seen by rules"));
        }
        Some(json!(keys))
    }

    fn binary(
        &mut self,
        at: usize,
        op: &str,
        sides: &[Node; 2],
        matching: &Matching,
    ) -> Option<Value> {
        let is_set = ["and", "or", "unless"].contains(&op);
        let [left, right] = [&sides[0], &sides[1]]
            .map(|side| if is_set { self.of_rows(side) } else { self.expression(side) });
        let numbers = sides.iter().filter(|side| is_number(side)).count();
        let compares = !is_set && !"+-*/%^".contains(op);
        if numbers == 2 && compares && !matching.as_number {
            return self.refuse(at, "two numbers are compared with `bool` only");
        }
        if numbers > 0 && (matching.keys.is_some() || matching.many.is_some()) {
            return self.refuse(at, "a number has no labels to match");
        }
        let mut whole = match op {
            "and" | "or" | "unless" => json!({ op: [left?, right?] }),
            "atan2" => return self.refuse(at, "atan2 has no counterpart"),
            op => {
                let (_, word) = OPERATIONS.into_iter().find(|(known, _)| *known == op)?;
                let (left, right) = (left?, right?);
                if "+-*/%^".contains(op) {
                    json!({ word: [left, right] })
                } else {
                    json!({ "value": left, word: right })
                }
            }
        };
        if matching.as_number {
            whole["bool"] = json!(true);
        }
        if let Some(keys) = &matching.keys {
            let labels = self.labels(at, &keys.keys)?;
            whole[if keys.without { "ignoring" } else { "on" }] = labels;
        }
        if let Some((side, include)) = &matching.many {
            whole["many"] = json!(side);
            if !include.is_empty() {
                whole["include"] = self.labels(at, include)?;
            }
        }
        Some(whole)
    }
}

/// 1 for each row.
fn one_for_each(counted: Value) -> Value {
    json!({ "value": counted, "at_least": 0, "bool": true })
}

/// Whether it is one number for Prometheus.
fn is_number(node: &Node) -> bool {
    match &node.kind {
        Kind::Number(_) => true,
        Kind::Call { name, arguments } => name == "time" && arguments.is_empty(),
        Kind::Negated(of) => is_number(of),
        Kind::Binary { sides, .. } => sides.iter().all(is_number),
        Kind::Text | Kind::Selector(_) | Kind::Subquery | Kind::Aggregate { .. } => false,
    }
}

/// The value of what is made of numbers alone.
fn constant(node: &Node) -> Option<f64> {
    match &node.kind {
        Kind::Number(number) => Some(*number),
        Kind::Negated(of) => constant(of).map(|value| -value),
        Kind::Binary { op, sides, .. } => {
            let (left, right) = (constant(&sides[0])?, constant(&sides[1])?);
            Some(match op.as_str() {
                "+" => left + right,
                "-" => left - right,
                "*" => left * right,
                "/" => left / right,
                "%" => left % right,
                "^" => left.powf(right),
                _ => return None,
            })
        }
        _ => None,
    }
}

/// As the language writes it.
fn duration(ms: u64) -> String {
    let (mut text, mut rest) = (String::new(), ms);
    for (unit, length) in
        [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)]
    {
        if rest >= length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}
