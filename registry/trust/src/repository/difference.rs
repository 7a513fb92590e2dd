//! What an upgrade asks for beyond what the version before it asked for.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::capability::Capability;
use crate::requests::{Asked, Requests};

/// One thing that a plugin asks for, as people read it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct CapabilityLine {
    /// Which capability.
    pub capability: Capability,
    /// Which part of it: an origin, a method, a path, an amount. Empty where the capability
    /// has no parts.
    pub what: String,
}

/// What two versions of a plugin ask for differently.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RequestsDifference {
    /// Asked for now and not before: until an operator grants it, the upgrade does not run.
    pub added: Vec<CapabilityLine>,
    /// Asked for before and not now.
    pub removed: Vec<CapabilityLine>,
}

impl RequestsDifference {
    /// What `new` asks for and `old` did not, and the other way round. For a first install,
    /// `old` is [`Requests::default`].
    #[must_use]
    pub fn between(old: &Requests, new: &Requests) -> Self {
        let (before, after) = (lines(old), lines(new));
        let mut difference = Self {
            added: after.difference(&before).cloned().collect(),
            removed: before.difference(&after).cloned().collect(),
        };
        // State is one amount: more of it is asked for, or less, never both.
        let amount = |requests: &Requests| requests.kv.as_ref().map_or(0, |kv| kv.max_bytes);
        if amount(new) <= amount(old) {
            difference.added.retain(|line| line.capability != Capability::Kv);
        } else {
            difference.removed.retain(|line| line.capability != Capability::Kv);
        }
        difference
    }

    /// Whether anything is asked for that was not asked for before.
    #[must_use]
    pub fn asks_for_more(&self) -> bool {
        !self.added.is_empty()
    }
}

fn lines(requests: &Requests) -> BTreeSet<CapabilityLine> {
    let mut lines = BTreeSet::new();
    let mut add = |capability, what: String| {
        lines.insert(CapabilityLine { capability, what });
    };
    // The names of the fields, so that one that is added is not forgotten here.
    let Requests { system, http, mail, files, mac, kv, series } = requests;
    for (asked, capability) in [
        (*system, Capability::System),
        (*mail, Capability::Mail),
        (*mac, Capability::Mac),
        (*series, Capability::Series),
    ] {
        if asked {
            add(capability, String::new());
        }
    }
    if let Some(http) = http {
        http.methods.iter().for_each(|method| add(Capability::Http, method.to_string()));
        for what in listed(&http.origins) {
            add(Capability::Http, what);
        }
    }
    if let Some(files) = files {
        for what in listed(&files.paths) {
            add(Capability::Files, what);
        }
    }
    if let Some(kv) = kv {
        add(Capability::Kv, format!("{} bytes", kv.max_bytes));
    }
    lines
}

fn listed<T: ToString>(asked: &Asked<T>) -> Vec<String> {
    match asked {
        Asked::FromConfig => vec!["whatever the config names".to_owned()],
        Asked::Listed(list) => list.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn requests(json: serde_json::Value) -> Requests {
        serde_json::from_value(json).unwrap()
    }

    fn told(lines: &[CapabilityLine]) -> Vec<String> {
        lines.iter().map(|l| format!("{} {}", l.capability, l.what).trim_end().to_owned()).collect()
    }

    #[test]
    fn an_upgrade_that_asks_for_more_shows_what() {
        let old = json!({"http": {"origins": ["https://a.example.com"], "methods": ["GET"]}, "kv": {"max_bytes": 10}});
        let new = json!({"system": true, "http": {"origins": ["https://b.example.com"], "methods": ["GET", "POST"]}, "kv": {"max_bytes": 20}});
        let difference = RequestsDifference::between(&requests(old), &requests(new));
        assert!(difference.asks_for_more());
        insta::assert_debug_snapshot!((told(&difference.added), told(&difference.removed)));
    }

    #[test]
    fn less_of_everything_is_not_more() {
        let old = json!({"mac": true, "kv": {"max_bytes": 20}, "files": {"paths": ["/proc/*"]}});
        let new = json!({"kv": {"max_bytes": 10}});
        let difference = RequestsDifference::between(&requests(old.clone()), &requests(new));
        assert!(!difference.asks_for_more(), "{difference:?}");
        assert_eq!(difference.removed.len(), 3);
        let same = RequestsDifference::between(&requests(old.clone()), &requests(old));
        assert_eq!(same, RequestsDifference::default());
    }
}
