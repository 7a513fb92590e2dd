//! Durations as people write them: `90s`, `5m`, `1h30m`, `7d`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// A span of time in whole milliseconds, at most 100 years.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Millis(pub u64);

const MAX: u64 = 100 * 365 * 86_400_000;

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a duration: write numbers with units, largest first, such as 90s, 5m, 1h30m or 7d"
)]
pub struct DurationError(String);

impl Millis {
    /// For the standard library.
    #[must_use]
    pub fn std(self) -> std::time::Duration {
        std::time::Duration::from_millis(self.0)
    }
}

impl FromStr for Millis {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        let error = || DurationError(text.chars().take(80).collect());
        let (mut rest, mut total, mut last) = (text, 0u64, u64::MAX);
        if rest == "0" {
            return Ok(Self(0));
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(error)?;
            let number: u64 = rest[..digits].parse().map_err(|_| error())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let unit = UNITS.iter().find(|u| u.0 == &rest[..letters]).ok_or_else(error)?.1;
            if unit >= last {
                return Err(error());
            }
            last = unit;
            total =
                number.checked_mul(unit).and_then(|n| n.checked_add(total)).ok_or_else(error)?;
            rest = &rest[letters..];
        }
        if text.is_empty() || total > MAX { Err(error()) } else { Ok(Self(total)) }
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        for (name, unit) in &UNITS[1..] {
            if rest >= *unit {
                write!(f, "{}{name}", rest / unit)?;
                rest %= unit;
            }
        }
        Ok(())
    }
}

impl TryFrom<String> for Millis {
    type Error = DurationError;
    fn try_from(text: String) -> Result<Self, DurationError> {
        text.parse()
    }
}

impl From<Millis> for String {
    fn from(value: Millis) -> String {
        value.to_string()
    }
}

impl schemars::JsonSchema for Millis {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "title": "duration",
            "description": "A duration: numbers with units, the largest first.",
            "examples": ["5s", "10m", "1h30m", "7d"],
            "pattern": "^(0|([0-9]+(w|d|h|ms|m|s))+)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, ms) in
            [("90s", 90_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("5ms", 5), ("0", 0)]
        {
            assert_eq!(text.parse(), Ok(Millis(ms)), "{text}");
        }
        for text in ["", "5", "m", "5x", "-5s", "1m1h", "5m5m", "1.5h", "99999999999999w"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_survives_its_text() {
        for ms in [0, 1, 999, 1000, 90_061_001, 604_800_000] {
            assert_eq!(Millis(ms).to_string().parse(), Ok(Millis(ms)));
        }
    }
}
