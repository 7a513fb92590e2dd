//! A condition after checking: every value in bounds, every name sound.

use sentinel_sdk::series::{Aggregate, Estimate, Selector};

use crate::expression::Expression;

/// When something is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    /// Every member holds, for labels that agree.
    All(Vec<Condition>),
    /// One of the members holds.
    Any(Vec<Condition>),
    /// The member does not hold.
    Not(Box<Condition>),
    /// A number is beyond another.
    Threshold(Threshold),
    /// Series have no samples.
    Absent(Absent),
    /// An expression has rows: each is an instance.
    Holds(Expression),
}

/// A measured value against a fixed one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) measure: Measure,
    /// What the measured is divided by, group by group; only where there is a grouping.
    pub(crate) divisor: Option<(Measure, Combine)>,
    /// Without it every series stands for itself, with all its labels.
    pub(crate) grouping: Option<Grouping>,
    pub(crate) comparison: Comparison,
    pub(crate) limit: f64,
}

/// One number for each of the selected series.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measure {
    pub(crate) selector: Selector,
    pub(crate) function: Function,
    pub(crate) window_ms: u64,
    pub(crate) offset_ms: u64,
    /// Whether a sample at the very start of the window counts.
    pub(crate) closed: bool,
}

/// What is made of a series' samples in the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Function {
    /// Out of the values.
    Of(Aggregate),
    /// Out of values and times.
    Estimated(Estimate),
}

/// How series become groups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grouping {
    /// Label keys, sorted and distinct. A series without one of them has the empty text.
    pub(crate) by: Vec<String>,
    pub(crate) combine: Combine,
}

/// How the values of a group become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Combine {
    Sum,
    Avg,
    Min,
    Max,
    Count,
}

impl Combine {
    /// As it is written.
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("sum", Self::Sum),
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("count", Self::Count),
    ];
}

/// How a value is held against the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equals,
    NotEquals,
}

impl Comparison {
    /// As it is written.
    pub(crate) const ALL: [(&'static str, Self); 6] = [
        ("above", Self::Above),
        ("at_least", Self::AtLeast),
        ("below", Self::Below),
        ("at_most", Self::AtMost),
        ("equals", Self::Equals),
        ("not_equals", Self::NotEquals),
    ];

    /// Whether `value` is so against `limit`. Nothing is so of NaN.
    pub(crate) fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Above => value > limit,
            Self::AtLeast => value >= limit,
            Self::Below => value < limit,
            Self::AtMost => value <= limit,
            Self::Equals => value == limit,
            Self::NotEquals => !value.is_nan() && value != limit,
        }
    }

    /// Whether two values are so: NaN is other than everything, itself included, as in PromQL.
    pub(crate) fn is(self, value: f64, limit: f64) -> bool {
        self == Self::NotEquals && (value.is_nan() || limit.is_nan()) || {
            !limit.is_nan() && self.holds(value, limit)
        }
    }
}

/// Series that have no samples.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Absent {
    pub(crate) selector: Selector,
    pub(crate) window_ms: u64,
    /// Whether a sample at the very start of the window counts.
    pub(crate) closed: bool,
    /// Which groups are missed.
    pub(crate) groups: Option<Known>,
}

/// Groups that had samples not long ago.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    /// Label keys, sorted and distinct.
    pub(crate) by: Vec<String>,
    /// How far back a group's samples make it known.
    pub(crate) within_ms: u64,
}
