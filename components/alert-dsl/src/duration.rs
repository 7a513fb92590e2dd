//! Durations as rules write them: `90s`, `5m`, `1h30m`, `7d`.

const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Milliseconds of a text: numbers with units, largest unit first. Nothing where it is none.
pub(crate) fn parse(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut last) = (text, 0u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let unit = UNITS.iter().find(|unit| unit.0 == &rest[..letters])?.1;
        if unit >= last {
            return None;
        }
        last = unit;
        total = number.checked_mul(unit)?.checked_add(total)?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(total)
}

/// The text of a duration in milliseconds, without weeks.
pub(crate) fn words(ms: u64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let (mut text, mut rest) = (String::new(), ms);
    for (name, unit) in &UNITS[1..] {
        if rest >= *unit {
            text.push_str(&format!("{}{name}", rest / unit));
            rest %= unit;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_host_reads_them() {
        for (text, ms) in
            [("90s", 90_000), ("1h30m", 5_400_000), ("7d", 604_800_000), ("5ms", 5), ("0s", 0)]
        {
            assert_eq!(parse(text), Some(ms), "{text}");
        }
        for text in ["", "5", "m", "5x", "-5s", "1m1h", "5m5m", "1.5h", "99999999999999w", "5 m"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_survives_its_text() {
        for ms in [0, 1, 999, 1_000, 90_061_001, 604_800_000] {
            assert_eq!(parse(&words(ms)), Some(ms));
        }
    }
}
