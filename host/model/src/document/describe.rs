//! What a schema's error means to whoever wrote the document.
//!
//! A schema says "one of these" where a value has several shapes: an enum whose variants are
//! documented, a tagged enum, an optional value. Which of the shapes was meant is found out here,
//! so that the answer lists the values that are allowed, or names what is wrong with the shape
//! that was meant, and not that none of several schemas fits.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value;
use std::collections::BTreeSet;

/// The most characters of a message that comes from a value or a schema.
const MAX_TEXT: usize = 300;
/// The most characters of a value that is shown.
const MAX_VALUE: usize = 60;

/// A JSON Pointer and what is wrong there.
pub(super) type Said = (String, String);

type Branch<'e> = Vec<&'e ValidationError<'static>>;

/// Everything to say of one error.
pub(super) fn describe(error: &ValidationError<'_>) -> Vec<Said> {
    let path = error.instance_path().as_str().to_owned();
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let at = |key: &String| {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                (format!("{path}/{escaped}"), "this key has no meaning here".to_owned())
            };
            unexpected.iter().map(at).collect()
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            let branches = context.iter().map(|errors| errors.iter().collect()).collect();
            alternatives(error, branches)
        }
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => {
            vec![(path, expected(error.instance(), &literals(error), &BTreeSet::new()))]
        }
        _ => vec![(path, shorten(&error.to_string(), MAX_TEXT))],
    }
}

/// None of the branches fits; each is the errors that one shape has.
fn alternatives(error: &ValidationError<'_>, branches: Vec<Branch<'_>>) -> Vec<Said> {
    let at = error.instance_path().as_str();
    let (mut values, mut types, mut shapes) = (Vec::new(), BTreeSet::new(), Vec::new());
    for branch in flat(at, branches) {
        let is_whole = branch
            .iter()
            .all(|e| is_here(e, at) && (type_names(e).is_some() || !literals(e).is_empty()));
        let listed: Vec<Value> = branch.iter().flat_map(|e| literals(e)).collect();
        match (is_whole, listed.is_empty()) {
            (false, _) => shapes.push(branch),
            (true, false) => values.extend(listed),
            (true, true) => types.extend(branch.iter().filter_map(|e| type_names(e)).flatten()),
        }
    }
    if shapes.is_empty() {
        return vec![(at.to_owned(), expected(error.instance(), &values, &types))];
    }
    shape(error, at, shapes)
}

/// What is wrong with the shape that was meant.
fn shape(error: &ValidationError<'_>, at: &str, mut shapes: Vec<Branch<'_>>) -> Vec<Said> {
    let is_other = |branch: &Branch<'_>| branch.iter().any(|e| is_tag(e, at));
    if shapes.iter().all(is_other) {
        // The value of the tag is none that there is.
        let tags: Vec<_> = shapes.iter().flatten().filter(|e| is_tag(e, at)).collect();
        let path = tags[0].instance_path().as_str();
        let same = tags.iter().filter(|e| is_here(e, path));
        let values: Vec<Value> = same.flat_map(|e| literals(e)).collect();
        let message = expected(tags[0].instance(), &values, &BTreeSet::new());
        return vec![(path.to_owned(), message)];
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
            _ => format!("{} is needed here", one_of(&keys, &BTreeSet::new())),
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
    let said: Vec<Said> = meant.into_iter().flatten().flat_map(describe).collect();
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

fn type_names(error: &ValidationError<'_>) -> Option<Vec<&'static str>> {
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(one) } => Some(vec![one.as_str()]),
        ValidationErrorKind::Type { kind: TypeKind::Multiple(all) } => {
            Some(all.iter().map(|one| one.as_str()).collect())
        }
        _ => None,
    }
}

fn expected(found: &Value, values: &[Value], types: &BTreeSet<&'static str>) -> String {
    let found = shorten(&found.to_string(), MAX_VALUE);
    format!("{found} is not allowed here; write {}", one_of(values, types))
}

/// "a", "b" or a string.
fn one_of(values: &[Value], types: &BTreeSet<&'static str>) -> String {
    let mut words: Vec<String> = Vec::new();
    for value in values {
        let word = value.to_string();
        if !words.contains(&word) && *value != Value::Null {
            words.push(word);
        }
    }
    for name in types {
        let article = if name.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
        // Nothing is the absence of a value: said only where it is all that may stand there.
        match *name {
            "null" if !words.is_empty() || types.len() > 1 => {}
            "null" => words.push("null".to_owned()),
            name => words.push(format!("{article} {name}")),
        }
    }
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => {
            shorten(&format!("{} or {last}", rest.join(", ")), MAX_TEXT)
        }
        Some((last, _)) => last.clone(),
        None => "something else".to_owned(),
    }
}

fn shorten(message: &str, max: usize) -> String {
    let count = message.chars().count();
    if count <= max {
        return message.to_owned();
    }
    let head: String = message.chars().take(max / 2).collect();
    let tail: String = message.chars().skip(count - max / 2).collect();
    format!("{head} … {tail}")
}

#[cfg(test)]
mod tests {
    use super::super::Document;
    use schemars::JsonSchema;
    use serde::Deserialize;

    /// Variants with words of their own.
    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    #[allow(dead_code, reason = "only its schema is used")]
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
    #[allow(dead_code, reason = "only its schema is used")]
    enum Plain {
        Up,
        Down,
    }

    /// Told apart by a key.
    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
    #[allow(dead_code, reason = "only its schema is used")]
    enum Target {
        /// A file.
        File { path: String },
        /// An address.
        Http { url: String, port: u16 },
    }

    /// Told apart by which key there is.
    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase", deny_unknown_fields)]
    #[allow(dead_code, reason = "only its schema is used")]
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
    #[allow(dead_code, reason = "only its schema is used")]
    struct Config {
        sync: Option<Sync>,
        plain: Option<Plain>,
        target: Option<Target>,
        targets: Option<Vec<Target>>,
        place: Option<Place>,
        count: Option<u8>,
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
}
