//! What people decided: silences and acknowledgements, as routing looks at them.

use crate::matching::Matchers;
use sentinel_model::alert::{Alert, Fingerprint};
use sentinel_model::attention::{Acknowledgement, Silence};
use std::collections::HashMap;

/// Silences and acknowledgements.
#[derive(Debug, Clone, Default)]
pub struct People {
    silences: Vec<(Silence, Matchers)>,
    acknowledgements: HashMap<Fingerprint, Acknowledgement>,
}

impl People {
    /// Takes what is stored. A silence whose conditions cannot be read silences nothing.
    #[must_use]
    pub fn new(silences: Vec<Silence>, acknowledgements: Vec<Acknowledgement>) -> Self {
        let readable = |one: Silence| {
            let matchers = Matchers::parse(&one.matchers).ok().filter(|m| !m.is_empty())?;
            Some((one, matchers))
        };
        Self {
            silences: silences.into_iter().filter_map(readable).collect(),
            acknowledgements: acknowledgements.into_iter().map(|a| (a.fingerprint, a)).collect(),
        }
    }

    /// The silences that are in force at `now` (unix milliseconds) and mean an alert.
    pub fn silences_of<'a>(
        &'a self,
        alert: &'a Alert,
        now: i64,
    ) -> impl Iterator<Item = &'a Silence> {
        let means = move |(silence, matchers): &&(Silence, Matchers)| {
            silence.is_active(now) && matchers.matches(alert)
        };
        self.silences.iter().filter(means).map(|(silence, _)| silence)
    }

    /// The acknowledgement of an alert's incident, if it counts at `now`.
    #[must_use]
    pub fn acknowledgement_of(&self, alert: &Alert, now: i64) -> Option<&Acknowledgement> {
        let found = self.acknowledgements.get(&alert.fingerprint)?;
        let counts = found.incident == alert.incident && found.until.is_none_or(|end| now < end);
        counts.then_some(found)
    }

    /// Whether an alert is silenced or acknowledged.
    pub(super) fn mute(&self, alert: &Alert, now: i64) -> bool {
        self.acknowledgement_of(alert, now).is_some()
            || self.silences_of(alert, now).next().is_some()
    }

    /// When the next silence ends, or acknowledgement lapses, after `now`.
    pub(super) fn next_end(&self, now: i64) -> Option<i64> {
        let silences = self.silences.iter().map(|(silence, _)| silence.ends_at);
        let lapses = self.acknowledgements.values().filter_map(|one| one.until);
        silences.chain(lapses).filter(|end| *end > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::alert;

    fn silence(id: &str, matcher: &str, from: i64, to: i64) -> Silence {
        Silence {
            id: id.into(),
            matchers: vec![matcher.into()],
            starts_at: from,
            ends_at: to,
            author: "ann".into(),
            reason: "r".into(),
            created_at: 0,
            ended_by: None,
        }
    }

    #[test]
    fn a_silence_counts_from_its_start_to_its_end() {
        let silences = vec![
            silence("a", "agent=a", 10, 20),
            silence("b", "agent=~a|b", 15, 30),
            silence("broken", "agent", 0, 99),
        ];
        let people = People::new(silences, Vec::new());
        let one = alert("r", &[("agent", "a")]);
        for (now, expected) in
            [(9, &[][..]), (10, &["a"]), (15, &["a", "b"]), (20, &["b"]), (30, &[])]
        {
            let found: Vec<&str> = people.silences_of(&one, now).map(|s| s.id.as_str()).collect();
            assert_eq!(found, expected, "at {now}");
            assert_eq!(people.mute(&one, now), !expected.is_empty());
        }
        assert_eq!(people.next_end(10), Some(20));
        assert_eq!(people.next_end(20), Some(30));
        assert_eq!(people.next_end(30), None);
        assert_eq!(people.silences_of(&alert("r", &[]), 16).count(), 0);
    }

    #[test]
    fn an_acknowledgement_counts_for_its_incident_until_it_lapses() {
        let one = alert("r", &[]);
        let acknowledged = Acknowledgement {
            fingerprint: one.fingerprint,
            incident: one.incident,
            owner: "ann".into(),
            note: String::new(),
            at: 0,
            until: Some(50),
            before: Vec::new(),
        };
        let people = People::new(Vec::new(), vec![acknowledged]);
        let next = Alert { incident: 2, ..one.clone() };
        for (alert, now, expected) in [(&one, 49, true), (&one, 50, false), (&next, 49, false)] {
            assert_eq!(people.mute(alert, now), expected);
        }
        assert_eq!(people.next_end(0), Some(50));
    }
}
