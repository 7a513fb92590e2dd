#![allow(dead_code, reason = "of these types only the schema is used")]

use super::super::Document;
use crate::duration::Millis;
use crate::ids::SlotName;
use schemars::JsonSchema;
use serde::Deserialize;

/// Variants with words of their own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Sync {
    /// Each record.
    Always,
    /// Now and then.
    Interval,
    /// Left to the kernel.
    Never,
}

/// Variants without.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Plain {
    Up,
    Down,
}

/// Told apart by a key.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Target {
    /// A file.
    File { path: String },
    /// An address.
    Http { url: String, port: u16 },
}

/// Told apart by which key there is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Place {
    /// In a header.
    Header(String),
    /// In the address.
    Query { name: String },
    /// Nowhere.
    None,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    sync: Option<Sync>,
    plain: Option<Plain>,
    target: Option<Target>,
    targets: Option<Vec<Target>>,
    place: Option<Place>,
    count: Option<u8>,
    /// How long to wait.
    timeout: Option<Millis>,
    interval: Option<Millis>,
    slot: Option<SlotName>,
    /// What people call it. Shown in lists.
    title: Option<String>,
    note: Option<String>,
    on: Option<bool>,
    job: Option<Job>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Job {
    every: Millis,
    /// The command, without arguments. It is looked up.
    command: String,
    /// A word.
    #[schemars(regex(pattern = "^[a-z]+$"))]
    word: Option<String>,
    tags: Vec<String>,
}

fn problems(text: &str) -> String {
    Document::parse("c.yaml", text).unwrap().read::<Config>().unwrap_err().to_string()
}

#[test]
fn of_an_enum_the_allowed_values_are_listed() {
    insta::assert_snapshot!(problems("sync: allways\nplain: left\ncount: 300\nother: 1\n"));
    insta::assert_snapshot!(problems("sync: 7\nplain: [up]\ncount: one\n"));
}

#[test]
fn of_a_tagged_enum_what_is_wrong_with_the_shape_that_was_meant_is_said() {
    insta::assert_snapshot!(problems("target: {kind: ftp, path: x}\n"));
    insta::assert_snapshot!(problems("target:\n  kind: http\n  port: 99999\n  uri: x\n"));
    insta::assert_snapshot!(problems("target: {path: x}\n"));
    insta::assert_snapshot!(problems(
        "targets:\n  - {kind: file, path: x}\n  - {kind: file, path: 1}\n  - nothing\n"
    ));
}

#[test]
fn of_several_shapes_the_one_that_was_meant_is_found() {
    insta::assert_snapshot!(problems("place: {query: {nam: x}}\n"));
    insta::assert_snapshot!(problems("place: {body: x}\n"));
    insta::assert_snapshot!(problems("place: nowhere\n"));
}

#[test]
fn long_values_are_cut_at_a_character() {
    let said = problems(&format!("sync: {}\n", "ü".repeat(500)));
    assert!(said.chars().count() < 250, "{said}");
}

#[test]
fn a_wrong_duration_is_told_how_to_write_one() {
    insta::assert_snapshot!(problems(
        "timeout: 5\ninterval: five\njob:\n  every: 10\n  command: x\n  tags: []\n"
    ));
}

#[test]
fn what_newcomers_get_wrong_is_answered_with_what_to_write() {
    insta::assert_snapshot!(problems(
        "title: 5\nnote: true\non: yes please\nslot: My Slot\nconut: 1\njob: every\n"
    ));
    insta::assert_snapshot!(problems("job:\n  tags: a\n  word: \"1\"\n  nothing_like_it: 1\n"));
    insta::assert_snapshot!(problems("- a\n- b\n"));
}
