//! Expressions out of a text.

use sentinel_sdk::is_label_key;
use serde_json::Value;

use super::measure::MEASURE;
use super::{ABSENT, Reader};
use crate::condition::{Combine, Comparison};
use crate::expression::{Applied, Arithmetic, Expression, Keys, Matching, SetOp, Shape, Side};
use crate::fields::{Fields, quoted};

/// Deepest nesting of expressions.
const MAX_EXPRESSION_DEPTH: usize = 16;
/// How two sides are matched.
const MATCHING: [&str; 4] = ["on", "ignoring", "many", "include"];
/// Most labels in `by`, `without`, `on` and the like.
const MAX_BY: usize = 16;

impl Reader<'_> {
    /// Any expression.
    pub(super) fn expression(
        &mut self,
        value: &Value,
        path: &str,
        depth: usize,
    ) -> Option<Expression> {
        let expected = "an expression: a number, \"now\", or an object with `metric`, an operation \
                        such as `div`, `value` and a comparison, or `of`";
        if depth > MAX_EXPRESSION_DEPTH {
            let said = format!("nested deeper than {MAX_EXPRESSION_DEPTH}; split the rule");
            self.problems.error(path, said);
            return None;
        }
        match value {
            Value::Number(number) => return number.as_f64().map(Expression::Number),
            Value::String(word) if word == "now" => return Some(Expression::Now),
            _ => {}
        }
        let fields = Fields::of(value, path, expected, self.problems)?;
        if let Some((_, op, _)) = Arithmetic::ALL.into_iter().find(|(word, ..)| fields.has(word)) {
            return self.arithmetic(&fields, op, depth);
        }
        if let Some((word, op)) = SetOp::ALL.into_iter().find(|(word, _)| fields.has(word)) {
            return self.set(&fields, word, op, depth);
        }
        if fields.has("value") {
            return self.compared(&fields, depth);
        }
        if let Some((value, path)) = fields.get("vector") {
            fields.only(&["vector"], self.problems);
            let of = self.expression(value, &path, depth + 1)?;
            self.shaped(&of, Shape::Number, &path)?;
            return Some(Expression::Vector(Box::new(of)));
        }
        if let Some((value, path)) = fields.get(ABSENT) {
            fields.only(&[ABSENT], self.problems);
            self.leaves += 1;
            return self.absent(value, &path).map(Expression::Absent);
        }
        if fields.has("of") {
            return self.made_of(&fields, depth);
        }
        self.leaves += 1;
        let mut known = MEASURE.to_vec();
        known.extend(["by", "combine"]);
        fields.only(&known, self.problems);
        let measure = self.measure(&fields);
        let grouping = self.grouping(&fields);
        Some(Expression::Measured(measure?, grouping?))
    }

    /// `value`, a comparison with a number or another expression.
    pub(super) fn compared(&mut self, fields: &Fields<'_>, depth: usize) -> Option<Expression> {
        let mut known = vec!["value", "bool"];
        known.extend(MATCHING);
        known.extend(Comparison::ALL.map(|(name, _)| name));
        fields.only(&known, self.problems);
        let as_number = self.flag(fields, "bool");
        let matching = self.matching(fields);
        let left = match fields.get("value") {
            Some((value, path)) => self.expression(value, &path, depth + 1),
            None => None,
        };
        let word = self.comparison_word(fields);
        let right = match word {
            Some((word, _)) => {
                let (value, path) = fields.get(word)?;
                self.expression(value, &path, depth + 1)
            }
            None => None,
        };
        let (comparison, sides) = (word?.1, Box::new([left?, right?]));
        let as_number = as_number?;
        let matching = self.fitting(matching?, &sides, fields)?;
        let compared = Expression::Compared { comparison, as_number, sides, matching };
        if compared.shape() == Shape::Number && !as_number {
            let said = "compares two numbers; read a `metric` on one side, or write `bool: true`";
            self.problems.error(&*fields.path, said);
            return None;
        }
        Some(compared)
    }

    fn arithmetic(
        &mut self,
        fields: &Fields<'_>,
        op: Arithmetic,
        depth: usize,
    ) -> Option<Expression> {
        let (word, ..) = Arithmetic::ALL.into_iter().find(|(_, known, _)| *known == op)?;
        let mut known = vec![word];
        known.extend(MATCHING);
        fields.only(&known, self.problems);
        let (value, path) = fields.get(word)?;
        let matching = self.matching(fields);
        let Value::Array(members) = value else {
            let said = format!("{} is not a list of two expressions", quoted(value));
            self.problems.error(path, said);
            return None;
        };
        let read: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(at, member)| self.expression(member, &format!("{path}/{at}"), depth + 1))
            .collect();
        let read: Option<Vec<_>> = read.into_iter().collect();
        if members.len() != 2 {
            let said =
                format!("{} expressions; write two, nested where there are more", members.len());
            self.problems.error(path, said);
            return None;
        }
        let sides: Box<[Expression; 2]> = Box::new(read?.try_into().ok()?);
        let matching = self.fitting(matching?, &sides, fields)?;
        Some(Expression::Arithmetic { op, sides, matching })
    }

    fn set(
        &mut self,
        fields: &Fields<'_>,
        word: &str,
        op: SetOp,
        depth: usize,
    ) -> Option<Expression> {
        fields.only(&[word, "on", "ignoring"], self.problems);
        let (value, path) = fields.get(word)?;
        let keys = self.one_of(fields, "on", "ignoring");
        let members = value.as_array().filter(|members| members.len() >= 2);
        let Some(members) = members else {
            self.problems.error(path, format!("`{word}` takes a list of two or more expressions"));
            return None;
        };
        let read: Vec<_> = members
            .iter()
            .enumerate()
            .map(|(at, member)| {
                let path = format!("{path}/{at}");
                let member = self.expression(member, &path, depth + 1)?;
                self.shaped(&member, Shape::Rows, &path)?;
                Some(member)
            })
            .collect();
        let members = read.into_iter().collect::<Option<Vec<_>>>()?;
        Some(Expression::Set { op, members, keys: keys?.unwrap_or(Keys::all()) })
    }

    /// `of` with what is made of it.
    fn made_of(&mut self, fields: &Fields<'_>, depth: usize) -> Option<Expression> {
        let (value, path) = fields.get("of")?;
        let of = self.expression(value, &path, depth + 1);
        if fields.has("apply") {
            fields.only(&["of", "apply"], self.problems);
            let function = self.word(fields, "apply", &Applied::ALL);
            return Some(Expression::Applied { function: function?, of: Box::new(of?) });
        }
        if fields.has("histogram_quantile") {
            fields.only(&["of", "histogram_quantile"], self.problems);
            let quantile = self.quantile(fields, "histogram_quantile");
            let of = of?;
            self.shaped(&of, Shape::Rows, &path)?;
            return Some(Expression::HistogramQuantile { quantile: quantile?, of: Box::new(of) });
        }
        fields.only(&["of", "by", "without", "combine"], self.problems);
        let keys = self.one_of(fields, "by", "without");
        if !fields.has("combine") {
            let said = "`of` needs `combine` (with `by` or `without`), `apply` or \
                        `histogram_quantile`";
            self.problems.error(&*fields.path, said);
            return None;
        }
        let combine = self.word(fields, "combine", &Combine::ALL);
        let of = of?;
        self.shaped(&of, Shape::Rows, &path)?;
        let keys = keys?.unwrap_or_default();
        Some(Expression::Grouped { of: Box::new(of), keys, combine: combine? })
    }

    fn matching(&mut self, fields: &Fields<'_>) -> Option<Matching> {
        let keys = self.one_of(fields, "on", "ignoring");
        let many = match fields.has("many") {
            true => {
                self.word(fields, "many", &[("left", Side::Left), ("right", Side::Right)]).map(Some)
            }
            false => Some(None),
        };
        let include = match fields.get("include") {
            Some((value, path)) => self.by(value, &path),
            None => Some(Vec::new()),
        };
        if fields.has("include") && !fields.has("many") {
            let said = "`include` takes labels from the one row that `many` others belong to; say \
                        `many: left` or `many: right`";
            self.problems.error(fields.at("include"), said);
        }
        Some(Matching { keys: keys?.unwrap_or(Keys::all()), many: many?, include: include? })
    }

    /// The matching, which only two sides with rows have.
    fn fitting(
        &mut self,
        matching: Matching,
        sides: &[Expression; 2],
        fields: &Fields<'_>,
    ) -> Option<Matching> {
        let rows = sides.iter().all(|side| side.shape() == Shape::Rows);
        let written = MATCHING.into_iter().find(|key| fields.has(key));
        match written.filter(|_| !rows) {
            Some(key) => {
                let said = "there is nothing to match: a side is one number";
                self.problems.error(fields.at(key), said);
                None
            }
            None => Some(matching),
        }
    }

    fn shaped(&mut self, of: &Expression, wanted: Shape, path: &str) -> Option<()> {
        if of.shape() == wanted {
            return Some(());
        }
        let said = match wanted {
            Shape::Rows => "is one number; rows of series are needed here",
            Shape::Number => "has a row for each series; one number is needed here",
        };
        self.problems.error(path, said);
        None
    }

    /// Labels under one of two keys. The outer `None` is an error.
    #[expect(clippy::option_option, reason = "an error that was said, and nothing written")]
    fn one_of(&mut self, fields: &Fields<'_>, only: &str, without: &str) -> Option<Option<Keys>> {
        if fields.has(only) && fields.has(without) {
            let said = format!("`{only}` and `{without}` exclude each other; write one of them");
            self.problems.error(fields.at(without), said);
            return None;
        }
        for (key, without) in [(only, false), (without, true)] {
            if let Some((value, path)) = fields.get(key) {
                let keys = self.by(value, &path)?;
                return Some(Some(Keys { without, keys }));
            }
        }
        Some(None)
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(
        &mut self,
        fields: &Fields<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let (value, path) = fields.get(key)?;
        let found = value.as_str().and_then(|word| words.iter().find(|(known, _)| *known == word));
        if found.is_none() {
            let known: Vec<_> = words.iter().map(|(known, _)| *known).collect();
            let said = format!("{} is not one of {}", quoted(value), known.join(", "));
            self.problems.error(path, said);
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// Label keys, sorted.
    pub(super) fn by(&mut self, value: &Value, path: &str) -> Option<Vec<String>> {
        let Value::Array(items) = value else {
            let said =
                format!("{} is not a list of labels; write for example [agent]", quoted(value));
            self.problems.error(path, said);
            return None;
        };
        let errors = self.problems.errors.len();
        if items.len() > MAX_BY {
            let said = format!("{} labels; at most {MAX_BY} are allowed", items.len());
            self.problems.error(path, said);
        }
        let mut by: Vec<String> = Vec::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            let path = format!("{path}/{at}");
            match item.as_str().filter(|key| is_label_key(key)) {
                None => {
                    let said = format!(
                        "{} is no label; use letters, digits and `_`, no digit and no `__` first",
                        quoted(item)
                    );
                    self.problems.error(path, said);
                }
                Some(key) if by.iter().any(|known| known == key) => {
                    self.problems.error(path, format!("{key:?} stands twice"));
                }
                Some(key) => by.push(key.to_owned()),
            }
        }
        by.sort_unstable();
        (self.problems.errors.len() == errors).then_some(by)
    }
}
