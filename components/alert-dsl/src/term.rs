//! Expressions with their questions numbered, and what they come to on the answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::Rc;

use sentinel_sdk::{Failure, Label};

use crate::condition::{Combine, Comparison};
use crate::evaluate::Evaluation;
use crate::expression::{Applied, Arithmetic, Expression, Keys, Matching, SetOp, Side};
use crate::groups::Sum;
use crate::histogram;
use crate::plan::{Missed, Planner};
use crate::relation::Labels;

/// An [`Expression`] with its questions numbered.
#[derive(Debug)]
pub(crate) enum Term {
    Number(f64),
    Now,
    Series(usize),
    Groups { query: usize, grouping: usize, combine: Combine },
    Grouped { of: Box<Term>, keys: Keys, combine: Combine },
    Arithmetic { op: Arithmetic, sides: Box<[Term; 2]>, matching: Matching },
    Compared { comparison: Comparison, as_number: bool, sides: Box<[Term; 2]>, matching: Matching },
    Set { op: SetOp, members: Vec<Term>, keys: Keys },
    Applied { function: Applied, of: Box<Term> },
    HistogramQuantile { quantile: f64, of: Box<Term> },
    Vector(Box<Term>),
    Absent(Missed),
}

/// What a term comes to.
#[derive(Debug)]
pub(crate) enum Value {
    Number(f64),
    Rows(Rows),
}

/// Labels (sorted, none empty) and a value.
pub(crate) type Rows = Vec<(Labels, f64)>;

impl Value {
    /// As rows: a number is one without labels.
    pub(crate) fn rows(self) -> Rows {
        match self {
            Self::Number(value) => vec![(Labels::from([]), value)],
            Self::Rows(rows) => rows,
        }
    }
}

impl Planner<'_> {
    pub(crate) fn term(&mut self, expression: &Expression) -> Term {
        let mut boxed = |of: &Expression| Box::new(self.term(of));
        match expression {
            Expression::Number(number) => Term::Number(*number),
            Expression::Now => Term::Now,
            Expression::Measured(measure, None) => Term::Series(self.ask(measure)),
            Expression::Measured(measure, Some(grouping)) => Term::Groups {
                query: self.ask(measure),
                grouping: self.grouping(&grouping.by),
                combine: grouping.combine,
            },
            Expression::Grouped { of, keys, combine } => {
                Term::Grouped { of: boxed(of), keys: keys.clone(), combine: *combine }
            }
            Expression::Arithmetic { op, sides, matching } => {
                let sides = self.sides(sides);
                Term::Arithmetic { op: *op, sides, matching: matching.clone() }
            }
            Expression::Compared { comparison, as_number, sides, matching } => {
                let (sides, matching) = (self.sides(sides), matching.clone());
                Term::Compared { comparison: *comparison, as_number: *as_number, sides, matching }
            }
            Expression::Set { op, members, keys } => {
                let members = members.iter().map(|member| self.term(member)).collect();
                Term::Set { op: *op, members, keys: keys.clone() }
            }
            Expression::Applied { function, of } => {
                Term::Applied { function: *function, of: boxed(of) }
            }
            Expression::HistogramQuantile { quantile, of } => {
                Term::HistogramQuantile { quantile: *quantile, of: boxed(of) }
            }
            Expression::Vector(of) => Term::Vector(boxed(of)),
            Expression::Absent(absent) => Term::Absent(self.absent(absent, false)),
        }
    }

    fn sides(&mut self, sides: &[Expression; 2]) -> Box<[Term; 2]> {
        Box::new([self.term(&sides[0]), self.term(&sides[1])])
    }
}

