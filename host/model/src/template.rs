//! Words with `{{ ... }}` in them: labels and annotations of a rule, filled in for each alert.
//!
//! | written | becomes |
//! |---|---|
//! | `{{ labels.disk }}` | the alert's label, the empty text where it has none |
//! | `{{ value }}` | the value, in as few digits as tell it from every other number |
//! | `{{ rule }}` | the rule's name |
//! | `... \| humanize`, `humanize1024` | `1.235k`, `1.5Mi` |
//! | `... \| percent` | 0.9312 as `93.12%` |
//! | `... \| duration` | seconds as `1d 2h 3m 4s` |
//! | `... \| fixed 2` | two digits after the point |
//! | `... \| upper`, `lower`, `default "none"` | of texts; `default` stands for the empty one |
//!
//! There are no conditions and no loops. A template is at most [`MAX_TEMPLATE`] bytes long and has
//! at most [`MAX_ACTIONS`] places to fill; what it becomes is cut at [`MAX_FILLED`] bytes.

use crate::series::Labels;
use std::borrow::Cow;

/// The most bytes a template may have.
pub const MAX_TEMPLATE: usize = 4 << 10;
/// The most places to fill.
pub const MAX_ACTIONS: usize = 32;
/// The most bytes of what a template becomes.
pub const MAX_FILLED: usize = 8 << 10;
/// The most filters of one place.
const MAX_FILTERS: usize = 4;
/// The most digits after the point that `fixed` takes.
const MAX_DIGITS: usize = 17;

/// A template that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Fill(Operand, Vec<Filter>),
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    Label(String),
    Value,
    Rule,
}

#[derive(Debug, Clone, PartialEq)]
enum Filter {
    Humanize,
    Humanize1024,
    Percent,
    Duration,
    Fixed(usize),
    Upper,
    Lower,
    Default(String),
}

/// Why a text is no template. The message says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

/// What an alert fills in.
#[derive(Debug, Clone, Copy)]
pub struct Filling<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// The alert's labels.
    pub labels: &'a Labels,
    /// The value that made it hold.
    pub value: f64,
}

/// Whether there is anything to fill in.
#[must_use]
pub fn is_template(text: &str) -> bool {
    text.contains("{{")
}

/// The text with everything filled in; as it is where it is none or malformed, since what is
/// malformed was refused when the rule was applied.
#[must_use]
pub fn fill<'t>(text: &'t str, filling: Filling<'_>) -> Cow<'t, str> {
    if !is_template(text) {
        return Cow::Borrowed(text);
    }
    match Template::parse(text) {
        Ok(template) => Cow::Owned(template.fill(filling)),
        Err(_) => Cow::Borrowed(text),
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The first thing that is wrong with it, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let refuse = |message: String| Err(TemplateError(message));
        if text.len() > MAX_TEMPLATE {
            return refuse(format!("{} bytes, at most {MAX_TEMPLATE}", text.len()));
        }
        let (mut parts, mut rest, mut actions) = (Vec::new(), text, 0);
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((inner, behind)) = after.split_once("}}") else {
                return refuse("`{{` without `}}`".to_owned());
            };
            actions += 1;
            if actions > MAX_ACTIONS {
                return refuse(format!("more than {MAX_ACTIONS} places to fill in"));
            }
            parts.push(Part::Text(before.to_owned()));
            parts.push(part(inner)?);
            rest = behind;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Whether the value is filled in.
    #[must_use]
    pub fn reads_value(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Fill(Operand::Value, _)))
    }

    /// The text with everything filled in, cut at [`MAX_FILLED`] bytes.
    #[must_use]
    pub fn fill(&self, filling: Filling<'_>) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Fill(operand, filters) => {
                    filled.push_str(&filled_in(operand, filters, filling))
                }
            }
            if filled.len() > MAX_FILLED {
                filled.truncate(filled.floor_char_boundary(MAX_FILLED));
                break;
            }
        }
        filled
    }
}

fn part(inner: &str) -> Result<Part, TemplateError> {
    let mut pieces = inner.split('|').map(str::trim);
    let operand = pieces.next().unwrap_or_default();
    let operand = match operand.strip_prefix("labels.") {
        Some(key) if is_label(key) => Operand::Label(key.to_owned()),
        Some(key) => return Err(TemplateError(format!("{key:?} is no label"))),
        None if operand == "value" => Operand::Value,
        None if operand == "rule" => Operand::Rule,
        None => {
            let said = format!("{operand:?} is not known here; write labels.NAME, value or rule");
            return Err(TemplateError(said));
        }
    };
    let filters = pieces.map(filter).collect::<Result<Vec<_>, _>>()?;
    if filters.len() > MAX_FILTERS {
        return Err(TemplateError(format!("{} filters, at most {MAX_FILTERS}", filters.len())));
    }
    Ok(Part::Fill(operand, filters))
}

