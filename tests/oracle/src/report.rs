//! What was found, for people and as JSON.

use crate::Generator;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How many differences of a kind are listed; all are counted.
const LISTED: usize = 10;

/// What became of one generator's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Whose.
    pub generator: Generator,
    /// The last value that its agent said is synced.
    pub kept: u64,
    /// Different values that are stored.
    pub stored: u64,
    /// The greatest of them.
    pub last: u64,
    /// Values from 1 to `kept` that are not stored.
    pub missing: u64,
    /// The first ranges of them.
    pub first_missing: Vec<(u64, u64)>,
    /// Values that are stored more than once.
    pub doubled: u64,
    /// The first of them, and how often.
    pub first_doubled: Vec<(u64, u64)>,
}

impl Count {
    /// Counts; `times` are values in order, each with how often it is stored.
    pub(crate) fn of(
        generator: Generator,
        kept: u64,
        times: impl Iterator<Item = (u64, u64)>,
    ) -> Self {
        let mut count = Self {
            generator,
            kept,
            stored: 0,
            last: 0,
            missing: 0,
            first_missing: Vec::new(),
            doubled: 0,
            first_doubled: Vec::new(),
        };
        for (value, times) in times {
            count.gap(count.last + 1, value - 1);
            count.stored += 1;
            count.last = value;
            if times > 1 {
                count.doubled += 1;
                if count.first_doubled.len() < LISTED {
                    count.first_doubled.push((value, times));
                }
            }
        }
        count.gap(count.last + 1, kept);
        count
    }

    fn gap(&mut self, from: u64, to: u64) {
        let to = to.min(self.kept);
        if from > to {
            return;
        }
        self.missing += to - from + 1;
        if self.first_missing.len() < LISTED {
            self.first_missing.push((from, to));
        }
    }
}

/// What is wrong beside the counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// A value that no counter makes.
    Foreign {
        /// Under whose name it is stored.
        generator: Generator,
        /// The value.
        value: f64,
        /// Its label `series`.
        series: String,
    },
    /// Values of a generator of which no log was given.
    Unsaid {
        /// Which.
        generator: Generator,
    },
    /// An agent forgot what it had said is synced.
    Forgotten {
        /// Whose values.
        generator: Generator,
        /// What it said first.
        before: u64,
        /// What it said later.
        after: u64,
    },
    /// The ledger of a stream does not add up.
    Ledger {
        /// The stream, in words.
        stream: String,
        /// What is wrong with it.
        what: String,
    },
    /// No generator said that anything is synced: there is nothing to judge.
    Nothing,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who =
            |generator: &Generator| format!("agent {}, slot {}", generator.agent, generator.slot);
        match self {
            Self::Foreign { generator, value, series } => {
                let who = who(generator);
                write!(f, "{who}: series {series:?} has {value}, which no counter makes")
            }
            Self::Unsaid { generator } => {
                write!(f, "{}: values are stored, and no log of it was given", who(generator))
            }
            Self::Forgotten { generator, before, after } => {
                let who = who(generator);
                write!(
                    f,
                    "{who}: {before} was synced, and later only {after}: what was synced is lost"
                )
            }
            Self::Ledger { stream, what } => write!(f, "ledger of {stream}: {what}"),
            Self::Nothing => write!(f, "nothing to judge: no log says that anything was synced"),
        }
    }
}

/// All that was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// One a generator.
    pub counts: Vec<Count>,
    /// Whatever else is wrong.
    pub troubles: Vec<Trouble>,
}

impl Report {
    /// Whether everything is there once.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.may_still_hold() && self.counts.iter().all(|count| count.missing == 0)
    }

    /// Whether nothing is wrong but what may be under way.
    #[must_use]
    pub fn may_still_hold(&self) -> bool {
        self.troubles.is_empty() && self.counts.iter().all(|count| count.doubled == 0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for count in &self.counts {
            let Generator { agent, slot } = &count.generator;
            writeln!(
                f,
                "agent {agent}, slot {slot}: synced 1–{}, stored {} up to {}, missing {}, doubled {}",
                count.kept, count.stored, count.last, count.missing, count.doubled
            )?;
            if count.missing > 0 {
                let ranges = count.first_missing.iter().map(|&(from, to)| match from == to {
                    true => from.to_string(),
                    false => format!("{from}–{to}"),
                });
                let ranges: Vec<_> = ranges.collect();
                writeln!(f, "  missing {}: {}", count.missing, ranges.join(", "))?;
            }
            if count.doubled > 0 {
                let values = count.first_doubled.iter();
                let values: Vec<_> = values.map(|(v, n)| format!("{v} ({n} times)")).collect();
                writeln!(f, "  doubled {}: {}", count.doubled, values.join(", "))?;
            }
        }
        for trouble in self.troubles.iter().take(LISTED) {
            writeln!(f, "{trouble}")?;
        }
        let more = self.troubles.len().saturating_sub(LISTED);
        if more > 0 {
            writeln!(f, "and {more} more of that")?;
        }
        write!(f, "{}", if self.holds() { "each value is there once" } else { "it does not hold" })
    }
}
