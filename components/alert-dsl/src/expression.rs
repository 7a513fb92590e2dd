//! Expressions: rows of labels and a value, made out of measures by arithmetic, comparison and
//! grouping. Their arithmetic is PromQL's, so that what is brought from there means the same.

use crate::condition::{Absent, Combine, Comparison, Grouping, Measure};

/// Something that has a value: one number, or a row for each set of labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Number(f64),
    /// The time of evaluation in unix seconds.
    Now,
    /// Measured series, each by itself or in groups.
    Measured(Measure, Option<Grouping>),
    /// Rows that agree in labels become one.
    Grouped {
        of: Box<Expression>,
        keys: Keys,
        combine: Combine,
    },
    /// Both sides, row by row.
    Arithmetic {
        op: Arithmetic,
        sides: Box<[Expression; 2]>,
        matching: Matching,
    },
    /// The rows of a side for which the comparison holds; or 1 and 0 for all of them.
    Compared {
        comparison: Comparison,
        as_number: bool,
        sides: Box<[Expression; 2]>,
        matching: Matching,
    },
    /// Rows of the members, by what they share.
    Set {
        op: SetOp,
        members: Vec<Expression>,
        keys: Keys,
    },
    /// A function of each value.
    Applied {
        function: Applied,
        of: Box<Expression>,
    },
    /// The quantile of histograms, out of the rows that differ in `le` alone.
    HistogramQuantile {
        quantile: f64,
        of: Box<Expression>,
    },
    /// A number as a row without labels.
    Vector(Box<Expression>),
    /// One row where something is absent.
    Absent(Absent),
}

/// Whether an expression is one number or rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Number,
    Rows,
}

impl Expression {
    pub(crate) fn shape(&self) -> Shape {
        match self {
            Self::Number(_) | Self::Now => Shape::Number,
            Self::Measured(..)
            | Self::Grouped { .. }
            | Self::Set { .. }
            | Self::HistogramQuantile { .. }
            | Self::Vector(_)
            | Self::Absent(_) => Shape::Rows,
            Self::Arithmetic { sides, .. } | Self::Compared { sides, .. } => {
                if sides.iter().all(|side| side.shape() == Shape::Number) {
                    Shape::Number
                } else {
                    Shape::Rows
                }
            }
            Self::Applied { of, .. } => of.shape(),
        }
    }
}

/// Some labels, or all but some. Sorted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Keys {
    pub(crate) without: bool,
    pub(crate) keys: Vec<String>,
}

impl Keys {
    /// All labels.
    pub(crate) const fn all() -> Self {
        Self { without: true, keys: Vec::new() }
    }

    pub(crate) fn keeps(&self, key: &str) -> bool {
        self.keys.iter().any(|known| known == key) != self.without
    }
}

/// Which rows of two sides belong together.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matching {
    /// What they have to agree on.
    pub(crate) keys: Keys,
    /// The side of which several rows may belong to one of the other; its labels stay.
    pub(crate) many: Option<Side>,
    /// Labels taken from the one row.
    pub(crate) include: Vec<String>,
}

/// A side of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

/// An operation on two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
}

impl Arithmetic {
    /// As it is written, and between its sides.
    pub(crate) const ALL: [(&'static str, Self, &'static str); 6] = [
        ("add", Self::Add, "+"),
        ("sub", Self::Sub, "-"),
        ("mul", Self::Mul, "*"),
        ("div", Self::Div, "/"),
        ("mod", Self::Mod, "%"),
        ("pow", Self::Pow, "^"),
    ];

    pub(crate) fn of(self, left: f64, right: f64) -> f64 {
        match self {
            Self::Add => left + right,
            Self::Sub => left - right,
            Self::Mul => left * right,
            Self::Div => left / right,
            Self::Mod => left % right,
            Self::Pow => left.powf(right),
        }
    }
}

/// An operation on rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetOp {
    /// Rows of the first that all others have a partner of.
    And,
    /// Rows of the first, and those of each other that have no partner before.
    Or,
    /// Rows of the first that none of the others has a partner of.
    Unless,
}

impl SetOp {
    pub(crate) const ALL: [(&'static str, Self); 3] =
        [("and", Self::And), ("or", Self::Or), ("unless", Self::Unless)];
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    Abs,
    Ceil,
    Floor,
    Round,
    Sqrt,
    Exp,
    Ln,
    Log2,
    Log10,
    Sign,
    Negate,
}

impl Applied {
    /// As it is written.
    pub(crate) const ALL: [(&'static str, Self); 11] = [
        ("abs", Self::Abs),
        ("ceil", Self::Ceil),
        ("floor", Self::Floor),
        ("round", Self::Round),
        ("sqrt", Self::Sqrt),
        ("exp", Self::Exp),
        ("ln", Self::Ln),
        ("log2", Self::Log2),
        ("log10", Self::Log10),
        ("sign", Self::Sign),
        ("negate", Self::Negate),
    ];

    pub(crate) fn of(self, value: f64) -> f64 {
        match self {
            Self::Abs => value.abs(),
            Self::Ceil => value.ceil(),
            Self::Floor => value.floor(),
            // To the nearest, halves up.
            Self::Round => (value + 0.5).floor(),
            Self::Sqrt => value.sqrt(),
            Self::Exp => value.exp(),
            Self::Ln => value.ln(),
            Self::Log2 => value.log2(),
            Self::Log10 => value.log10(),
            Self::Sign if value == 0.0 || value.is_nan() => value,
            Self::Sign => value.signum(),
            Self::Negate => -value,
        }
    }
}
