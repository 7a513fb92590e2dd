//! What one set changes of another, for people and for programs. Pure.

use sentinel_trust::Grants;
use sentinel_trust::fleet::{DesiredSet, Wish};
use sentinel_trust::{FilesGrant, HttpGrant, MailGrant, MailTls, SecretPlace};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

use crate::output::human;

/// Most characters of a config's value that are shown.
const MAX_SHOWN: usize = 60;
/// Most changed values of one config that are shown.
const MAX_VALUES: usize = 40;

/// What happens to a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum What {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is there, and otherwise.
    Changed,
}

/// One slot that is otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Change {
    /// Which hosts, as a selector.
    pub(crate) on: String,
    pub(crate) slot: String,
    pub(crate) what: What,
    /// The plugin and its version, after the change where there is one.
    pub(crate) plugin: String,
    /// In words, what of it changes; of an added slot, what it is given.
    pub(crate) details: Vec<String>,
}

type Key<'a> = (String, &'a str, bool);

/// Every slot in which the two differ, by selector and name.
pub(crate) fn between(before: &DesiredSet, after: &DesiredSet) -> Vec<Change> {
    let (old, new) = (slots(before), slots(after));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let changes = keys.into_iter().filter_map(|key| {
        let (what, wish, details) = match (old.get(key), new.get(key)) {
            (None, Some(new)) => (What::Added, *new, given(new)),
            (Some(old), None) => (What::Removed, *old, Vec::new()),
            (Some(old), Some(new)) if old != new => (What::Changed, *new, changed(old, new)),
            _ => return None,
        };
        Some(Change {
            on: key.0.clone(),
            slot: key.1.to_owned(),
            what,
            plugin: format!("{}@{}", wish.plugin, wish.version),
            details,
        })
    });
    changes.collect()
}

fn slots(set: &DesiredSet) -> BTreeMap<Key<'_>, &Wish> {
    let all = set.groups.iter().flat_map(|group| {
        let on = group.selector();
        group.slots.iter().map(move |wish| {
            let agents = wish.kind == sentinel_trust::Kind::Collector;
            ((on.clone(), wish.slot.as_str(), agents), wish)
        })
    });
    all.collect()
}

/// Changes as lines: one for each slot, its details below it.
pub(crate) fn text(changes: &[Change]) -> String {
    let mut text = String::new();
    for one in changes {
        let (sign, word) = match one.what {
            What::Added => ('+', "runs"),
            What::Removed => ('-', "no longer runs"),
            What::Changed => ('~', "changes"),
        };
        let subject = if one.what == What::Changed { "" } else { &one.plugin };
        let joint = if subject.is_empty() { "" } else { " " };
        text.push_str(&format!("{sign} {} on {}: {word}{joint}{subject}\n", one.slot, one.on));
        for detail in &one.details {
            text.push_str(&format!("    {detail}\n"));
        }
    }
    text
}

/// What a new slot is given.
fn given(wish: &Wish) -> Vec<String> {
    let mut lines = vec![format!("{} of {}", wish.kind, wish.digest)];
    lines.extend(grants(&wish.grants).into_iter().map(|line| format!("may use {line}")));
    if wish.config.as_object().is_some_and(|config| !config.is_empty()) {
        lines.push(format!("config {}", shown(&wish.config)));
    }
    lines.extend(settings(wish));
    lines
}

fn changed(old: &Wish, new: &Wish) -> Vec<String> {
    let mut lines = Vec::new();
    if old.plugin != new.plugin {
        lines.push(format!("plugin {} -> {}", old.plugin, new.plugin));
    }
    if old.version != new.version {
        lines.push(format!("version {} -> {}", old.version, new.version));
    }
    if old.digest != new.digest {
        lines.push(format!("now {}", new.digest));
    }
    if old.range != new.range {
        lines.push(format!("upgrades within {} -> {}", old.range, new.range));
    }
    let (before, after) = (grants(&old.grants), grants(&new.grants));
    lines.extend(after.iter().filter(|l| !before.contains(l)).map(|l| format!("may use {l}")));
    lines.extend(before.iter().filter(|l| !after.contains(l)).map(|l| format!("may not use {l}")));
    let mut values = Vec::new();
    config("config", &old.config, &new.config, &mut values);
    let more = values.len().saturating_sub(MAX_VALUES);
    values.truncate(MAX_VALUES);
    lines.append(&mut values);
    if more > 0 {
        lines.push(format!("config: and {more} values more"));
    }
    let (before, after) = (settings(old), settings(new));
    lines.extend(after.iter().filter(|line| !before.contains(line)).cloned());
    lines
        .extend(before.iter().filter(|l| !after.contains(l)).map(|l| format!("not any more: {l}")));
    lines
}

