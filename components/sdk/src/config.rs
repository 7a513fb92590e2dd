//! Configuration: JSON in, typed value or diagnostics out, and the JSON Schema of the type.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use crate::{Diagnostic, diagnostics::pointer_step};

/// Parses a JSON text into a typed value.
///
/// # Errors
///
/// One diagnostic with the JSON Pointer of the value that does not fit (serde stops at the
/// first), or with an empty path where the text is no JSON.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Diagnostic>> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value: T = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = pointer(error.path());
        let inner = error.into_inner();
        let message = if inner.is_data() {
            // The pointer says where; serde_json's line and column would say it again.
            let said = inner.to_string();
            let end = said.rfind(" at line ").unwrap_or(said.len());
            said[..end].to_owned()
        } else {
            format!("not JSON: {inner}")
        };
        vec![Diagnostic::error(path, message)]
    })?;
    json.end().map_err(|error| vec![Diagnostic::error("", format!("not JSON: {error}"))])?;
    Ok(value)
}

/// What a wait looks like in a config's schema: for `#[schemars(regex(pattern = ...))]`.
pub const WAIT_PATTERN: &str = r"^[0-9]+(ms|s)$";

/// A wait such as `500ms` or `5s` in milliseconds, from 1 to `most`; `None` where the text is
/// none.
pub fn wait_ms(text: &str, most: u32) -> Option<u32> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 1),
        None => (text.strip_suffix('s')?, 1_000),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let wait = number.parse::<u32>().ok()?.checked_mul(unit)?;
    (1..=most).contains(&wait).then_some(wait)
}

/// The JSON Schema (2020-12) of a type, as JSON text.
pub fn schema<T: JsonSchema>() -> String {
    schemars::schema_for!(T).as_value().to_string()
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(pointer_step(index)),
            Segment::Map { key } => Some(pointer_step(key)),
            Segment::Enum { variant } => Some(pointer_step(variant)),
            Segment::Unknown => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Config {
        rules: Vec<Rule>,
    }

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case", deny_unknown_fields)]
    enum Rule {
        Scale { by: f64 },
    }

    fn check(text: &str, path: &str, message: &str) {
        let diagnostics = parse::<Config>(text).unwrap_err();
        assert_eq!(diagnostics[0].path, path, "{diagnostics:?}");
        assert!(diagnostics[0].message.contains(message), "{diagnostics:?} lacks {message:?}");
    }

    #[test]
    fn what_is_written_is_read() {
        let config: Config = parse(r#"{"rules": [{"scale": {"by": 2.5}}]}"#).unwrap();
        let factors: Vec<f64> = config.rules.iter().map(|Rule::Scale { by }| *by).collect();
        assert_eq!(factors, [2.5]);
    }

    #[test]
    fn a_wait_is_a_whole_number_with_its_unit_within_bounds() {
        for (text, wait) in [
            ("1ms", Some(1)),
            ("5s", Some(5_000)),
            ("0030s", Some(30_000)),
            ("30001ms", None),
            ("31s", None),
            ("0s", None),
            ("", None),
            ("s", None),
            ("5", None),
            ("+5s", None),
            ("1.5s", None),
            ("5 s", None),
            ("99999999999s", None),
            ("4294968s", None),
        ] {
            assert_eq!(wait_ms(text, 30_000), wait, "{text}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_by_its_pointer() {
        check(
            r#"{"rules": [{"scale": {"by": 1}}, {"scale": {"by": "x"}}]}"#,
            "/rules/1/scale/by",
            "invalid type: string \"x\", expected f64",
        );
    }

    #[test]
    fn an_unknown_field_is_named() {
        check(r#"{"rules": [], "ruels": 1}"#, "/ruels", "unknown field `ruels`");
    }

    #[test]
    fn a_text_that_is_no_json_is_said_with_its_line() {
        check("{\n  \"rules\" = 1}", "", "not JSON: expected `:` at line 2");
        check("{\"rules\": []} x", "", "trailing characters");
    }

    #[test]
    fn the_schema_carries_types_and_refuses_unknown_fields() {
        let schema: serde_json::Value = serde_json::from_str(&schema::<Config>()).unwrap();
        assert_eq!(schema["properties"]["rules"]["type"], "array");
        assert_eq!(schema["additionalProperties"], false);
    }
}
