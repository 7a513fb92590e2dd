//! YAML or JSON documents whose problems know their line: everything wrong with a config is
//! said at once, each with `file:line:column` and the path of the value.

mod describe;

use saphyr::{LoadableYamlNode, MarkedYaml, Scalar, YamlData};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt;

/// The most bytes a document may have.
pub const MAX_DOCUMENT: usize = 4 << 20;
/// How deep values may be nested.
const MAX_DEPTH: usize = 64;
/// The most problems that are listed.
const MAX_PROBLEMS: usize = 100;

/// Something wrong with a document, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The document's name, as people know it (a file's path).
    pub file: String,
    /// Line from 1.
    pub line: usize,
    /// Column from 1, in characters.
    pub column: usize,
    /// JSON Pointer; empty for the whole.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        // What goes on below belongs to this problem, and not beside it.
        f.write_str(&self.message.replace('\n', "\n    "))
    }
}

/// All problems of a document, in order of places.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        writeln!(f, "{count} problem{}:", if count == 1 { "" } else { "s" })?;
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}  {problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Problems {
    /// `Ok` where there is none.
    ///
    /// # Errors
    /// Itself, sorted by line, where there is any.
    pub fn into_result(mut self) -> Result<(), Self> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| {
            (&a.file, a.line, a.column, &a.path).cmp(&(&b.file, b.line, b.column, &b.path))
        });
        self.0.dedup();
        self.0.truncate(MAX_PROBLEMS);
        Err(self)
    }
}

/// A line and a column, from 1.
type Place = (usize, usize);

fn place(marker: saphyr::Marker) -> Place {
    (marker.line().max(1), marker.col() + 1)
}

/// A parsed document that knows where each value stands.
#[derive(Debug, Clone)]
pub struct Document {
    file: String,
    value: Value,
    places: HashMap<String, Place>,
}

impl Document {
    /// Parses YAML 1.2 (of which JSON is a part). An empty text is an empty object.
    ///
    /// # Errors
    /// A syntax error, a document that is too long or too deep, or one with a value that JSON
    /// does not have.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let problem = |(line, column), path: &str, message: String| {
            let (file, path) = (file.to_owned(), path.to_owned());
            Problems(vec![Problem { file, line, column, path, message }])
        };
        if text.len() > MAX_DOCUMENT {
            let message = format!("{} bytes, more than the {MAX_DOCUMENT} allowed", text.len());
            return Err(problem((1, 1), "", message));
        }
        let documents = MarkedYaml::load_from_str(text)
            .map_err(|e| problem(place(*e.marker()), "", syntax(e.info())))?;
        let mut places = HashMap::new();
        let value = match documents.as_slice() {
            [] => Value::Object(serde_json::Map::new()),
            [one] => convert(one, "", 0, &mut places)
                .map_err(|(at, path, message)| problem(at, &path, message))?,
            [_, second, ..] => {
                let message = "a second document begins here; write one a file".to_owned();
                return Err(problem(place(second.span.start), "", message));
            }
        };
        Ok(Self { file: file.to_owned(), value, places })
    }

    /// The document as JSON.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// A problem at a JSON Pointer, where the nearest value stands that exists.
    #[must_use]
    pub fn problem(&self, path: &str, message: impl Into<String>) -> Problem {
        let mut nearest = path;
        let (line, column) = loop {
            if let Some(&place) = self.places.get(nearest) {
                break place;
            }
            match nearest.rfind('/') {
                Some(at) => nearest = &nearest[..at],
                None => break (1, 1),
            }
        };
        let (file, path) = (self.file.clone(), path.to_owned());
        Problem { file, line, column, path, message: message.into() }
    }

    /// Everything in which the document differs from a JSON Schema.
    ///
    /// # Errors
    /// All problems at once; also a schema that is none, as a problem of the whole.
    pub fn validate(&self, schema: &Value) -> Result<(), Problems> {
        self.validate_at("", &self.value, schema)
    }

    /// As [`Document::validate`] for the value at a JSON Pointer; where there is none, for an
    /// empty object.
    ///
    /// # Errors
    /// As [`Document::validate`].
    pub fn validate_part(&self, path: &str, schema: &Value) -> Result<(), Problems> {
        match self.value.pointer(path) {
            Some(part) => self.validate_at(path, part, schema),
            None => self.validate_at(path, &Value::Object(serde_json::Map::new()), schema),
        }
    }

    fn validate_at(&self, base: &str, value: &Value, schema: &Value) -> Result<(), Problems> {
        let validator = match jsonschema::validator_for(schema) {
            Ok(validator) => validator,
            Err(e) => return Err(Problems(vec![self.problem(base, format!("its schema: {e}"))])),
        };
        let problems = validator.iter_errors(value).take(MAX_PROBLEMS);
        let said = problems.flat_map(|error| describe::describe(&error, schema));
        let problem = |(path, message)| self.problem(&format!("{base}{path}"), message);
        Problems(said.map(problem).collect()).into_result()
    }

    /// Validates against the type's own schema, then makes the value.
    ///
    /// # Errors
    /// All problems at once.
    pub fn read<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Problems> {
        let schema = schemars::schema_for!(T);
        self.validate(schema.as_value())?;
        serde_json::from_value(self.value.clone())
            .map_err(|e| Problems(vec![self.problem("", e.to_string())]))
    }
}

