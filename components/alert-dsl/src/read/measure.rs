//! What is measured of series, and by which labels they are grouped.

use sentinel_sdk::is_metric_name;
use sentinel_sdk::series::{Aggregate, Estimate, Selector};
use serde_json::Value;

use super::{MAX_SPAN_MS, Reader};
use crate::condition::{Function, Measure};
use crate::fields::{Fields, quoted, quoted_text};
use crate::{duration, matchers, warnings};

/// A window where none is written: 5 minutes.
pub(super) const DEFAULT_WINDOW_MS: u64 = 300_000;

/// The keys of a measure.
pub(super) const MEASURE: [&str; 6] = ["metric", "match", "fn", "window", "offset", "closed"];

const FUNCTIONS: [(&str, Function); 18] = [
    ("last", Function::Of(Aggregate::Last)),
    ("avg", Function::Of(Aggregate::Avg)),
    ("min", Function::Of(Aggregate::Min)),
    ("max", Function::Of(Aggregate::Max)),
    ("sum", Function::Of(Aggregate::Sum)),
    ("count", Function::Of(Aggregate::Count)),
    ("increase", Function::Of(Aggregate::Increase)),
    ("rate", Function::Of(Aggregate::Rate)),
    ("extrapolated_increase", Function::Estimated(Estimate::ExtrapolatedIncrease)),
    ("extrapolated_rate", Function::Estimated(Estimate::ExtrapolatedRate)),
    ("delta", Function::Estimated(Estimate::ExtrapolatedDelta)),
    ("instant_rate", Function::Estimated(Estimate::InstantRate)),
    ("instant_delta", Function::Estimated(Estimate::InstantDelta)),
    ("slope", Function::Estimated(Estimate::Slope)),
    ("changes", Function::Estimated(Estimate::Changes)),
    ("resets", Function::Estimated(Estimate::Resets)),
    ("stddev", Function::Estimated(Estimate::Stddev)),
    ("stdvar", Function::Estimated(Estimate::Stdvar)),
];

/// The word of a function without a parameter.
pub(crate) fn word(function: Function) -> Option<&'static str> {
    FUNCTIONS.iter().find(|(_, known)| *known == function).map(|(word, _)| *word)
}

impl Reader<'_> {
    pub(super) fn measure(&mut self, fields: &Fields<'_>) -> Option<Measure> {
        let selector = self.selector(fields);
        let function = self.function(fields);
        let window = self.span(fields, "window", DEFAULT_WINDOW_MS, 1);
        let offset = self.span(fields, "offset", 0, 0);
        let closed = self.flag(fields, "closed");
        let (selector, function, window_ms) = (selector?, function?, window?);
        let measure =
            Measure { selector, function, window_ms, offset_ms: offset?, closed: closed? };
        warnings::of_counters(&measure, fields, self.problems);
        Some(measure)
    }

    pub(super) fn selector(&mut self, fields: &Fields<'_>) -> Option<Selector> {
        let matchers = match fields.get("match") {
            Some((value, path)) => matchers::read(value, &path, self.problems),
            None => Some(Vec::new()),
        };
        let Some((name, path)) = fields.text("metric", self.problems) else {
            if !fields.has("metric") {
                self.problems.error(&*fields.path, "`metric` is missing; name the metric to read");
            }
            return None;
        };
        if !is_metric_name(name) {
            let said = format!(
                "{} is no metric name; use letters, digits, `_` and `:`, no digit first; \
                 conditions on labels stand in `match`",
                quoted_text(name)
            );
            self.problems.error(path, said);
            return None;
        }
        Some(Selector { name: name.to_owned(), matchers: matchers? })
    }

    /// What is true or false, and false unless said.
    pub(super) fn flag(&mut self, fields: &Fields<'_>, key: &str) -> Option<bool> {
        let Some((value, path)) = fields.get(key) else { return Some(false) };
        if value.as_bool().is_none() {
            self.problems.error(path, format!("{} is neither true nor false", quoted(value)));
        }
        value.as_bool()
    }

    fn function(&mut self, fields: &Fields<'_>) -> Option<Function> {
        let Some((value, path)) = fields.get("fn") else {
            return Some(Function::Of(Aggregate::Last));
        };
        match value {
            Value::String(name) => {
                let found = FUNCTIONS.iter().find(|(known, _)| known == name);
                if found.is_none() {
                    let known = FUNCTIONS.map(|(known, _)| known).join(", ");
                    let said = format!(
                        "{} is no function; write one of {known}, {{\"quantile\": 0.95}} or \
                         {{\"predict\": \"4h\"}}",
                        quoted_text(name)
                    );
                    self.problems.error(path, said);
                }
                found.map(|(_, function)| *function)
            }
            Value::Object(_) => {
                let fields = Fields::of(value, &path, "a function", self.problems)?;
                fields.only(&["quantile", "predict"], self.problems);
                match (fields.has("quantile"), fields.has("predict")) {
                    (true, false) => self
                        .quantile(&fields, "quantile")
                        .map(|q| Function::Of(Aggregate::Quantile(q))),
                    (false, true) => self.span(&fields, "predict", 0, 0).map(|ahead| {
                        Function::Estimated(Estimate::Predict(ahead as f64 / 1_000.0))
                    }),
                    _ => {
                        let said = "write one of {\"quantile\": 0.95} and {\"predict\": \"4h\"}";
                        self.problems.error(path, said);
                        None
                    }
                }
            }
            other => {
                let said = format!("{} is no function; write for example \"avg\"", quoted(other));
                self.problems.error(path, said);
                None
            }
        }
    }

    /// A number from 0 to 1.
    pub(super) fn quantile(&mut self, fields: &Fields<'_>, key: &str) -> Option<f64> {
        let (value, path) = fields.get(key)?;
        let quantile = value.as_f64().filter(|q| (0.0..=1.0).contains(q));
        if quantile.is_none() {
            self.problems.error(path, format!("{} is no number from 0 to 1", quoted(value)));
        }
        quantile
    }

    /// A duration from `least` milliseconds to [`MAX_SPAN_MS`].
    pub(super) fn span(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        unsaid: u64,
        least: u64,
    ) -> Option<u64> {
        let Some((value, path)) = fields.get(key) else {
            return Some(unsaid);
        };
        let span = value.as_str().and_then(duration::parse);
        let Some(span) = span else {
            let said = match value {
                Value::Number(number) => {
                    format!("{number} has no unit; write for example \"{number}s\"")
                }
                other => format!(
                    "{} is no duration; write numbers with units, largest first, such as 90s, 5m \
                     or 1h30m",
                    quoted(other)
                ),
            };
            self.problems.error(path, said);
            return None;
        };
        if span < least {
            self.problems.error(path, "is no time at all; write for example 5m");
            return None;
        }
        if span > MAX_SPAN_MS {
            let said = format!("{} is longer than 7d, the longest", quoted(value));
            self.problems.error(path, said);
            return None;
        }
        Some(span)
    }
}