impl Evaluation<'_> {
    /// The rows that hold; of a negated comparison those that are known and do not.
    pub(crate) fn held(&mut self, term: &Term, negated: bool) -> Result<Rows, Failure> {
        match term {
            Term::Compared { comparison, sides, matching, .. } if negated => {
                let sides = [self.term(&sides[0])?, self.term(&sides[1])?];
                let otherwise = |left: f64, right: f64| {
                    let known = !left.is_nan() && !right.is_nan();
                    known && !comparison.is(left, right)
                };
                Ok(compared(sides, matching, false, otherwise)?.rows())
            }
            term => Ok(self.term(term)?.rows()),
        }
    }

    fn term(&mut self, term: &Term) -> Result<Value, Failure> {
        Ok(match term {
            Term::Number(number) => Value::Number(*number),
            Term::Now => Value::Number(self.at as f64 / 1_000.0),
            Term::Series(query) => {
                let answer = self.answer(*query)?;
                let labels = self.known.labels(&answer.series);
                Value::Rows(labels.into_iter().zip(answer.value.iter().copied()).collect())
            }
            Term::Groups { query, grouping, combine } => {
                let groups = self.grouped(*query, *grouping, *combine)?;
                let row = |(group, sum): (usize, Sum)| {
                    (without_empty(self.known.group_labels(*grouping, group)), sum.value())
                };
                let mut rows: Rows = groups.into_iter().map(row).collect();
                // Groups are numbered as they were met; what is made of them must not depend on it.
                rows.sort_by(|a, b| a.0.cmp(&b.0));
                Value::Rows(rows)
            }
            Term::Grouped { of, keys, combine } => {
                Value::Rows(grouped(self.term(of)?.rows(), keys, *combine))
            }
            Term::Arithmetic { op, sides, matching } => {
                let sides = [self.term(&sides[0])?, self.term(&sides[1])?];
                operated(sides, matching, |left, right| Some(op.of(left, right)))?
            }
            Term::Compared { comparison, as_number, sides, matching } => {
                let sides = [self.term(&sides[0])?, self.term(&sides[1])?];
                compared(sides, matching, *as_number, |left, right| comparison.is(left, right))?
            }
            Term::Set { op, members, keys } => {
                let mut rows: Option<Rows> = None;
                for member in members {
                    let of_member = self.term(member)?.rows();
                    rows = Some(match rows {
                        None => of_member,
                        Some(before) => joined(*op, before, of_member, keys),
                    });
                }
                Value::Rows(rows.unwrap_or_default())
            }
            Term::Applied { function, of } => match self.term(of)? {
                Value::Number(value) => Value::Number(function.of(value)),
                Value::Rows(rows) => {
                    let of_row = |(labels, value)| (labels, function.of(value));
                    Value::Rows(rows.into_iter().map(of_row).collect())
                }
            },
            Term::HistogramQuantile { quantile, of } => {
                Value::Rows(histogram::quantiles(*quantile, self.term(of)?.rows()))
            }
            Term::Vector(of) => Value::Rows(self.term(of)?.rows()),
            Term::Absent(missed) => {
                let rows = self.absent(missed)?.into_iter();
                Value::Rows(rows.map(|row| (without_empty(row.labels), 1.0)).collect())
            }
        })
    }
}

fn without_empty(labels: Labels) -> Labels {
    if labels.iter().any(|(_, value)| value.is_empty()) {
        return labels.iter().filter(|(_, value)| !value.is_empty()).cloned().collect();
    }
    labels
}

/// The labels on which rows are matched.
fn signature<'l>(labels: &'l Labels, keys: &Keys) -> Vec<&'l Label> {
    labels.iter().filter(|(key, _)| keys.keeps(key)).collect()
}

fn kept(labels: &Labels, keys: &Keys) -> Labels {
    if labels.iter().all(|(key, _)| keys.keeps(key)) {
        return Rc::clone(labels);
    }
    labels.iter().filter(|(key, _)| keys.keeps(key)).cloned().collect()
}

fn grouped(rows: Rows, keys: &Keys, combine: Combine) -> Rows {
    let mut places: HashMap<Labels, usize> = HashMap::new();
    let mut sums: Vec<(Labels, Sum)> = Vec::new();
    for (labels, value) in rows {
        match places.entry(kept(&labels, keys)) {
            Entry::Occupied(place) => sums[*place.get()].1.add(value),
            Entry::Vacant(place) => {
                sums.push((Rc::clone(place.key()), Sum::new(combine, value)));
                place.insert(sums.len() - 1);
            }
        }
    }
    sums.into_iter().map(|(labels, sum)| (labels, sum.value())).collect()
}

fn joined(op: SetOp, left: Rows, right: Rows, keys: &Keys) -> Rows {
    let partners = |of: &Rows| -> std::collections::HashSet<Vec<Label>> {
        of.iter().map(|(labels, _)| owned(labels, keys)).collect()
    };
    match op {
        SetOp::And | SetOp::Unless => {
            let partners = partners(&right);
            let wanted = op == SetOp::And;
            let is_kept =
                |(labels, _): &(Labels, f64)| partners.contains(&owned(labels, keys)) == wanted;
            left.into_iter().filter(is_kept).collect()
        }
        SetOp::Or => {
            let partners = partners(&left);
            let is_new = |(labels, _): &(Labels, f64)| !partners.contains(&owned(labels, keys));
            let new: Rows = right.into_iter().filter(is_new).collect();
            left.into_iter().chain(new).collect()
        }
    }
}