fn is_label(key: &str) -> bool {
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !key.is_empty() && !key.starts_with(|c: char| c.is_ascii_digit()) && key.chars().all(sound)
}

fn filter(text: &str) -> Result<Filter, TemplateError> {
    let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
    let argument = argument.trim();
    let filter = match (word, argument) {
        ("humanize", "") => Filter::Humanize,
        ("humanize1024", "") => Filter::Humanize1024,
        ("percent", "") => Filter::Percent,
        ("duration", "") => Filter::Duration,
        ("upper", "") => Filter::Upper,
        ("lower", "") => Filter::Lower,
        ("fixed", digits) => match digits.parse() {
            Ok(digits) if digits <= MAX_DIGITS => Filter::Fixed(digits),
            _ => return Err(TemplateError(format!("write `fixed` with 0 to {MAX_DIGITS} digits"))),
        },
        ("default", text) => {
            let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            let Some(inner) = inner.filter(|inner| !inner.contains('"')) else {
                return Err(TemplateError("write `default \"a text\"`".to_owned()));
            };
            Filter::Default(inner.to_owned())
        }
        _ => {
            let said = format!(
                "{text:?} is no filter; write humanize, humanize1024, percent, duration, fixed 2, \
                 upper, lower or default \"a text\""
            );
            return Err(TemplateError(said));
        }
    };
    Ok(filter)
}

fn filled_in(operand: &Operand, filters: &[Filter], filling: Filling<'_>) -> String {
    let (mut text, mut number) = match operand {
        Operand::Label(key) => (filling.labels.get(key).unwrap_or_default().to_owned(), None),
        Operand::Value => (filling.value.to_string(), Some(filling.value)),
        Operand::Rule => (filling.rule.to_owned(), None),
    };
    for filter in filters {
        // A label may hold a number, such as a quantile; a text that is none stays.
        let of_number = |shown: fn(f64) -> String| {
            number.or_else(|| text.parse().ok()).map_or_else(|| text.clone(), shown)
        };
        text = match filter {
            Filter::Humanize => of_number(humanize),
            Filter::Humanize1024 => of_number(humanize1024),
            Filter::Percent => of_number(|value| format!("{}%", general(value * 100.0))),
            Filter::Duration => of_number(duration),
            Filter::Fixed(digits) => match number.or_else(|| text.parse().ok()) {
                Some(value) => format!("{value:.digits$}"),
                None => text,
            },
            Filter::Upper => text.to_uppercase(),
            Filter::Lower => text.to_lowercase(),
            Filter::Default(instead) if text.is_empty() => instead.clone(),
            Filter::Default(_) => text,
        };
        number = None;
    }
    text
}

/// Four digits, as C's `%.4g`.
fn general(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return value.to_string();
    }
    let scientific = format!("{value:.3e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trimmed = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if (-4..4).contains(&exponent) {
        let decimals = usize::try_from(3 - exponent).unwrap_or(0);
        return trimmed(&format!("{value:.decimals$}"));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trimmed(digits), exponent.abs())
}

fn scaled(mut value: f64, by: f64, units: [&str; 8]) -> String {
    let mut unit = "";
    for next in units {
        if value.abs() < by {
            break;
        }
        (value, unit) = (value / by, next);
    }
    format!("{}{unit}", general(value))
}

fn small(mut value: f64) -> (f64, &'static str) {
    let mut unit = "";
    for next in ["m", "u", "n", "p", "f", "a", "z", "y"] {
        if value.abs() >= 1.0 {
            break;
        }
        (value, unit) = (value * 1000.0, next);
    }
    (value, unit)
}

fn humanize(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return general(value);
    }
    if value.abs() >= 1.0 {
        return scaled(value, 1000.0, ["k", "M", "G", "T", "P", "E", "Z", "Y"]);
    }
    let (value, unit) = small(value);
    format!("{}{unit}", general(value))
}

fn humanize1024(value: f64) -> String {
    if !value.is_finite() || value.abs() <= 1.0 {
        return general(value);
    }
    scaled(value, 1024.0, ["ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"])
}

