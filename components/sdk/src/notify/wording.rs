//! Words of a notification that all notifiers use.

use super::cut;
use crate::{Alert, Label, Notification, Status};

/// Longest title, in UTF-16 units.
const MAX_TITLE: usize = 200;
/// Most pairs of a group that a title shows.
const TITLE_PAIRS: usize = 4;
/// Longest link that is told; half a link leads nowhere.
const MAX_LINK: usize = 1_000;

/// How bad an alert is: its label `severity`, in four steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// `info`, `notice`, `debug`, `low`, `none`, `p5`.
    Info,
    /// `warning`, `warn`, `medium`, `minor`, `p3`, `p4`, and whatever is not known.
    Warning,
    /// `error`, `high`, `major`, `p2`.
    Error,
    /// `critical`, `crit`, `page`, `emergency`, `fatal`, `alert`, `p1`.
    Critical,
}

impl Severity {
    /// Of one alert; `Warning` where its label says nothing that is known.
    pub fn of(alert: &Alert) -> Self {
        match label(&alert.labels, "severity").unwrap_or_default().to_ascii_lowercase().as_str() {
            "critical" | "crit" | "page" | "emergency" | "fatal" | "alert" | "p1" => Self::Critical,
            "error" | "high" | "major" | "p2" => Self::Error,
            "info" | "notice" | "debug" | "low" | "none" | "p5" => Self::Info,
            _ => Self::Warning,
        }
    }

    /// The worst of what fires; of all where nothing fires.
    pub fn worst(notification: &Notification) -> Self {
        let firing = notification.alerts.iter().filter(|one| one.status == Status::Firing);
        let worst = firing.map(Self::of).max();
        worst.or_else(|| notification.alerts.iter().map(Self::of).max()).unwrap_or(Self::Warning)
    }

    /// `critical`, `error`, `warning` or `info`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// The value of a label, unless it is empty.
pub fn label<'l>(labels: &'l [Label], key: &str) -> Option<&'l str> {
    let found = labels.iter().find(|(name, value)| name == key && !value.is_empty());
    found.map(|(_, value)| value.as_str())
}

/// The text of an annotation, unless it is blank.
pub fn annotation<'a>(alert: &'a Alert, key: &str) -> Option<&'a str> {
    label(&alert.annotations, key).map(str::trim).filter(|text| !text.is_empty())
}

/// The sentence that tells an alert: its `summary`, else its `description`, else its rule.
pub fn headline(alert: &Alert) -> &str {
    annotation(alert, "summary")
        .or_else(|| annotation(alert, "description"))
        .unwrap_or(if alert.rule.is_empty() { "alert" } else { &alert.rule })
}

/// What an alert says beyond its headline.
pub fn details(alert: &Alert) -> Option<&str> {
    annotation(alert, "description").filter(|text| *text != headline(alert))
}

/// Where to read what to do: the annotation `runbook_url` or `runbook`, where it is a link.
pub fn runbook(alert: &Alert) -> Option<&str> {
    ["runbook_url", "runbook"]
        .into_iter()
        .filter_map(|key| annotation(alert, key))
        .find(|link| is_link(link))
}

/// Whether a text is a link that services take: http or https, not too long, without blanks,
/// quotes and angle brackets.
pub fn is_link(text: &str) -> bool {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "\"'<>|\\`()[]{}^".contains(c);
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    text.len() <= MAX_LINK
        && !text.contains(odd)
        && text.is_ascii()
        && host.is_some_and(|host| host.starts_with(|c: char| c.is_ascii_alphanumeric()))
}

/// Where a person can look, if the notification says so.
pub fn link_of(notification: &Notification) -> Option<&str> {
    Some(notification.link.as_str()).filter(|link| is_link(link))
}

/// How many alerts of a notification fire, and how many are over.
pub fn counts(notification: &Notification) -> (usize, usize) {
    let firing = notification.alerts.iter().filter(|one| one.status == Status::Firing).count();
    (firing, notification.alerts.len() - firing)
}

/// One line that tells the whole: `[FIRING:2] disk-full agent=web-1`, without line breaks and
/// other control characters, at most 200 UTF-16 units.
pub fn title(notification: &Notification) -> String {
    let (firing, resolved) = counts(notification);
    let state = match notification.status {
        Status::Firing => format!("[FIRING:{firing}]"),
        Status::Resolved => format!("[RESOLVED:{resolved}]"),
    };
    let mut rules: Vec<&str> = notification.alerts.iter().map(|one| one.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let what = match rules.as_slice() {
        [] => String::new(),
        [one] => format!(" {one}"),
        [first, _] => format!(" {first} and another rule"),
        [first, rest @ ..] => format!(" {first} and {} other rules", rest.len()),
    };
    let pairs = notification.group.iter().filter(|(_, value)| !rules.contains(&value.as_str()));
    let pairs: String =
        pairs.take(TITLE_PAIRS).map(|(key, value)| format!(" {key}={value}")).collect();
    cut(&one_line(&format!("{state}{what}{pairs}")), MAX_TITLE)
}

/// A text without control characters; line breaks become spaces.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A number as people write it: `0.93`, `NaN`, `+Inf`.
pub fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) => format!("{value:e}"),
        value => {
            let rounded = format!("{value:.6}");
            rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
    }
}

/// That there are alerts beyond those told: `and 12 more alerts`.
pub fn more(left: usize) -> String {
    let plural = if left == 1 { "" } else { "s" };
    format!("and {left} more alert{plural}")
}

