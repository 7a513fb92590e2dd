//! The rules checked and compiled: what `configure` makes of the config.

use regex_lite::Regex;
use sentinel_sdk::{Diagnostic, Glob, MAX_SYMBOL_BYTES, is_label_key, is_metric_name};

use crate::config::{Config, FlattenHistogram, Matcher, Op, Relabel, Rename, Rule, Select};
use crate::outline::Outlines;

/// The name's place among labels, as Prometheus calls it.
const NAME: &str = "__name__";

/// Rules in order, rows' rules that follow one another together.
#[derive(Debug)]
pub(crate) enum Stage {
    /// Rules that look at one row at a time, and what is known of names under them.
    Rows(Vec<RowRule>, Outlines),
    /// A rule that looks at many rows together.
    Flatten(Flatten),
}

/// A rule about single rows.
#[derive(Debug)]
pub(crate) struct RowRule {
    pub(crate) select: Selector,
    pub(crate) action: Action,
}

/// What is done with a selected row.
#[derive(Debug)]
pub(crate) enum Action {
    Drop,
    Keep,
    Rename(Rewrite),
    Relabel(Relabelling),
    SetLabel { key: String, value: String },
    DropLabel { key: String },
    RenameLabel { from: String, to: String },
    Scale { factor: f64, offset: f64 },
}

/// A pattern and what takes the place of what it matches.
#[derive(Debug)]
pub(crate) struct Rewrite {
    pattern: Regex,
    replacement: String,
}

impl Rewrite {
    /// The new text, if the whole of `text` matches.
    pub(crate) fn apply(&self, text: &str) -> Option<String> {
        let captures = self.pattern.captures(text)?;
        let mut rewritten = String::new();
        captures.expand(&self.replacement, &mut rewritten);
        Some(rewritten)
    }
}

/// A label made out of others.
#[derive(Debug)]
pub(crate) struct Relabelling {
    pub(crate) sources: Vec<Place>,
    pub(crate) separator: String,
    pub(crate) rewrite: Rewrite,
    pub(crate) target: Place,
}

/// A label, or the metric name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Name,
    Label(String),
}

/// Which rows.
#[derive(Debug)]
pub(crate) struct Selector {
    glob: Option<Glob>,
    regex: Option<Regex>,
    pub(crate) labels: Vec<Condition>,
}

impl Selector {
    /// Whether a name fulfils the conditions on names.
    pub(crate) fn takes_name(&self, name: &str) -> bool {
        self.glob.as_ref().is_none_or(|glob| glob.matches(name))
            && self.regex.as_ref().is_none_or(|regex| regex.is_match(name))
    }
}

/// A condition on one label.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) key: String,
    text: String,
    regex: Option<Regex>,
    negated: bool,
}

impl Condition {
    /// Whether a value fulfils it; an absent label's value is empty.
    pub(crate) fn holds(&self, value: &str) -> bool {
        let same = match &self.regex {
            Some(regex) => regex.is_match(value),
            None => value == self.text,
        };
        same != self.negated
    }
}

/// Histograms to flatten, and what to make of them.
#[derive(Debug)]
pub(crate) struct Flatten {
    pub(crate) select: Selector,
    /// Quantiles and the values of the label `quantile`.
    pub(crate) quantiles: Vec<(f64, String)>,
    pub(crate) average: bool,
    pub(crate) keep_sum_and_count: bool,
}

/// Compiles all rules.
///
/// # Errors
///
/// Everything that is wrong, with the place of each.
pub(crate) fn compile(config: Config) -> Result<Vec<Stage>, Vec<Diagnostic>> {
    let mut checker = Checker { found: Vec::new() };
    let mut stages = Vec::new();
    for (at, rule) in config.rules.into_iter().enumerate() {
        match checker.rule(&format!("/rules/{at}"), rule) {
            Compiled::Flatten(flatten) => stages.push(Stage::Flatten(flatten)),
            Compiled::Row(rule) => match stages.last_mut() {
                Some(Stage::Rows(rules, _)) => rules.push(rule),
                _ => stages.push(Stage::Rows(vec![rule], Outlines::default())),
            },
        }
    }
    if checker.found.is_empty() { Ok(stages) } else { Err(checker.found) }
}