/// How a slot is run, beside its config and grants.
fn settings(wish: &Wish) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(collect) = &wish.collect {
        if let Some(interval) = collect.interval_ms {
            lines.push(format!("every {}", human::millis(interval)));
        }
        lines.extend(collect.labels.iter().map(|(key, value)| format!("label {key}={value}")));
    }
    match wish.on_unknown {
        Some(sentinel_trust::fleet::NotifyOnUnknown::Retry) => {
            lines.push("sends again where nobody knows whether it arrived".to_owned());
        }
        Some(sentinel_trust::fleet::NotifyOnUnknown::Hold) => {
            lines.push("holds where nobody knows whether it arrived".to_owned());
        }
        None => {}
    }
    if wish.disabled {
        lines.push("disabled".to_owned());
    }
    lines
}

/// Grants, one thing a line.
pub(crate) fn grants(grants: &Grants) -> Vec<String> {
    // The names of the fields, so that one that is added is not forgotten here.
    let Grants { system, http, mail, files, mac, kv, series, limits } = grants;
    let mut lines = Vec::new();
    if *system {
        lines.push("system: readings of the machine".to_owned());
    }
    http.iter().for_each(|http| http_lines(http, &mut lines));
    mail.iter().for_each(|mail| mail_lines(mail, &mut lines));
    files.iter().for_each(|files| files_lines(files, &mut lines));
    for key in mac.iter().flat_map(|mac| &mac.keys) {
        lines.push(format!("mac: the key {key}"));
    }
    lines.extend(kv.iter().map(|kv| format!("kv: {} of state", human::bytes(kv.max_bytes))));
    if *series {
        lines.push("series: asking for stored series".to_owned());
    }
    let named = [
        ("memory", limits.memory_bytes.map(human::bytes)),
        ("a call", limits.call_ms.map(human::millis)),
        ("an answer", limits.returned_bytes.map(human::bytes)),
    ];
    for (name, value) in named {
        lines.extend(value.map(|value| format!("limits: {value} for {name}")));
    }
    lines
}

fn http_lines(http: &HttpGrant, lines: &mut Vec<String>) {
    let methods: Vec<_> = http.methods.iter().map(ToString::to_string).collect();
    let usual = HttpGrant::reading([]);
    let mut caps = String::new();
    if http.response_bytes != usual.response_bytes {
        caps.push_str(&format!(", answers up to {}", human::bytes(http.response_bytes)));
    }
    if http.timeout_ms != usual.timeout_ms {
        caps.push_str(&format!(", up to {}", human::millis(http.timeout_ms)));
    }
    for origin in &http.origins {
        lines.push(format!("http: {} to {origin}{caps}", methods.join(", ")));
    }
    for secret in &http.secrets {
        let place = match &secret.place {
            SecretPlace::Header(name) => format!("the header {name}"),
            SecretPlace::Url => "the URL".to_owned(),
            SecretPlace::Json(name) => format!("the member {name} of the body"),
        };
        lines.push(format!("http: the secret {} in {place} to {}", secret.name, secret.origin));
    }
}