fn owned(labels: &Labels, keys: &Keys) -> Vec<Label> {
    labels.iter().filter(|(key, _)| keys.keeps(key)).cloned().collect()
}

/// The value of the left side where `is` says so, or of all 1 and 0.
fn compared(
    sides: [Value; 2],
    matching: &Matching,
    as_number: bool,
    is: impl Fn(f64, f64) -> bool,
) -> Result<Value, Failure> {
    // The value of rows is kept, whichever side they stand on.
    let from_right = matches!(sides, [Value::Number(_), Value::Rows(_)]);
    operated(sides, matching, |left, right| match (is(left, right), as_number) {
        (holds, true) => Some(f64::from(holds)),
        (true, false) => Some(if from_right { right } else { left }),
        (false, false) => None,
    })
}

/// Both sides, value by value; what gives nothing is left out.
fn operated(
    sides: [Value; 2],
    matching: &Matching,
    of: impl Fn(f64, f64) -> Option<f64>,
) -> Result<Value, Failure> {
    let [left, right] = sides;
    Ok(match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            Value::Number(of(left, right).unwrap_or(f64::NAN))
        }
        (Value::Rows(rows), Value::Number(right)) => Value::Rows(
            rows.into_iter().filter_map(|(l, left)| Some((l, of(left, right)?))).collect(),
        ),
        (Value::Number(left), Value::Rows(rows)) => Value::Rows(
            rows.into_iter().filter_map(|(l, right)| Some((l, of(left, right)?))).collect(),
        ),
        (Value::Rows(left), Value::Rows(right)) => Value::Rows(match matching.many {
            None => matched(&left, &right, matching, of)?,
            Some(Side::Left) => matched(&left, &right, matching, of)?,
            Some(Side::Right) => matched(&right, &left, matching, |right, left| of(left, right))?,
        }),
    })
}

/// The rows of `many` (each has one partner in `one` at most).
fn matched(
    many: &Rows,
    one: &Rows,
    matching: &Matching,
    of: impl Fn(f64, f64) -> Option<f64>,
) -> Result<Rows, Failure> {
    let mut partners: HashMap<Vec<&Label>, &(Labels, f64)> = HashMap::with_capacity(one.len());
    if many.is_empty() {
        return Ok(Rows::new());
    }
    for row in one {
        if partners.insert(signature(&row.0, &matching.keys), row).is_some() {
            return Err(ambiguous(
                &row.0,
                "several rows of one side have the same labels to match",
            ));
        }
    }
    let mut rows = Rows::with_capacity(many.len());
    let mut taken: HashMap<Labels, ()> = HashMap::with_capacity(many.len());
    for (labels, value) in many {
        let Some((other, partner)) = partners.get(&signature(labels, &matching.keys)) else {
            continue;
        };
        let Some(value) = of(*value, *partner) else { continue };
        let made = match matching.many {
            None => kept(labels, &matching.keys),
            Some(_) => included(labels, other, &matching.include),
        };
        if taken.insert(Rc::clone(&made), ()).is_some() {
            let why = match matching.many {
                None => "several rows match one; say with `many` of which side",
                Some(_) => "several rows become the same by `include`",
            };
            return Err(ambiguous(&made, why));
        }
        rows.push((made, value));
    }
    Ok(rows)
}

/// The labels of a row with some taken from its partner.
fn included(labels: &Labels, partner: &Labels, include: &[String]) -> Labels {
    if include.is_empty() {
        return Rc::clone(labels);
    }
    let own = labels.iter().filter(|(key, _)| !include.contains(key));
    let taken = partner.iter().filter(|(key, _)| include.contains(key));
    let mut labels: Vec<Label> = own.chain(taken).cloned().collect();
    labels.sort_unstable();
    labels.into()
}

fn ambiguous(labels: &Labels, why: &str) -> Failure {
    let labels: Vec<_> = labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
    Failure::Unavailable(format!("{why}: {{{}}}", labels.join(",")))
}