/// What a parser says, and what to do where newcomers often see it.
fn syntax(said: &str) -> String {
    if said.contains("tab") { format!("{said}; indent with spaces") } else { said.to_owned() }
}

type Refused = (Place, String, String);

fn convert(
    node: &MarkedYaml<'_>,
    path: &str,
    depth: usize,
    places: &mut HashMap<String, Place>,
) -> Result<Value, Refused> {
    let at = place(node.span.start);
    let refuse = |message: &str| Err((at, path.to_owned(), message.to_owned()));
    if depth > MAX_DEPTH {
        return refuse("nested too deep");
    }
    places.insert(path.to_owned(), at);
    Ok(match &node.data {
        YamlData::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(b) => Value::Bool(*b),
            Scalar::Integer(i) => Value::from(*i),
            Scalar::FloatingPoint(f) => match serde_json::Number::from_f64(**f) {
                Some(number) => Value::Number(number),
                None => return refuse("a number that is not finite"),
            },
            Scalar::String(s) => Value::String(s.to_string()),
        },
        YamlData::Sequence(items) => {
            let mut out = Vec::with_capacity(items.len());
            for (i, item) in items.iter().enumerate() {
                out.push(convert(item, &format!("{path}/{i}"), depth + 1, places)?);
            }
            Value::Array(out)
        }
        YamlData::Mapping(pairs) => {
            let mut out = serde_json::Map::new();
            for (key, item) in pairs {
                let YamlData::Value(scalar) = &key.data else {
                    return refuse("a key that is not a text");
                };
                let key_text = key_text(scalar);
                let escaped = key_text.replace('~', "~0").replace('/', "~1");
                let at = format!("{path}/{escaped}");
                let value = convert(item, &at, depth + 1, places)?;
                places.insert(at, place(key.span.start));
                out.insert(key_text, value);
            }
            Value::Object(out)
        }
        YamlData::Tagged(tag, _) => return refuse(&format!("the tag {tag} has no meaning here")),
        YamlData::Representation(text, ..) => Value::String(text.to_string()),
        YamlData::Alias(_) => return refuse("aliases have no meaning here"),
        YamlData::BadValue => return refuse("a value that does not fit its tag"),
    })
}

fn key_text(scalar: &Scalar<'_>) -> String {
    match scalar {
        Scalar::Null => "null".to_owned(),
        Scalar::Boolean(b) => b.to_string(),
        Scalar::Integer(i) => i.to_string(),
        Scalar::FloatingPoint(f) => f.to_string(),
        Scalar::String(s) => s.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::RuleFile;

    #[test]
    fn all_problems_are_said_at_once_with_lines_and_paths() {
        let text = "version: 1\nrules:\n  - name: a b\n    condition: {}\n  - name: ok\n    fro: 5m\n    for: five\n    condition: {}\n";
        let document = Document::parse("rules.yaml", text).unwrap();
        let problems = document.read::<RuleFile>().unwrap_err().to_string();
        insta::assert_snapshot!(problems);
    }

    #[test]
    fn a_syntax_error_says_its_line() {
        let problems = Document::parse("a.yaml", "a: 1\nb: [1,\n").unwrap_err();
        assert_eq!(problems.0[0].file, "a.yaml");
        assert!(problems.0[0].line >= 2, "{problems}");
    }

    #[test]
    fn a_tab_is_answered_with_spaces() {
        let problems = Document::parse("a.yaml", "a:\n\tb: 1\n").unwrap_err().to_string();
        assert!(problems.contains("a.yaml:2:") && problems.contains("spaces"), "{problems}");
    }

    #[test]
    fn what_a_problem_says_over_several_lines_stands_below_it() {
        let document = Document::parse("a.yaml", "a: 1\n").unwrap();
        let one = document.problem("/a", "grant:\n- this\n- that");
        assert_eq!(one.to_string(), "a.yaml:1:1: /a: grant:\n    - this\n    - that");
    }

    #[test]
    fn what_json_does_not_have_is_refused() {
        for text in ["a: .nan", "a: !x 1", "? [1]\n: 2", "a: 1\n---\nb: 2", "a: &x 1\nb: *x"] {
            let parsed = Document::parse("a.yaml", text);
            // An alias that the parser itself resolves is a plain value and no harm.
            assert!(parsed.is_err() || text.contains('&'), "{text}");
        }
    }

    #[test]
    fn depth_and_expansion_are_bounded() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        assert!(Document::parse("a.yaml", &deep).is_err());
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            let prev = format!("*a{}", i - 1);
            bomb += &format!("a{i}: &a{i} [{}]\n", vec![prev; 9].join(", "));
        }
        assert!(Document::parse("a.yaml", &bomb).is_err());
    }

    #[test]
    fn an_empty_document_is_an_empty_object() {
        let document = Document::parse("a.yaml", "# nothing\n").unwrap();
        assert!(
            document.value().as_object().is_some_and(serde_json::Map::is_empty)
                || document.value().is_null()
        );
    }
}
