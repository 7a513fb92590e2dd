//! Text that came from outside: made safe to print, and newtypes that travel as strings.

/// Longest excerpt of foreign text that a message repeats, in characters.
pub(crate) const MAX_EXCERPT: usize = 120;
/// Longest message of a parser that a message of ours repeats, in characters.
const MAX_MESSAGE: usize = 400;

/// Escapes control characters and cuts to [`MAX_EXCERPT`], so that text out of a file that
/// nobody vouches for can neither move a terminal's cursor nor flood a log.
pub(crate) fn excerpt(text: &str) -> String {
    cut(text, MAX_EXCERPT)
}

/// A whole message of a parser, which may repeat foreign text: made safe in the same way.
pub(crate) fn message(text: &impl std::fmt::Display) -> String {
    cut(&text.to_string(), MAX_MESSAGE)
}

fn cut(text: &str, max: usize) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at == max {
            out.push('…');
            break;
        }
        if is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether a character must not reach a terminal: controls, and the marks that turn the
/// direction of writing (they make one text look like another).
pub(crate) fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061C}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{2069}' | '\u{FEFF}')
}

/// Serde and JSON Schema for a type that is a string with a checked form: `Display` writes
/// it, `FromStr` reads it.
macro_rules! travels_as_string {
    ($type:ty, $schema_name:literal, $pattern:expr, $description:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $schema_name.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "description": $description,
                })
            }
        }
    };
}
pub(crate) use travels_as_string;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_holds_no_control_character_and_is_short() {
        assert_eq!(excerpt("a\u{1b}[2Jb\u{202e}c"), "a\\u{1b}[2Jb\\u{202e}c");
        assert_eq!(excerpt(&"x".repeat(500)).chars().count(), MAX_EXCERPT + 1);
        assert_eq!(excerpt("nginx-frontend ö"), "nginx-frontend ö");
    }
}
