//! Numbers in JSON, which has no NaN and no infinities: those are the texts `"NaN"`, `"+Inf"` and
//! `"-Inf"`, as Prometheus writes them, and read back as what they were.
//!
//! `#[serde(with = "sentinel_model::number")]` for a field; [`Number`] where a type is needed.

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize, Serializer};

/// A number of which JSON may have none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(pub f64);

/// What JSON has in its place.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = match self.0 {
            value if value.is_finite() => return serializer.serialize_f64(value),
            value if value.is_nan() => "NaN",
            value if value > 0.0 => "+Inf",
            _ => "-Inf",
        };
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Number(value) => Ok(Self(value)),
            Written::Text(text) => match text.as_str() {
                "NaN" => Ok(Self(f64::NAN)),
                "+Inf" => Ok(Self(f64::INFINITY)),
                "-Inf" => Ok(Self(f64::NEG_INFINITY)),
                other => Err(D::Error::custom(format_args!(
                    "{other:?} is no number; write one, \"NaN\", \"+Inf\" or \"-Inf\""
                ))),
            },
        }
    }
}

/// Writes a field.
///
/// # Errors
/// What the serializer says.
pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Number(*value).serialize(serializer)
}

/// Reads a field.
///
/// # Errors
/// Where there is neither a number nor one of the three texts.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Number::deserialize(deserializer).map(|number| number.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_has_no_number_for_is_a_text_and_reads_back() {
        for (value, text) in [
            (1.5, "1.5"),
            (-0.0, "-0.0"),
            (f64::NAN, "\"NaN\""),
            (f64::INFINITY, "\"+Inf\""),
            (f64::NEG_INFINITY, "\"-Inf\""),
        ] {
            assert_eq!(serde_json::to_string(&Number(value)).unwrap(), text);
            let back: Number = serde_json::from_str(text).unwrap();
            assert_eq!(back.0.to_bits(), value.to_bits(), "{text}");
            let back: Number = serde_json::from_value(serde_json::from_str(text).unwrap()).unwrap();
            assert_eq!(back.0.to_bits(), value.to_bits(), "{text}");
        }
        assert_eq!(serde_json::from_str::<Number>("7").unwrap().0, 7.0);
        for text in ["null", "\"1\"", "\"inf\"", "[1]"] {
            assert!(serde_json::from_str::<Number>(text).is_err(), "{text}");
        }
    }
}
