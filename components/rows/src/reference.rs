//! The rules against their obvious meaning: each rule in turn on each row, nothing remembered.

use std::collections::BTreeMap;

use proptest::prelude::*;
use regex_lite::Regex;
use sentinel_sdk::{Batch, BatchBuilder, Glob, Transform};

use crate::config::{
    Choose, Config, DropLabel, Matcher, Op, Relabel, Rename, RenameLabel, Rule, Scale, Select,
    SetLabel,
};
use crate::{Rows, plan};

#[derive(Clone, Debug, PartialEq)]
struct Line {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Line {
    fn text(&self, key: &str) -> &str {
        match key {
            "__name__" => &self.name,
            _ => self.labels.get(key).map_or("", String::as_str),
        }
    }
}

fn anchored(text: &str) -> Regex {
    Regex::new(&format!("^(?:{text})$")).unwrap()
}

fn takes(select: &Select, line: &Line) -> bool {
    select.name.as_ref().is_none_or(|glob| glob.matches(&line.name))
        && select.name_regex.as_ref().is_none_or(|text| anchored(text).is_match(&line.name))
        && select.labels.iter().all(|matcher| {
            let value = line.text(&matcher.label);
            match matcher.op {
                Op::Equal => value == matcher.value,
                Op::NotEqual => value != matcher.value,
                Op::Regex => anchored(&matcher.value).is_match(value),
                Op::NotRegex => !anchored(&matcher.value).is_match(value),
            }
        })
}

/// `None` where the rule drops the line.
fn apply(rule: &Rule, mut line: Line) -> Option<Line> {
    let select = match rule {
        Rule::Drop(rule) => return (!takes(&rule.select, &line)).then_some(line),
        Rule::Keep(rule) => return takes(&rule.select, &line).then_some(line),
        Rule::Rename(rule) => &rule.select,
        Rule::Relabel(rule) => &rule.select,
        Rule::SetLabel(rule) => &rule.select,
        Rule::DropLabel(rule) => &rule.select,
        Rule::RenameLabel(rule) => &rule.select,
        Rule::Scale(rule) => &rule.select,
        Rule::FlattenHistogram(_) => unreachable!("not among the rules of this test"),
    };
    if !takes(select, &line) {
        return Some(line);
    }
    match rule {
        Rule::Rename(rule) => {
            if let Some(captures) = anchored(&rule.pattern).captures(&line.name) {
                let mut name = String::new();
                captures.expand(&rule.to, &mut name);
                if sentinel_sdk::is_metric_name(&name) {
                    line.name = name;
                }
            }
        }
        Rule::Relabel(rule) => {
            let texts: Vec<_> = rule.source_labels.iter().map(|key| line.text(key)).collect();
            let text = texts.join(&rule.separator);
            if let Some(captures) = anchored(&rule.regex).captures(&text) {
                let mut made = String::new();
                captures.expand(&rule.replacement, &mut made);
                if rule.target_label == "__name__" {
                    if sentinel_sdk::is_metric_name(&made) {
                        line.name = made;
                    }
                } else if made.is_empty() {
                    line.labels.remove(&rule.target_label);
                } else {
                    line.labels.insert(rule.target_label.clone(), made);
                }
            }
        }
        Rule::SetLabel(rule) => {
            line.labels.insert(rule.label.clone(), rule.value.clone());
        }
        Rule::DropLabel(rule) => {
            line.labels.remove(&rule.label);
        }
        Rule::RenameLabel(rule) => {
            if let Some(value) = line.labels.remove(&rule.from) {
                line.labels.insert(rule.to.clone(), value);
            }
        }
        Rule::Scale(rule) => line.value = line.value * rule.factor + rule.offset,
        Rule::Drop(_) | Rule::Keep(_) | Rule::FlattenHistogram(_) => {}
    }
    Some(line)
}

fn key() -> impl Strategy<Value = String> {
    "[k-m]"
}

fn select() -> impl Strategy<Value = Select> {
    let op = prop_oneof![
        Just((Op::Equal, "x")),
        Just((Op::NotEqual, "x")),
        Just((Op::Equal, "")),
        Just((Op::Regex, "x|y+")),
        Just((Op::NotRegex, "y*")),
    ];
    let matcher =
        (key(), op).prop_map(|(label, (op, value))| Matcher { label, op, value: value.to_owned() });
    let name = prop::option::of("[ab*?]{1,2}");
    let name_regex = prop::option::weighted(0.2, Just("a.*|.b".to_owned()));
    (name, name_regex, prop::collection::vec(matcher, 0..2)).prop_map(
        |(name, name_regex, labels)| Select { name: name.map(Glob::new), name_regex, labels },
    )
}

fn place() -> impl Strategy<Value = String> {
    prop_oneof![3 => key(), 1 => Just("__name__".to_owned())]
}

fn rule() -> impl Strategy<Value = Rule> {
    let swapped = || Just(("(.)(.*)".to_owned(), "${2}${1}".to_owned()));
    prop_oneof![
        1 => select().prop_map(|select| Rule::Drop(Choose { select })),
        1 => select().prop_map(|select| Rule::Keep(Choose { select })),
        3 => (select(), swapped()).prop_map(|(select, (pattern, to))| {
            Rule::Rename(Rename { select, pattern, to })
        }),
        2 => (select(), "[ab]").prop_map(|(select, to)| {
            Rule::Rename(Rename { select, pattern: "(.*)".to_owned(), to })
        }),
        3 => (select(), prop::collection::vec(place(), 1..3), swapped(), place()).prop_map(
            |(select, source_labels, (regex, replacement), target_label)| {
                let separator = String::new();
                Rule::Relabel(Relabel {
                    select, source_labels, separator, regex, target_label, replacement,
                })
            }
        ),
        2 => (select(), key(), "[xy]?").prop_map(|(select, label, value)| {
            Rule::SetLabel(SetLabel { select, label, value })
        }),
        1 => (select(), key()).prop_map(|(select, label)| {
            Rule::DropLabel(DropLabel { select, label })
        }),
        1 => (select(), key(), key()).prop_map(|(select, from, to)| {
            Rule::RenameLabel(RenameLabel { select, from, to })
        }),
        1 => select().prop_map(|select| Rule::Scale(Scale { select, factor: 2.0, offset: 1.0 })),
    ]
}

fn lines() -> impl Strategy<Value = Vec<Line>> {
    let labels = prop::collection::btree_map("[k-m]", "[xy]{0,2}", 0..3);
    let line = ("[ab]{1,2}", labels, 0..9_u8).prop_map(|(name, labels, value)| Line {
        name,
        labels,
        value: f64::from(value),
    });
    prop::collection::vec(line, 0..20)
}

fn batch(lines: &[Line]) -> Batch {
    let mut builder = BatchBuilder::at(0);
    for line in lines {
        let labels: Vec<_> = line.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        builder.gauge(&line.name, &labels, line.value);
    }
    builder.finish().parts().next().unwrap().clone()
}

fn read(batch: &Batch) -> Vec<Line> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    batch
        .samples()
        .map(|sample| Line {
            name: sample.name.to_owned(),
            labels: sample.labels.iter().map(owned).collect(),
            value: sample.value,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn rules_do_what_they_say_one_after_the_other(
        rules in prop::collection::vec(rule(), 0..8),
        batches in prop::collection::vec(lines(), 1..3),
    ) {
        let expect: Vec<Vec<Line>> = batches
            .iter()
            .map(|lines| {
                let apply_all = |line: &Line| {
                    rules.iter().try_fold(line.clone(), |line, rule| apply(rule, line))
                };
                lines.iter().filter_map(apply_all).collect()
            })
            .collect();
        let mut plugin = Rows { stages: plan::compile(Config { rules }).unwrap() };
        for (lines, expect) in batches.iter().zip(expect) {
            prop_assert_eq!(read(&plugin.reshape(batch(lines)).unwrap()), expect);
        }
    }
}
