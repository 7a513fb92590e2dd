//! What rules were evaluated over, so that anybody can work alerts out anew.
//!
//! Each call of an evaluator is written down: as of when, which rules in which version, and up to which position of the
//! tail the windows that it asked went. A call that decides something is written in the transaction of what it decides;
//! others (no rule of theirs has an alert, or all stay as they are) are gathered and written with the next that
//! decides, at the latest after ten seconds. All calls are written, and not only those that decide: an alert that is
//! missing shows in a call that decided nothing, and what memory alone has (when an alert last held) comes from
//! such calls too. What a process had gathered when it ended is lost, and with it nothing that was decided.
//!
//! To work a rule's alerts out anew, take its calls in order of ids. At each, the condition's answer is a function of
//! the batches up to [`Evaluation::position`] and of [`Evaluation::at`]; the life cycle (`sentinel_alerting::evaluation`)
//! is one of those answers and of [`Evaluation::settled`]. Where another term begins, alerts go on as they were last
//! stored. A batch can be told from one that came later until it is packed, which is 5 minutes after its commit at the
//! earliest. What the worker says of itself (`sentinel_worker::config`'s `self_watch`), and the end of rules that are
//! gone, are no calls.
//!
//! Rows go after [`KEPT_MS`].

use crate::tail::TailPosition;
use sentinel_model::ids::SlotName;

/// How long evaluations are kept, in milliseconds.
pub const KEPT_MS: i64 = 2 * 3_600_000;
/// The most evaluations in one answer.
pub const MAX_EVALUATIONS: u32 = 10_000;

/// One call of an evaluator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluation {
    /// A random number of whoever evaluated, from when it began to when it ended.
    pub term: i64,
    /// Counts the calls of a term, from 0. One that is stored already stays as it is.
    pub number: i64,
    /// Who was asked.
    pub evaluator: SlotName,
    /// The time as of which, unix milliseconds.
    pub at: i64,
    /// Version of the rules.
    pub rules_version: u64,
    /// Which of that version's rules, by their places from 0, ascending; [`ranges`] makes it.
    pub rules: String,
    /// Those of them that failed.
    pub failed: String,
    /// Whether all samples that are to be expected after a start were there.
    pub settled: bool,
    /// Up to where what was committed was seen.
    pub position: TailPosition,
    /// Where more came meanwhile: up to where it may have been seen.
    pub until: Option<TailPosition>,
}

/// Ascending numbers as text: `0-4,7`.
#[must_use]
pub fn ranges(numbers: impl IntoIterator<Item = usize>) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            Some(_) | None => runs.push((number, number)),
        }
    }
    let run = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #[test]
    fn neighbours_are_written_as_one() {
        for (numbers, text) in [
            (vec![], ""),
            (vec![3], "3"),
            (vec![0, 1, 2], "0-2"),
            (vec![0, 1, 4, 6, 7], "0-1,4,6-7"),
        ] {
            assert_eq!(super::ranges(numbers), text);
        }
    }
}
