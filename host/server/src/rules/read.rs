//! Files of rules, read and checked.

use super::{RuleChecker, RuleRead};
use crate::api::FileBody;
use sentinel_model::document::{Document, Problem};
use sentinel_model::rule::{MAX_CONDITION, Rule, RuleFile};
use std::collections::BTreeMap;

/// The shortest time between two evaluations of a rule, in milliseconds.
const MIN_INTERVAL_MS: u64 = 1000;

/// A rule of a file.
#[derive(Debug)]
pub struct Entry {
    /// The rule.
    pub rule: Rule,
    /// What its condition reads; nothing where it is refused.
    pub reads: Vec<RuleRead>,
    document: usize,
    path: String,
}

/// All rules of some files, and what is wrong with them.
#[derive(Debug, Default)]
pub struct Sheet {
    /// In the order of the files; also those that are refused.
    pub entries: Vec<Entry>,
    /// Why they cannot be applied.
    pub problems: Vec<Problem>,
    /// What a person should look at.
    pub warnings: Vec<Problem>,
    documents: Vec<Document>,
}

impl Sheet {
    /// Something to say of a rule, at a JSON Pointer into it.
    #[must_use]
    pub fn at(&self, entry: &Entry, path: &str, said: impl Into<String>) -> Problem {
        self.documents[entry.document].problem(&format!("{}{path}", entry.path), said)
    }
}

/// Reads files, and has every condition checked.
pub async fn read(checker: &dyn RuleChecker, files: &[FileBody]) -> Sheet {
    let mut sheet = Sheet::default();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for file in files {
        let parsed = Document::parse(&file.name, &file.text)
            .and_then(|document| Ok((document.read::<RuleFile>()?, document)));
        let (parsed, document) = match parsed {
            Ok(parsed) => parsed,
            Err(found) => {
                sheet.problems.extend(found.0);
                continue;
            }
        };
        sheet.documents.push(document);
        for (i, rule) in parsed.rules.into_iter().enumerate() {
            let path = format!("/rules/{i}");
            let document = sheet.documents.len() - 1;
            let mut entry = Entry { rule, reads: Vec::new(), document, path };
            if let Some(other) = names.insert(entry.rule.name.clone(), file.name.clone()) {
                let said = format!("a rule named {:?} stands in {other} already", entry.rule.name);
                sheet.problems.push(sheet.at(&entry, "/name", said));
            }
            check(checker, &mut sheet, &mut entry).await;
            sheet.entries.push(entry);
        }
    }
    sheet
}

async fn check(checker: &dyn RuleChecker, sheet: &mut Sheet, entry: &mut Entry) {
    let mut found = Vec::new();
    if entry.rule.interval.0 < MIN_INTERVAL_MS {
        found.push(sheet.at(entry, "/interval", "shorter than 1s"));
    }
    for (place, said) in entry.rule.problems() {
        found.push(sheet.at(entry, &place, said));
    }
    sheet.problems.extend(found);
    let length = entry.rule.condition.to_string().len();
    if length > MAX_CONDITION {
        let said = format!("{length} bytes, at most {MAX_CONDITION}");
        sheet.problems.push(sheet.at(entry, "/condition", said));
        return;
    }
    match checker.check(&entry.rule.evaluator, &entry.rule.condition).await {
        Ok(verdict) => {
            entry.reads = verdict.reads;
            for one in verdict.diagnostics {
                let said = sheet.at(entry, &format!("/condition{}", one.path), one.message);
                let into = if one.error { &mut sheet.problems } else { &mut sheet.warnings };
                into.push(said);
            }
        }
        Err(why) => sheet.problems.push(sheet.at(entry, "/evaluator", why)),
    }
}
