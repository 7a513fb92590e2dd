//! What a schema's error means to whoever wrote the document.
//!
//! A schema says "one of these" where a value has several shapes: an enum whose variants are
//! documented, a tagged enum, an optional value. Which of the shapes was meant is found out here,
//! so that the answer lists the values that are allowed, or names what is wrong with the shape
//! that was meant, and not that none of several schemas fits.
//!
//! What a schema says in `title` (a noun), `examples` and `description` of a value is told to
//! who wrote another.

mod words;

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;
use std::collections::BTreeSet;
use words::{MAX_TEXT, Wanted, excerpt, nearest, one_of, sentence, shorten};

/// A JSON Pointer and what is wrong there.
pub(super) type Said = (String, String);

type Branch<'e> = Vec<&'e ValidationError<'static>>;

/// Everything to say of one error against a schema.
pub(super) fn describe(error: &ValidationError<'_>, schema: &Value) -> Vec<Said> {
    let path = error.instance_path().as_str().to_owned();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            unexpected.iter().map(|key| unknown_key(error, schema, key)).collect()
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let branches = context.iter().map(|errors| errors.iter().collect()).collect();
            alternatives(error, schema, branches)
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            vec![(path, expected(error, one_of(&literals(error), &[])))]
        }
        ValidationErrorKind::Required { property } => {
            vec![(path, missing(error, schema, property))]
        }
        ValidationErrorKind::Type { .. } => {
            let wanted = Wanted::of(error, node(error, schema));
            vec![(path, expected(error, wanted.said(error.instance())))]
        }
        ValidationErrorKind::Pattern { pattern } => {
            let wanted = Wanted::of(error, node(error, schema)).matching(pattern);
            vec![(path, expected(error, wanted.said(error.instance())))]
        }
        _ => vec![(path, shorten(&error.to_string(), MAX_TEXT))],
    }
}

/// The schema of the value that an error is about.
fn node<'s>(error: &ValidationError<'_>, schema: &'s Value) -> Option<&'s Value> {
    let keyword = error.schema_path().as_str();
    schema.pointer(&keyword[..keyword.rfind('/')?])
}

fn unknown_key(error: &ValidationError<'_>, schema: &Value, key: &str) -> Said {
    let escaped = key.replace('~', "~0").replace('/', "~1");
    let known = node(error, schema).and_then(|node| node.get("properties"));
    let known: Vec<&str> = known
        .and_then(Value::as_object)
        .map(|all| all.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let hint = match nearest(key, &known) {
        Some(meant) => format!("; did you mean {meant:?}?"),
        None if known.is_empty() => String::new(),
        None => shorten(&format!("; the keys are {}", known.join(", ")), MAX_TEXT),
    };
    let at = format!("{}/{escaped}", error.instance_path().as_str());
    (at, format!("this key has no meaning here{hint}"))
}

fn missing(error: &ValidationError<'_>, schema: &Value, property: &Value) -> String {
    let described = property
        .as_str()
        .and_then(|name| node(error, schema)?.get("properties")?.get(name))
        .and_then(sentence);
    match described {
        Some(what) => format!("{property} is missing: {what}"),
        None => format!("{property} is missing"),
    }
}

/// None of the branches fits; each is the errors that one shape has.
fn alternatives(
    error: &ValidationError<'_>,
    schema: &Value,
    branches: Vec<Branch<'_>>,
) -> Vec<Said> {
    let at = error.instance_path().as_str();
    let (mut values, mut wanted, mut shapes) = (Vec::new(), Vec::new(), Vec::new());
    for branch in flat(at, branches) {
        let is_whole =
            branch.iter().all(|e| is_here(e, at) && (is_type(e) || !literals(e).is_empty()));
        let listed: Vec<Value> = branch.iter().flat_map(|e| literals(e)).collect();
        match (is_whole, listed.is_empty()) {
            (false, _) => shapes.push(branch),
            (true, false) => values.extend(listed),
            (true, true) => wanted.extend(branch.iter().map(|e| Wanted::of(e, node(e, schema)))),
        }
    }
    if !shapes.is_empty() {
        return shape(error, schema, shapes);
    }
    wanted.retain(|one| !one.is_nothing());
    let said = match &wanted[..] {
        [one] if values.is_empty() => one.said(error.instance()),
        several => {
            let mut nouns: Vec<&str> = several.iter().map(Wanted::noun).collect();
            nouns.sort_unstable();
            nouns.dedup();
            one_of(&values, &nouns)
        }
    };
    vec![(at.to_owned(), expected(error, said))]
}

/// What is wrong with the shape that was meant.
fn shape(error: &ValidationError<'_>, schema: &Value, mut shapes: Vec<Branch<'_>>) -> Vec<Said> {
    let at = error.instance_path().as_str();
    let is_other = |branch: &Branch<'_>| branch.iter().any(|e| is_tag(e, at));
    if shapes.iter().all(is_other) {
        // The value of the tag is none that there is.
        let tags: Vec<_> = shapes.iter().flatten().filter(|e| is_tag(e, at)).collect();
        let path = tags[0].instance_path().as_str();
        let same = tags.iter().filter(|e| is_here(e, path));
        let values: Vec<Value> = same.flat_map(|e| literals(e)).collect();
        return vec![(path.to_owned(), expected(tags[0], one_of(&values, &[])))];
    }
    shapes.retain(|branch| !is_other(branch));
    let missing = |branch: &Branch<'_>| {
        let required = branch.iter().find(|e| is_here(e, at) && required(e).is_some())?;
        required_name(required)
    };
    if shapes.len() > 1 && shapes.iter().all(|branch| missing(branch).is_some()) {
        let keys: BTreeSet<String> = shapes.iter().filter_map(missing).collect();
        let keys: Vec<Value> = keys.into_iter().map(Value::String).collect();
        let message = match &keys[..] {
            [one] => format!("{one} is missing"),
            _ => format!("{} is needed here", one_of(&keys, &[])),
        };
        return vec![(at.to_owned(), message)];
    }
    if shapes.iter().any(|branch| missing(branch).is_none()) {
        shapes.retain(|branch| missing(branch).is_none());
    }
    // The one that goes wrong the deepest, then the one with the least wrong, was meant.
    let depth = |branch: &Branch<'_>| {
        branch.iter().map(|e| e.instance_path().as_str().matches('/').count()).max()
    };
    let meant = shapes.into_iter().max_by_key(|b| (depth(b), std::cmp::Reverse(b.len())));
    let said: Vec<Said> =
        meant.into_iter().flatten().flat_map(|error| describe(error, schema)).collect();
    if said.is_empty() {
        return vec![(at.to_owned(), shorten(&error.to_string(), MAX_TEXT))];
    }
    said
}