enum Compiled {
    Row(RowRule),
    Flatten(Flatten),
}

/// Collects what is wrong and goes on with something harmless in its place.
struct Checker {
    found: Vec<Diagnostic>,
}

impl Checker {
    fn rule(&mut self, path: &str, rule: Rule) -> Compiled {
        let (select, action, path) = match rule {
            Rule::Drop(rule) => (rule.select, Action::Drop, format!("{path}/drop")),
            Rule::Keep(rule) => (rule.select, Action::Keep, format!("{path}/keep")),
            Rule::Rename(rule) => {
                let path = format!("{path}/rename");
                let rewrite = self.rename(&path, &rule);
                (rule.select, Action::Rename(rewrite), path)
            }
            Rule::Relabel(rule) => {
                let path = format!("{path}/relabel");
                let relabelling = self.relabel(&path, &rule);
                (rule.select, Action::Relabel(relabelling), path)
            }
            Rule::SetLabel(rule) => {
                let path = format!("{path}/set_label");
                self.key(&path, "label", &rule.label);
                self.length(&path, "value", &rule.value);
                (rule.select, Action::SetLabel { key: rule.label, value: rule.value }, path)
            }
            Rule::DropLabel(rule) => {
                let path = format!("{path}/drop_label");
                self.key(&path, "label", &rule.label);
                (rule.select, Action::DropLabel { key: rule.label }, path)
            }
            Rule::RenameLabel(rule) => {
                let path = format!("{path}/rename_label");
                self.key(&path, "from", &rule.from);
                self.key(&path, "to", &rule.to);
                (rule.select, Action::RenameLabel { from: rule.from, to: rule.to }, path)
            }
            Rule::Scale(rule) => {
                let action = Action::Scale { factor: rule.factor, offset: rule.offset };
                (rule.select, action, format!("{path}/scale"))
            }
            Rule::FlattenHistogram(rule) => {
                return Compiled::Flatten(self.flatten(&format!("{path}/flatten_histogram"), rule));
            }
        };
        let select = self.select(&format!("{path}/select"), select);
        Compiled::Row(RowRule { select, action })
    }

    fn say(&mut self, path: &str, field: &str, message: String) {
        self.found.push(Diagnostic::error(format!("{path}/{field}"), message));
    }

    fn select(&mut self, path: &str, select: Select) -> Selector {
        let regex = select.name_regex.map(|text| self.regex(path, "name_regex", &text));
        let labels = select
            .labels
            .into_iter()
            .enumerate()
            .map(|(at, matcher)| self.condition(&format!("{path}/labels/{at}"), matcher))
            .collect();
        Selector { glob: select.name, regex, labels }
    }

    fn condition(&mut self, path: &str, matcher: Matcher) -> Condition {
        self.key(path, "label", &matcher.label);
        let regex = matches!(matcher.op, Op::Regex | Op::NotRegex)
            .then(|| self.regex(path, "value", &matcher.value));
        let negated = matches!(matcher.op, Op::NotEqual | Op::NotRegex);
        Condition { key: matcher.label, text: matcher.value, regex, negated }
    }

    fn rename(&mut self, path: &str, rule: &Rename) -> Rewrite {
        let rewrite = self.rewrite(path, ("pattern", &rule.pattern), ("to", &rule.to));
        if !rule.to.contains('$') && !is_metric_name(&rule.to) {
            let message = format!("{:?} is no metric name ([a-zA-Z_:][a-zA-Z0-9_:]*)", rule.to);
            self.say(path, "to", message);
        }
        rewrite
    }

