//! Files of rules, read and checked by their evaluators.

use crate::rig::{Rig, refusals};
use sentinel_model::document::{Document, Problems};
use sentinel_model::rule::{Rule, RuleFile};
use sentinel_runtime::evaluator::Plan;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A rule that passed its check.
#[derive(Debug, Clone)]
pub struct Checked {
    /// The rule.
    pub rule: Arc<Rule>,
    /// What its condition reads.
    pub plan: Plan,
}

/// Reads and checks files of rules: names and texts.
///
/// # Errors
/// Everything that is wrong with any of them.
pub async fn check_files(
    rig: &mut Rig,
    files: &[(String, String)],
) -> Result<Vec<Checked>, Problems> {
    let (mut problems, mut checked, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (name, text) in files {
        let parsed = Document::parse(name, text).and_then(|d| Ok((d.read::<RuleFile>()?, d)));
        let (file, document) = match parsed {
            Ok(read) => read,
            Err(found) => {
                problems.extend(found.0);
                continue;
            }
        };
        for (i, rule) in file.rules.into_iter().enumerate() {
            let mut say = |at: &str, said: String| {
                problems.push(document.problem(&format!("/rules/{i}{at}"), said));
            };
            rule.problems().into_iter().for_each(|(at, said)| say(&at, said));
            if !names.insert(rule.name.clone()) {
                say("/name", format!("a rule named {:?} is there already", rule.name));
            }
            match rig.check(&rule).await {
                Ok(Ok(plan)) => checked.push(Checked { rule: Arc::new(rule), plan }),
                Ok(Err(said)) => refusals(&said)
                    .for_each(|one| say(&format!("/condition{}", one.path), one.message.clone())),
                Err(error) => say("/evaluator", error.to_string()),
            }
        }
    }
    Problems(problems).into_result()?;
    Ok(checked)
}
