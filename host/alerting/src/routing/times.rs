//! Times of the week at which nobody is told: weekdays and hours in a time zone.
//!
//! A span whose end is not after its start goes over midnight and belongs to the day on which it
//! begins: `fri` with `22:00-06:00` ends on Saturday morning. Where a clock is set back an hour
//! happens twice, and both are meant.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MINUTES: u32 = 24 * 60;

/// Some hours of some days; the whole week where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SpanConfig {
    /// `mon`, or `mon-fri`; every day where there is none.
    pub weekdays: Vec<String>,
    /// `22:00-06:00`, `00:00-24:00`; the whole day where there is none.
    pub times: Vec<String>,
    /// The time zone, such as `Europe/Berlin`; `UTC` where it is absent.
    pub zone: Option<String>,
}

/// A checked [`SpanConfig`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    /// From Monday.
    weekdays: [bool; 7],
    /// Minutes of the day: start, and end, which is not included.
    times: Vec<(u32, u32)>,
    zone: TimeZone,
}

impl Span {
    /// Reads a span; where it cannot, paths below it with what is wrong.
    pub(super) fn new(config: &SpanConfig) -> Result<Self, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let mut weekdays = [config.weekdays.is_empty(); 7];
        for (i, text) in config.weekdays.iter().enumerate() {
            match days(text) {
                Some(days) => days.for_each(|day| weekdays[day % 7] = true),
                None => problems.push((
                    format!("/weekdays/{i}"),
                    format!("{text:?} is no weekday; write mon, tue, wed, thu, fri, sat, sun, or mon-fri"),
                )),
            }
        }
        let mut times = Vec::new();
        for (i, text) in config.times.iter().enumerate() {
            match text.split_once('-').and_then(|(a, b)| Some((minute(a)?, minute(b)?))) {
                Some((start, end)) if start < DAY_MINUTES && start != end => {
                    times.push((start, end));
                }
                _ => problems.push((
                    format!("/times/{i}"),
                    format!("{text:?} is no span of a day; write 09:00-17:30, or 22:00-06:00 over midnight"),
                )),
            }
        }
        if times.is_empty() {
            times.push((0, DAY_MINUTES));
        }
        let zone = match config.zone.as_deref() {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).unwrap_or_else(|error| {
                let text = format!(
                    "{name:?} is no time zone here ({error}); write one as Europe/Berlin, and see that the system's tzdata is installed"
                );
                problems.push(("/zone".to_owned(), text));
                TimeZone::UTC
            }),
        };
        if problems.is_empty() { Ok(Self { weekdays, times, zone }) } else { Err(problems) }
    }

    /// Whether a moment (unix milliseconds) lies in it.
    pub(super) fn contains(&self, now: i64) -> bool {
        let Ok(time) = Timestamp::from_millisecond(now) else { return false };
        let local = time.to_zoned(self.zone.clone());
        let today = usize::from(local.weekday().to_monday_zero_offset().unsigned_abs());
        let yesterday = (today + 6) % 7;
        let minute =
            u32::from(local.hour().unsigned_abs()) * 60 + u32::from(local.minute().unsigned_abs());
        self.times.iter().any(|&(start, end)| {
            if start < end {
                self.weekdays[today] && start <= minute && minute < end
            } else {
                self.weekdays[today] && start <= minute || self.weekdays[yesterday] && minute < end
            }
        })
    }
}

/// Days of a text from Monday; beyond 6 they are those of the next week.
fn days(text: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let day = |name: &str| DAYS.iter().position(|d| *d == name.trim().to_ascii_lowercase());
    match text.split_once('-') {
        None => day(text).map(|one| one..=one),
        Some((from, to)) => {
            let (from, to) = (day(from)?, day(to)?);
            Some(from..=if to < from { to + 7 } else { to })
        }
    }
}

/// The minute of the day of `09:30`; `24:00` is its end.
fn minute(text: &str) -> Option<u32> {
    let (hour, minute) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let is_number = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| text.parse::<u32>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let of_day = hour * 60 + minute;
    (minute < 60 && of_day <= DAY_MINUTES).then_some(of_day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(weekdays: &[&str], times: &[&str], zone: Option<&str>) -> SpanConfig {
        let texts = |all: &[&str]| all.iter().map(|t| (*t).to_owned()).collect();
        SpanConfig { weekdays: texts(weekdays), times: texts(times), zone: zone.map(str::to_owned) }
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn spans_hold_at_the_times_that_they_say() {
        let berlin = Some("Europe/Berlin");
        // 2026-11-20 is a Friday; Berlin is an hour ahead of UTC then, two in summer.
        for (config, moment, expected) in [
            (span(&[], &[], None), "2026-11-20T12:00:00Z", true),
            (span(&["fri"], &[], None), "2026-11-20T23:59:59Z", true),
            (span(&["fri"], &[], None), "2026-11-21T00:00:00Z", false),
            (span(&["fri"], &[], berlin), "2026-11-20T23:00:00Z", false),
            (span(&["mon-fri"], &["09:00-17:30"], None), "2026-11-20T17:29:59Z", true),
            (span(&["mon-fri"], &["09:00-17:30"], None), "2026-11-20T17:30:00Z", false),
            (span(&["sat-mon"], &[], None), "2026-11-22T05:00:00Z", true),
            (span(&["sat-mon"], &[], None), "2026-11-24T05:00:00Z", false),
            (span(&["fri"], &["22:00-06:00"], None), "2026-11-20T22:00:00Z", true),
            (span(&["fri"], &["22:00-06:00"], None), "2026-11-21T05:59:00Z", true),
            (span(&["fri"], &["22:00-06:00"], None), "2026-11-21T06:00:00Z", false),
            (span(&["fri"], &["22:00-06:00"], None), "2026-11-20T05:00:00Z", false),
            (span(&["fri"], &["22:00-06:00"], None), "2026-11-21T22:00:00Z", false),
            (span(&["sun"], &["22:00-06:00"], None), "2026-11-23T01:00:00Z", true),
            (span(&[], &["18:00-24:00"], None), "2026-11-20T23:59:00Z", true),
            (span(&[], &["09:00-10:00"], berlin), "2026-11-20T08:30:00Z", true),
            (span(&[], &["09:00-10:00"], berlin), "2026-07-20T08:30:00Z", false),
            (span(&[], &["09:00-10:00"], berlin), "2026-07-20T07:30:00Z", true),
            // The hour that happens twice, on 2026-10-25.
            (span(&[], &["02:00-03:00"], berlin), "2026-10-25T00:30:00Z", true),
            (span(&[], &["02:00-03:00"], berlin), "2026-10-25T01:30:00Z", true),
            (span(&[], &["02:00-03:00"], berlin), "2026-10-25T02:30:00Z", false),
        ] {
            let span = Span::new(&config).unwrap();
            assert_eq!(span.contains(at(moment)), expected, "{config:?} at {moment}");
        }
        let always = Span::new(&span(&[], &[], None)).unwrap();
        assert!(!always.contains(i64::MAX), "a time that no calendar has");
    }

    #[test]
    fn everything_that_is_wrong_with_a_span_is_said() {
        let wrong =
            span(&["mon", "someday"], &["9-17", "24:00-01:00", "10:00-10:00"], Some("Mars"));
        let problems = Span::new(&wrong).unwrap_err();
        let paths: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["/weekdays/1", "/times/0", "/times/1", "/times/2", "/zone"]);
    }
}
