//! What is sound and yet seldom meant.

use sentinel_sdk::series::{Aggregate, Estimate};

use crate::condition::{Condition, Function, Measure};
use crate::duration;
use crate::fields::{Fields, Problems};

/// A shorter window seldom holds the two samples that `rate` and `increase` need.
const SHORT_RATE_MS: u64 = 30_000;
/// Endings of the names of counters.
const COUNTER_ENDINGS: [&str; 4] = ["_total", "_count", "_sum", "_bucket"];

/// Warns of members of `all` that join on whatever labels their series happen to share.
pub(crate) fn of_bare_members(members: &[Condition], path: &str, problems: &mut Problems) {
    let bare = |member: &&Condition| match member {
        Condition::Threshold(threshold) => threshold.grouping.is_none(),
        Condition::Not(inner) => {
            matches!(&**inner, Condition::Threshold(threshold) if threshold.grouping.is_none())
        }
        Condition::All(_) | Condition::Any(_) | Condition::Absent(_) | Condition::Holds(_) => false,
    };
    if members.iter().filter(bare).count() > 1 {
        problems.warn(
            path,
            "members without `by` are joined on every label that their series share; name the \
             labels that matter with `by` and `combine`",
        );
    }
}

/// Warns of rates over too short a window or of gauges, and of counters read as levels.
pub(crate) fn of_counters(measure: &Measure, fields: &Fields<'_>, problems: &mut Problems) {
    let name = &measure.selector.name;
    let counter = COUNTER_ENDINGS.iter().any(|ending| name.ends_with(ending));
    let grows = matches!(
        measure.function,
        Function::Of(Aggregate::Rate | Aggregate::Increase)
            | Function::Estimated(
                Estimate::ExtrapolatedRate | Estimate::ExtrapolatedIncrease | Estimate::InstantRate
            )
    );
    if grows && measure.window_ms < SHORT_RATE_MS {
        let said = format!(
            "two samples are needed and {} seldom holds them; write 30s or more, best four times \
             the interval of collection",
            duration::words(measure.window_ms)
        );
        problems.warn(fields.at("window"), said);
    }
    if grows && !counter {
        let said = format!(
            "{name} is no counter by its name; `rate` and `increase` take every fall of a gauge \
             for a reset"
        );
        problems.warn(fields.at("fn"), said);
    }
    let level = matches!(
        measure.function,
        Function::Of(Aggregate::Last | Aggregate::Avg | Aggregate::Max | Aggregate::Sum)
    );
    if level && name.ends_with("_total") {
        let said = format!(
            "{name} is a counter by its name and grows for ever; compare its `rate` or `increase`"
        );
        problems.warn(&*fields.path, said);
    }
}
