//! Words with `{{ ... }}` in them.

use crate::Obstacle;

/// Filters of both languages, and how the other writes them.
const FILTERS: [(&str, &str); 5] = [
    ("humanize", "humanize"),
    ("humanize1024", "humanize1024"),
    ("humanizePercentage", "percent"),
    ("humanizeDuration", "duration"),
    ("toUpper", "upper"),
];

/// A template of Prometheus as one of Sentinel: `{{ $labels.x }}`, `{{ $value }}` with the filters
/// that both have, and `{{ printf "%.2f" $value }}`.
///
/// # Errors
/// Everything that has no counterpart, with its place.
pub fn template(text: &str) -> Result<String, Vec<Obstacle>> {
    let (mut made, mut obstacles) = (String::new(), Vec::new());
    let mut at = 0;
    while let Some(start) = text[at..].find("{{").map(|found| at + found) {
        made.push_str(&text[at..start]);
        let Some(end) = text[start..].find("}}").map(|found| start + found) else {
            obstacles.push(Obstacle { at: start, message: "`{{` without `}}`".to_owned() });
            return Err(obstacles);
        };
        let inner = &text[start + 2..end];
        match action(inner) {
            Some(action) => made.push_str(&format!("{{{{ {action} }}}}")),
            None => obstacles.push(Obstacle {
                at: start,
                message: format!(
                    "{{{{{inner}}}}} has no counterpart; write labels, value and filters"
                ),
            }),
        }
        at = end + 2;
    }
    made.push_str(&text[at..]);
    if obstacles.is_empty() { Ok(made) } else { Err(obstacles) }
}

fn action(text: &str) -> Option<String> {
    let text = text.trim().trim_start_matches('-').trim_end_matches('-').trim();
    if let Some(rest) = text.strip_prefix("printf ") {
        let (format, of) = rest.trim().split_once(' ')?;
        return Some(format!("{} | fixed {}", operand(of)?, digits(format)?));
    }
    let mut parts = text.split('|').map(str::trim);
    let mut made = match parts.next()?.split_whitespace().collect::<Vec<_>>().as_slice() {
        [one] => operand(one)?,
        [name, one] => format!("{} | {}", operand(one)?, filter(name)?),
        _ => return None,
    };
    for part in parts {
        let filter = match part.strip_prefix("printf ") {
            Some(format) => format!("fixed {}", digits(format.trim())?),
            None => filter(part)?.to_owned(),
        };
        made = format!("{made} | {filter}");
    }
    Some(made)
}

fn filter(name: &str) -> Option<&'static str> {
    FILTERS.iter().find(|(known, _)| *known == name).map(|(_, ours)| *ours)
}

fn operand(text: &str) -> Option<String> {
    let text = text.trim();
    if text == "$value" || text == ".Value" {
        return Some("value".to_owned());
    }
    let label = text.strip_prefix("$labels.").or_else(|| text.strip_prefix(".Labels."))?;
    let sound = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!label.is_empty() && label.chars().all(sound)).then(|| format!("labels.{label}"))
}

/// The digits of `"%.2f"`.
fn digits(format: &str) -> Option<u32> {
    let inner = format.strip_prefix("\"%.")?.strip_suffix("f\"")?;
    inner.parse().ok().filter(|digits| *digits <= 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_languages_have_is_carried_over() {
        for (theirs, ours) in [
            ("plain", "plain"),
            ("{{ $labels.job }} is at {{$value}}", "{{ labels.job }} is at {{ value }}"),
            ("{{ $value | humanizePercentage }}", "{{ value | percent }}"),
            ("{{ humanize $value }}", "{{ value | humanize }}"),
            ("{{ printf \"%.2f\" $value }}", "{{ value | fixed 2 }}"),
            ("{{ $value | printf \"%.0f\" }}", "{{ value | fixed 0 }}"),
        ] {
            assert_eq!(template(theirs).as_deref(), Ok(ours));
        }
    }

    #[test]
    fn what_has_no_counterpart_is_told_with_its_place() {
        let found = template("a {{ query \"up\" }} b {{ range $labels }}").unwrap_err();
        assert_eq!(found.iter().map(|one| one.at).collect::<Vec<_>>(), [2, 21]);
        assert!(template("{{ $value").is_err());
    }
}
