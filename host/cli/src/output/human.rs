//! Numbers as people read them.

/// Bytes in the largest binary unit that keeps a digit before the point: `1.5 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1023.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{} {}", digits(value), UNITS[unit]) }
}

/// A count: exact below 10,000, then with k, M, G.
pub(crate) fn count(count: u64) -> String {
    const UNITS: [&str; 5] = ["", "k", "M", "G", "T"];
    if count < 10_000 {
        return count.to_string();
    }
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{}{}", digits(value), UNITS[unit])
}

/// A measured value, in at most six significant digits where that tells it.
pub(crate) fn value(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .into();
    }
    if size != 0.0 && !(1e-4..1e15).contains(&size) {
        return format!("{value:.4e}");
    }
    let before = if size >= 1.0 { size.log10().floor() as usize + 1 } else { 1 };
    let text = format!("{value:.*}", 6_usize.saturating_sub(before));
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A measured value in the unit that its metric's name tells.
pub(crate) fn measured(name: &str, number: f64) -> String {
    let is_bytes = name.ends_with("_bytes") || name.ends_with("_bytes_total");
    if is_bytes && number >= 1024.0 && number < 2_f64.powi(60) {
        return bytes(number as u64);
    }
    value(number)
}

/// Three significant digits.
fn digits(value: f64) -> String {
    let after = if value >= 99.5 {
        0
    } else if value >= 9.95 {
        1
    } else {
        2
    };
    let text = format!("{value:.after$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A span of time in its two largest units: `3h 12m`.
pub(crate) fn millis(millis: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    if millis < 1000 {
        return format!("{millis}ms");
    }
    if millis < 10_000 && !millis.is_multiple_of(1000) {
        return format!("{:.1}s", millis as f64 / 1000.0);
    }
    let at = UNITS.iter().position(|(unit, _)| millis >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[at];
    let first = format!("{}{name}", millis / unit);
    match UNITS.get(at + 1) {
        Some((next, name)) if millis % unit / next > 0 => {
            format!("{first} {}{name}", millis % unit / next)
        }
        _ => first,
    }
}

/// A span that two clocks may have made negative.
pub(crate) fn span(millis: i64) -> String {
    self::millis(u64::try_from(millis).unwrap_or(0))
}

/// How long ago something was, in whole seconds: `5s ago`.
pub(crate) fn ago(millis: i64) -> String {
    match u64::try_from(millis).unwrap_or(0) / 1000 {
        0 => "now".to_owned(),
        seconds => format!("{} ago", self::millis(seconds * 1000)),
    }
}

/// A moment, in UTC to the second.
pub(crate) fn moment(unix_millis: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_millis).map_or_else(
        |_| format!("{unix_millis} ms"),
        |moment| moment.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// A count of things: `1 rule`, `2 rules`; what ends in `s` stays.
pub(crate) fn plural(count: u64, thing: &str) -> String {
    let ending = if count == 1 || thing.ends_with('s') { "" } else { "s" };
    format!("{} {thing}{ending}", self::count(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_counts_keep_three_digits() {
        for (number, as_bytes, as_count) in [
            (0, "0 B", "0"),
            (1023, "1023 B", "1023"),
            (1024, "1 KiB", "1024"),
            (9999, "9.76 KiB", "9999"),
            (10_000, "9.77 KiB", "10k"),
            (1_048_575, "1 MiB", "1.05M"),
            (16 << 20, "16 MiB", "16.8M"),
            (123_456_789, "118 MiB", "123M"),
            (u64::MAX, "16384 PiB", "18446744T"),
        ] {
            assert_eq!((bytes(number).as_str(), count(number).as_str()), (as_bytes, as_count));
        }
    }

    #[test]
    fn values_keep_six_digits_and_no_idle_zeros() {
        for (number, text) in [
            (0.0, "0"),
            (-0.25, "-0.25"),
            (1.0, "1"),
            (0.123_456_78, "0.12346"),
            (12.345_678, "12.3457"),
            (1_234_567.0, "1234567"),
            (8_589_934_592.0, "8589934592"),
            (1e-7, "1.0000e-7"),
            (1e18, "1.0000e18"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(value(number), text);
        }
    }

    #[test]
    fn bytes_are_told_by_the_name() {
        for (name, number, text) in [
            ("a_bytes", 1_572_864.0, "1.5 MiB"),
            ("a_bytes_total", 1_572_864.0, "1.5 MiB"),
            ("a_bytes", -2048.0, "-2048"),
            ("a_bytes", f64::NAN, "NaN"),
            ("a_seconds", 1_572_864.0, "1572864"),
        ] {
            assert_eq!(measured(name, number), text, "{name} {number}");
        }
    }

    #[test]
    fn spans_have_their_two_largest_units() {
        for (span, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1500, "1.5s"),
            (10_000, "10s"),
            (61_000, "1m 1s"),
            (3_600_000, "1h"),
            (11_520_000, "3h 12m"),
            (90_061_000, "1d 1h"),
            (86_400_000 + 60_000, "1d"),
        ] {
            assert_eq!(millis(span), text);
        }
    }

    #[test]
    fn moments_and_spans_out_of_range_are_no_panic() {
        assert_eq!(moment(1_700_000_000_000), "2023-11-14 22:13:20Z");
        assert_eq!(moment(i64::MAX), format!("{} ms", i64::MAX));
        assert_eq!(
            (ago(-5), ago(999), ago(65_000)),
            ("now".into(), "now".into(), "1m 5s ago".into())
        );
        assert_eq!(span(i64::MIN), "0ms");
        assert_eq!(
            (plural(1, "rule"), plural(2, "rule"), plural(2, "series")),
            ("1 rule".into(), "2 rules".into(), "2 series".into())
        );
    }
}
