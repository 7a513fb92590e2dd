//! Files of rules: bounded, and never a panic, whatever somebody writes. What is refused is
//! refused at a place and with a reason; what is taken is the same file in its canonical form,
//! which is JSON, and is taken again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sentinel_model::document::{Document, Problems};
use sentinel_model::rule::RuleFile;

fn told(problems: &Problems) {
    assert!(!problems.0.is_empty(), "refused without a reason");
    for one in &problems.0 {
        assert!(one.line >= 1 && one.column >= 1 && !one.message.is_empty(), "{one:?}");
    }
}

fuzz_target!(|text: &str| {
    let document = match Document::parse("rules.yaml", text) {
        Ok(document) => document,
        Err(problems) => return told(&problems),
    };
    let file = match document.read::<RuleFile>() {
        Ok(file) => file,
        Err(problems) => return told(&problems),
    };
    for (at, rule) in file.rules.iter().enumerate() {
        for (path, said) in rule.problems() {
            let problem = document.problem(&format!("/rules/{at}{path}"), said);
            told(&Problems(vec![problem]));
        }
        let labels = (rule.own_labels(), rule.own_annotations());
        assert!(labels.0.iter().chain(labels.1.iter()).all(|(key, _)| !key.is_empty()));
    }
    let canonical = serde_json::to_string(&file).expect("a file of rules is JSON");
    let again = Document::parse("rules.json", &canonical).and_then(|again| again.read());
    let again: RuleFile = again.unwrap_or_else(|problems| panic!("{canonical}\n{problems}"));
    assert_eq!(again, file, "{canonical}");
});