    fn relabel(&mut self, path: &str, rule: &Relabel) -> Relabelling {
        if rule.source_labels.is_empty() {
            self.say(path, "source_labels", "names no label; name at least one".to_owned());
        }
        let sources = rule
            .source_labels
            .iter()
            .enumerate()
            .map(|(at, key)| self.place(path, &format!("source_labels/{at}"), key))
            .collect();
        Relabelling {
            sources,
            separator: rule.separator.clone(),
            rewrite: self.rewrite(path, ("regex", &rule.regex), ("replacement", &rule.replacement)),
            target: self.place(path, "target_label", &rule.target_label),
        }
    }

    fn flatten(&mut self, path: &str, rule: FlattenHistogram) -> Flatten {
        for (at, quantile) in rule.quantiles.iter().enumerate() {
            if !(0.0..=1.0).contains(quantile) {
                let message = format!("{quantile} is no quantile; it must be from 0 to 1");
                self.say(path, &format!("quantiles/{at}"), message);
            }
        }
        if rule.quantiles.is_empty() && !rule.average {
            let message = "makes neither quantiles nor the average; to drop buckets use `drop`";
            self.say(path, "quantiles", message.to_owned());
        }
        let mut quantiles = rule.quantiles;
        quantiles.sort_by(f64::total_cmp);
        quantiles.dedup();
        Flatten {
            select: self.select(&format!("{path}/select"), rule.select),
            quantiles: quantiles.into_iter().map(|q| (q, q.to_string())).collect(),
            average: rule.average,
            keep_sum_and_count: rule.keep_sum_and_count,
        }
    }

    fn rewrite(&mut self, path: &str, pattern: (&str, &str), to: (&str, &str)) -> Rewrite {
        let regex = self.regex(path, pattern.0, pattern.1);
        for group in groups(to.1) {
            let known = match group.parse::<usize>() {
                Ok(number) => number < regex.captures_len(),
                Err(_) => regex.capture_names().flatten().any(|name| name == group),
            };
            if !known {
                let message = format!(
                    "${group} stands for no group of {:?}; write ${{1}} to end a group's name, \
                     $$ for a dollar sign",
                    pattern.1
                );
                self.say(path, to.0, message);
            }
        }
        Rewrite { pattern: regex, replacement: to.1.to_owned() }
    }

    /// Anchored at both ends.
    fn regex(&mut self, path: &str, field: &str, text: &str) -> Regex {
        // On its own first: a text that closes the group itself would escape the anchors.
        Regex::new(text).and_then(|_| Regex::new(&format!("^(?:{text})$"))).unwrap_or_else(
            |error| {
                self.say(path, field, format!("{text:?} is no regular expression: {error}"));
                Regex::new("").expect("the empty expression is one")
            },
        )
    }

    fn place(&mut self, path: &str, field: &str, key: &str) -> Place {
        if key == NAME {
            return Place::Name;
        }
        self.key(path, field, key);
        Place::Label(key.to_owned())
    }

    fn key(&mut self, path: &str, field: &str, key: &str) {
        if !is_label_key(key) {
            let message =
                format!("{key:?} is no label key ([a-zA-Z_][a-zA-Z0-9_]*, not beginning with __)");
            self.say(path, field, message);
        }
    }

    fn length(&mut self, path: &str, field: &str, text: &str) {
        if text.len() > MAX_SYMBOL_BYTES {
            let message =
                format!("has {} bytes; at most {MAX_SYMBOL_BYTES} are allowed", text.len());
            self.say(path, field, message);
        }
    }
}

/// Names of the groups that a replacement stands for, as the regex crate reads it.
fn groups(replacement: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
            continue;
        }
        let name = match rest.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map_or("", |(name, _)| name),
            None => {
                let end = rest
                    .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                &rest[..end]
            }
        };
        if !name.is_empty() {
            found.push(name);
        }
    }
    found
}
