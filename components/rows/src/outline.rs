//! What the rules have to do with a name, remembered from batch to batch.
//!
//! Matching a name against patterns is the only expensive thing that a pass does, and names come
//! again in every batch. What is remembered depends on the rules and the name alone, so that a
//! batch is reshaped in the same way whatever came before it.

use std::collections::HashMap;
use std::rc::Rc;

use sentinel_sdk::is_metric_name;

use crate::plan::{Action, RowRule};

/// Names that are remembered; at one more all are forgotten.
const MAX_NAMES: usize = 10_000;

/// A rule that concerns a name.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) rule: u32,
    /// Whether it depends on labels too.
    pub(crate) guarded: bool,
    pub(crate) does: Does,
}

/// What it does with rows of the name.
#[derive(Debug)]
pub(crate) enum Does {
    Drop,
    /// Drops those for which the conditions on labels do not hold.
    DropUnless,
    Rename(Box<str>),
    /// What the rule's action says, which does not depend on the name.
    Action,
}

/// Outlines of the names met so far.
#[derive(Debug, Default)]
pub(crate) struct Outlines {
    by_name: HashMap<Box<str>, Vec<Outline>>,
}

/// The rules from one on that concern a name.
#[derive(Debug)]
struct Outline {
    from: u32,
    lines: Rc<[Line]>,
}

impl Outlines {
    /// The rules from `from` on that concern a name, up to one that surely takes the row out or
    /// gives it another name.
    pub(crate) fn of(&mut self, rules: &[RowRule], name: &str, from: u32) -> Rc<[Line]> {
        if let Some(known) = self.by_name.get(name)
            && let Some(outline) = known.iter().find(|outline| outline.from == from)
        {
            return Rc::clone(&outline.lines);
        }
        if self.by_name.len() >= MAX_NAMES {
            self.by_name.clear();
        }
        let lines: Rc<[Line]> = outline(rules, name, from).into();
        let known = self.by_name.entry(name.into()).or_default();
        known.push(Outline { from, lines: Rc::clone(&lines) });
        lines
    }
}

fn outline(rules: &[RowRule], name: &str, from: u32) -> Vec<Line> {
    let mut lines = Vec::new();
    for (at, rule) in rules.iter().enumerate().skip(from as usize) {
        let takes = rule.select.takes_name(name);
        // A name that `keep` does not take is dropped whatever the labels.
        let guarded = takes && !rule.select.labels.is_empty();
        let does = match &rule.action {
            Action::Keep if !takes => Does::Drop,
            Action::Keep if guarded => Does::DropUnless,
            Action::Keep => continue,
            _ if !takes => continue,
            Action::Drop => Does::Drop,
            Action::Rename(rewrite) => match rewrite.apply(name) {
                Some(to) if is_metric_name(&to) && to != name => Does::Rename(to.into()),
                _ => continue,
            },
            Action::Relabel(_)
            | Action::SetLabel { .. }
            | Action::DropLabel { .. }
            | Action::RenameLabel { .. }
            | Action::Scale { .. } => Does::Action,
        };
        let last = !guarded && matches!(does, Does::Drop | Does::Rename(_));
        lines.push(Line { rule: at as u32, guarded, does });
        if last {
            break;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_names_are_remembered_than_the_bound() {
        let mut outlines = Outlines::default();
        for name in 0..MAX_NAMES * 2 + 5 {
            outlines.of(&[], &format!("name_{name}"), 0);
            assert!(outlines.by_name.len() <= MAX_NAMES);
        }
        assert_eq!(outlines.by_name.len(), 5);
    }
}