fn mail_lines(mail: &MailGrant, lines: &mut Vec<String>) {
    let tls = match mail.protection() {
        MailTls::None => "without TLS",
        MailTls::Starttls => "with STARTTLS",
        MailTls::Tls => "with TLS",
    };
    let trust = mail.ca_file.iter().map(|file| format!(", trusting {file}")).collect::<String>();
    lines.push(format!("mail: through {} {tls}{trust}", mail.relay));
    if let (Some(user), Some(password)) = (&mail.user, &mail.password) {
        lines.push(format!("mail: as {user} with the secret {password}"));
    }
    lines.extend(mail.senders.iter().map(|sender| format!("mail: from {sender}")));
    lines.extend(mail.recipients.iter().map(|recipient| format!("mail: to {recipient}")));
    lines.push(format!(
        "mail: {} a minute, up to {} recipients and {} each, {} an answer and {} in all",
        mail.per_minute,
        mail.message_recipients,
        human::bytes(mail.message_bytes),
        human::millis(mail.step_ms),
        human::millis(mail.timeout_ms)
    ));
}

fn files_lines(files: &FilesGrant, lines: &mut Vec<String>) {
    let usual = FilesGrant::reading([]);
    let mut caps = String::new();
    if files.read_bytes != usual.read_bytes {
        caps.push_str(&format!(", {} a read", human::bytes(files.read_bytes)));
    }
    if files.call_bytes != usual.call_bytes {
        caps.push_str(&format!(", {} a call", human::bytes(files.call_bytes)));
    }
    lines.extend(files.paths.iter().map(|path| format!("files: reading {path}{caps}")));
}

/// Every value in which two configs differ, with its path.
fn config(path: &str, old: &Value, new: &Value, lines: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let path = format!("{path}.{key}");
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => config(&path, old, new, lines),
                    (Some(old), None) => lines.push(format!("{path}: {} -> nothing", shown(old))),
                    (None, Some(new)) => lines.push(format!("{path}: nothing -> {}", shown(new))),
                    (None, None) => {}
                }
            }
        }
        _ if old == new => {}
        _ => lines.push(format!("{path}: {} -> {}", shown(old), shown(new))),
    }
}

/// A value on one line, cut where it is long.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= MAX_SHOWN {
        return text;
    }
    let start: String = text.chars().take(MAX_SHOWN).collect();
    format!("{start}...")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::fleet::edit::{Selector, Which, disable, install, uninstall};
    use crate::commands::fleet::example::{set, wish};
    use sentinel_trust::Kind;
    use sentinel_trust::fleet::Collect;
    use serde_json::json;

    #[test]
    fn a_set_differs_from_itself_in_nothing_whatever_the_order_of_its_groups() {
        let set = set();
        let mut turned = set.clone();
        turned.groups.reverse();
        assert_eq!(between(&set, &turned), []);
    }

    #[test]
    fn every_part_of_a_change_is_told() {
        let before = set();
        let mut one = wish("nginx", "sentinel/nginx", "2.0.0", Kind::Collector);
        one.range = "^2".parse().unwrap();
        one.config = json!({"url": "http://127.0.0.1/status", "deep": {"a": 1}});
        one.grants = serde_json::from_value(json!({
            "system": true,
            "http": {
                "origins": ["https://a.example", "http://127.0.0.1"], "methods": ["GET", "POST"],
                "secrets": [{"name": "t", "origin": "https://a.example", "place": {"header": "authorization"}}],
                "timeout_ms": 5000
            },
            "files": {"paths": ["/proc/stat"], "read_bytes": 4096},
            "mac": {"keys": ["k"]}, "kv": {"max_bytes": 65536}, "series": true,
            "limits": {"memory_bytes": 1_048_576},
        }))
        .unwrap();
        let labels = [("team".to_owned(), "core".to_owned())].into();
        one.collect = Some(Collect { interval_ms: Some(30_000), labels });
        let web: Selector = "role=web".parse().unwrap();
        let added = wish("mail", "acme/mail", "1.0.0", Kind::Notifier);
        let after = install(&before, Some(&web), one, true).unwrap();
        let after = install(&after, None, added, false).unwrap();
        let pager = Which { slot: Some("pager".into()), ..Which::default() };
        let after = disable(&after, &pager, true).unwrap();
        let both = Which { on: Some("role=web,zone=b".parse().unwrap()), ..Which::default() };
        let after = uninstall(&after, &both).unwrap();
        insta::assert_snapshot!("there", text(&between(&before, &after)));
        insta::assert_snapshot!("and-back", text(&between(&after, &before)));
    }
}