/// 32 hexadecimal digits that stand for a group: the same for the same labels, in whatever order
/// they come. FNV-1a of 128 bits: labels may be longer than what a group's name has room for.
pub fn group_digest(group: &[Label]) -> String {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013B;
    let mut sorted: Vec<&Label> = group.iter().collect();
    sorted.sort_unstable();
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
        }
    };
    for (name, value) in sorted {
        // Lengths first, so that no two groups read as the same bytes.
        for text in [name, value] {
            feed(&(text.len() as u64).to_le_bytes());
            feed(text.as_bytes());
        }
    }
    format!("{hash:032x}")
}

/// What is added where an earlier attempt may have arrived.
pub fn repeat_words(notification: &Notification) -> Option<&'static str> {
    notification.may_be_repeat.then_some("Possible repeat: an earlier attempt may have arrived.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(key: &str, value: &str) -> Label {
        (key.to_owned(), value.to_owned())
    }

    fn alert(rule: &str, annotations: &[(&str, &str)]) -> Alert {
        Alert {
            fingerprint: "1".to_owned(),
            rule: rule.to_owned(),
            status: Status::Firing,
            labels: Vec::new(),
            annotations: annotations.iter().map(|(key, value)| pair(key, value)).collect(),
            value: 0.0,
            starts_at: 0,
            ends_at: None,
        }
    }

    fn notification(alerts: Vec<Alert>) -> Notification {
        Notification {
            id: "ntf_1".to_owned(),
            time: 0,
            status: Status::Firing,
            group: vec![pair("agent", "web-1"), pair("rule", "disk")],
            alerts,
            attempt: 1,
            may_be_repeat: false,
            link: String::new(),
        }
    }

    #[test]
    fn titles_say_state_count_rule_and_group_in_one_line() {
        let mut told = notification(vec![alert("disk", &[]), alert("disk", &[])]);
        assert_eq!(title(&told), "[FIRING:2] disk agent=web-1");
        told.alerts.push(alert("load\n", &[]));
        told.alerts[2].status = Status::Resolved;
        assert_eq!(title(&told), "[FIRING:2] disk and another rule agent=web-1");
        told.status = Status::Resolved;
        told.alerts.drain(..2);
        assert_eq!(title(&told), "[RESOLVED:1] load  agent=web-1 rule=disk");
        told.alerts[0].rule = "r".repeat(500);
        assert_eq!(crate::notify::length(&title(&told)), MAX_TITLE);
    }

    #[test]
    fn an_alert_is_told_by_the_best_words_it_has() {
        let both = [("summary", " full "), ("description", "93 %"), ("runbook", "see wiki")];
        for (annotations, head, detail) in [
            (&both[..], "full", Some("93 %")),
            (&both[1..2], "93 %", None),
            (&[], "disk", None),
            (&[("summary", " ")], "disk", None),
        ] {
            let one = alert("disk", annotations);
            assert_eq!((headline(&one), details(&one)), (head, detail));
            assert_eq!(runbook(&one), None);
        }
        let runbooks = [("runbook", "x"), ("runbook_url", "https://wiki.example/disk?a=b#c")];
        assert_eq!(runbook(&alert("disk", &runbooks)), Some("https://wiki.example/disk?a=b#c"));
        assert_eq!(headline(&alert("", &[])), "alert");
    }

    #[test]
    fn only_plain_links_are_links() {
        let long = format!("https://h/{}", "x".repeat(MAX_LINK));
        for (text, expect) in [
            ("http://127.0.0.1:8080/alerts", true),
            ("https://h", true),
            ("javascript:alert(1)", false),
            ("https://", false),
            ("https:///x", false),
            ("https://h/<b>", false),
            ("https://h/a b", false),
            ("https://h/|x", false),
            (long.as_str(), false),
        ] {
            assert_eq!(is_link(text), expect, "{text}");
        }
    }

    #[test]
    fn severities_are_four_and_the_worst_that_fires_counts() {
        let with = |text: &str| Alert { labels: vec![pair("severity", text)], ..alert("r", &[]) };
        for (text, expect) in
            [("Critical", "critical"), ("page", "critical"), ("P2", "error"), ("info", "info")]
        {
            assert_eq!(Severity::of(&with(text)).word(), expect);
        }
        assert_eq!(Severity::of(&with("?")).word(), "warning");
        let mut over = with("critical");
        over.status = Status::Resolved;
        assert_eq!(
            Severity::worst(&notification(vec![over.clone(), with("info")])),
            Severity::Info
        );
        assert_eq!(Severity::worst(&notification(vec![over])), Severity::Critical);
    }

    #[test]
    fn numbers_are_short() {
        for (value, text) in [
            (0.93, "0.93"),
            (0.1 + 0.2, "0.3"),
            (-12.0, "-12"),
            (1e21, "1e21"),
            (0.000_012_5, "1.25e-5"),
            (0.0, "0"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(number(value), text);
        }
        assert_eq!((more(1), more(2)), ("and 1 more alert".into(), "and 2 more alerts".into()));
    }

    proptest! {
        #[test]
        fn every_number_is_written_short_and_close(value in any::<f64>()) {
            let text = number(value);
            prop_assert!(text.len() <= 26, "{}", text);
            if value.is_finite() {
                let read: f64 = text.parse().unwrap();
                prop_assert!((read - value).abs() <= value.abs() * 0.01 + 1e-9, "{} {}", text, value);
            }
        }
    }
}