/// Seconds in words.
fn duration(value: f64) -> String {
    if !value.is_finite() {
        return general(value);
    }
    if value == 0.0 {
        return "0s".to_owned();
    }
    if value.abs() < 1.0 {
        let (value, unit) = small(value);
        return format!("{}{unit}s", general(value));
    }
    if value.abs() < 60.0 {
        return format!("{}s", general(value));
    }
    let sign = if value < 0.0 { "-" } else { "" };
    // Saturates: beyond 5e11 years nobody counts seconds.
    let whole = value.abs() as u64;
    let (days, hours, minutes, seconds) =
        (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (days, hours) {
        (0, 0) => format!("{sign}{minutes}m {seconds}s"),
        (0, _) => format!("{sign}{hours}h {minutes}m {seconds}s"),
        _ => format!("{sign}{days}d {hours}h {minutes}m {seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, value: f64) -> String {
        let labels: Labels = [("disk", "/srv"), ("q", "0.5")].into_iter().collect();
        Template::parse(text).unwrap().fill(Filling { rule: "full", labels: &labels, value })
    }

    #[test]
    fn places_are_filled_as_the_table_says() {
        for (text, value, expected) in [
            ("plain", 1.0, "plain"),
            ("{{ rule }}: {{labels.disk}} is at {{ value }}", 0.5, "full: /srv is at 0.5"),
            ("{{ labels.none }}|{{ labels.none | default \"?\" }}", 0.0, "|?"),
            ("{{ labels.disk | upper }}", 0.0, "/SRV"),
            ("{{ labels.q | percent }} {{ labels.disk | percent }}", 0.0, "50% /srv"),
            ("{{ value | fixed 2 }}", 1.0 / 3.0, "0.33"),
            ("{{ value | fixed 0 | default \"x\" }}", 2.6, "3"),
            ("{{ value | percent }}", 0.931_26, "93.13%"),
            ("{{ value | humanize }}", 1_234_567.0, "1.235M"),
            ("{{ value | humanize }}", -999.0, "-999"),
            ("{{ value | humanize }}", 0.001_5, "1.5m"),
            ("{{ value | humanize }}", f64::NAN, "NaN"),
            ("{{ value | humanize }}", 1e30, "1e+06Y"),
            ("{{ value | humanize1024 }}", 1_610_612_736.0, "1.5Gi"),
            ("{{ value | duration }}", 93_784.0, "1d 2h 3m 4s"),
            ("{{ value | duration }}", 62.5, "1m 2s"),
            ("{{ value | duration }}", -3_600.0, "-1h 0m 0s"),
            ("{{ value | duration }}", 0.25, "250ms"),
            ("{{ value | duration }}", 1e300, "213503982334601d 7h 0m 15s"),
        ] {
            assert_eq!(filled(text, value), expected, "{text} of {value}");
        }
    }

    #[test]
    fn four_digits_are_shown_as_c_shows_them() {
        for (value, text) in [
            (0.0, "0"),
            (12_345.0, "1.234e+04"),
            (9_999.5, "1e+04"),
            (999.95, "1000"),
            (0.000_123_46, "0.0001235"),
            (0.000_012_345, "1.234e-05"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(general(value), text);
        }
    }

    #[test]
    fn what_is_no_template_is_told_what_to_write() {
        for (text, said) in [
            ("{{ value", "without"),
            ("{{ $value }}", "not known here"),
            ("{{ }}", "not known here"),
            ("{{ labels.a-b }}", "no label"),
            ("{{ value | wat }}", "no filter"),
            ("{{ value | fixed }}", "0 to 17"),
            ("{{ value | fixed 99 }}", "0 to 17"),
            ("{{ value | default x }}", "default \"a text\""),
            ("{{ value | upper | upper | upper | upper | upper }}", "5 filters"),
        ] {
            let error = Template::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(Template::parse(&"{{ value }}".repeat(33)).is_err());
        assert!(Template::parse(&"x".repeat(MAX_TEMPLATE + 1)).is_err());
    }

    #[test]
    fn what_is_filled_in_is_bounded() {
        let labels: Labels = [("a", "ä".repeat(MAX_FILLED).as_str())].into_iter().collect();
        let template = Template::parse("x{{ labels.a }}{{ labels.a }}").unwrap();
        let filled = template.fill(Filling { rule: "r", labels: &labels, value: 0.0 });
        assert!(filled.len() <= MAX_FILLED && filled.starts_with("xä"));
    }
}