/// Branches that only hold further branches for the same value are replaced by those.
fn flat<'e>(at: &str, branches: Vec<Branch<'e>>) -> Vec<Branch<'e>> {
    let mut out = Vec::with_capacity(branches.len());
    for branch in branches {
        let inner = match &branch[..] {
            [one] if is_here(one, at) => match one.kind() {
                ValidationErrorKind::AnyOf { context }
                | ValidationErrorKind::OneOfNotValid { context } => Some(context),
                _ => None,
            },
            _ => None,
        };
        match inner {
            Some(context) => {
                out.extend(flat(
                    at,
                    context.iter().map(|errors| errors.iter().collect()).collect(),
                ));
            }
            None => out.push(branch),
        }
    }
    out
}

fn is_here(error: &ValidationError<'_>, at: &str) -> bool {
    error.instance_path().as_str() == at
}

fn is_type(error: &ValidationError<'_>) -> bool {
    matches!(error.kind(), ValidationErrorKind::Type { .. })
}

/// Whether an error says that a key of the value has not the one value that names this shape.
fn is_tag(error: &ValidationError<'_>, at: &str) -> bool {
    let below = error.instance_path().as_str().strip_prefix(at).and_then(|p| p.strip_prefix('/'));
    below.is_some_and(|key| !key.contains('/')) && !literals(error).is_empty()
}

fn required<'e>(error: &'e ValidationError<'_>) -> Option<&'e Value> {
    match error.kind() {
        ValidationErrorKind::Required { property } => Some(property),
        _ => None,
    }
}

fn required_name(error: &ValidationError<'_>) -> Option<String> {
    required(error).and_then(Value::as_str).map(str::to_owned)
}

/// The values that an error says are allowed; none where it says something else.
fn literals(error: &ValidationError<'_>) -> Vec<Value> {
    match error.kind() {
        ValidationErrorKind::Constant { expected_value } => vec![(**expected_value).clone()],
        ValidationErrorKind::Enum { options } => options.as_array().cloned().unwrap_or_default(),
        _ => Vec::new(),
    }
}

fn expected(error: &ValidationError<'_>, wanted: String) -> String {
    format!("{} is not allowed here; write {wanted}", excerpt(error.instance()))
}

#[cfg(test)]
mod tests;
