//! Plugins on this machine: what its host has, and what its registry has beside.

use std::collections::BTreeMap;

use clap::Args;
use sentinel_registry_client::{Pin, PluginRef};
use sentinel_trust::repository::{IndexedRelease, Interest, PluginRange};
use sentinel_trust::{Digest, PluginName};
use serde::Serialize;
use serde_json::Value;

use super::machine::{Host, Machine};
use crate::client::Client;
use crate::commands::now;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, clean};

/// Digits of a digest that are shown in a table, after `sha256:`.
const DIGEST_DIGITS: usize = 12;

/// Options of `sentinel plugin list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    machine: Machine,
}

/// Options of `sentinel plugin remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// publisher/name for every version, publisher/name@1.2.3 for one.
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: PluginRef,
    #[command(flatten)]
    machine: Machine,
}

/// A release as it is shown.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    version: String,
    kind: Option<String>,
    digest: String,
    description: String,
    /// The ranges that mean it on this host; none where only the registry has it.
    ranges: Vec<String>,
    /// The newest release in those ranges, where it is another.
    #[serde(skip_serializing_if = "Option::is_none")]
    newest: Option<String>,
    /// Why it must not run; absent where it may.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

pub(super) async fn list(command: List, printer: &Printer) -> Result<(), Failure> {
    let host = command.machine.open()?;
    let all = host.plugins.client().refresh(Interest::All, now()).await;
    if let Err(error) = all {
        printer.warn(&format!("shown is what is known so far: {error}"));
    }
    let mut shown = installed(&host).await?;
    let there: Vec<String> = shown.iter().map(|one| one.digest.clone()).collect();
    shown.extend(only_listed(&host).into_iter().filter(|one| !there.contains(&one.digest)));
    shown.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    printer.data(&shown, |look| table(&shown, look))?;
    if shown.is_empty() {
        printer.say("there is no plugin yet");
        printer
            .hint("`sentinel plugin install FILE --publisher-key KEY` publishes and installs one");
    }
    Ok(())
}

/// What the ranges of this host mean.
async fn installed(host: &Host) -> Result<Vec<Shown>, Failure> {
    let view = host.plugins.client().view();
    let mut pins: BTreeMap<(PluginName, Digest), Vec<Pin>> = BTreeMap::new();
    for pin in host.plugins.pins()? {
        pins.entry((pin.range.name.clone(), pin.digest)).or_default().push(pin);
    }
    let mut shown = Vec::new();
    for ((name, digest), pins) in pins {
        let listed = view.releases().find(|one| one.digest == digest);
        let refused = match host.plugins.client().stored(digest).await {
            Ok(Some(_)) => None,
            Ok(None) => Some("its bytes are not here: the registry is asked for them".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        let newest = pins.iter().filter_map(|pin| view.resolve(&pin.range, now()).ok());
        let newest = newest.filter(|one| one.digest != digest).map(|one| one.version.clone()).max();
        shown.push(Shown {
            name: name.to_string(),
            version: pins[0].version.to_string(),
            kind: listed.map(|one| one.kind.to_string()),
            digest: digest.to_string(),
            description: listed.map(|one| clean(&one.description)).unwrap_or_default(),
            ranges: pins.iter().map(|pin| pin.range.to_string()).collect(),
            newest: newest.map(|version| version.to_string()),
            refused,
        });
    }
    Ok(shown)
}

/// The newest release of each plugin that the registry has.
fn only_listed(host: &Host) -> Vec<Shown> {
    let view = host.plugins.client().view();
    let mut newest: BTreeMap<&PluginName, &IndexedRelease> = BTreeMap::new();
    for one in view.releases().filter(|one| !one.yanked && view.may_run(one).is_ok()) {
        let known = newest.entry(&one.name).or_insert(one);
        if one.version > known.version {
            *known = one;
        }
    }
    let shown = newest.into_values().map(|one| Shown {
        name: one.name.to_string(),
        version: one.version.to_string(),
        kind: Some(one.kind.to_string()),
        digest: one.digest.to_string(),
        description: clean(&one.description),
        ranges: Vec::new(),
        newest: None,
        refused: None,
    });
    shown.collect()
}

pub(super) async fn remove(command: Remove, printer: &Printer) -> Result<(), Failure> {
    let PluginRef { name, version } = command.plugin;
    let host = command.machine.open()?;
    let meant = |pin: &&Pin| {
        pin.range.name == name && version.as_ref().is_none_or(|version| pin.version == *version)
    };
    let pins = host.plugins.pins()?;
    let pins: Vec<&Pin> = pins.iter().filter(meant).collect();
    if pins.is_empty() {
        let what = version.map_or(name.to_string(), |version| format!("{name}@{version}"));
        return Err(Failure::new(format!("{what} is not installed on this machine"))
            .hint("`sentinel plugin list` shows what is"));
    }
    if host.running.is_some() {
        let status: Value = Client::find(None, &crate::client_tls::ClientTls::default())?
            .get("/v1/status", &[])
            .await?;
        if let Some(slot) = pins.iter().find_map(|pin| slot_of(&status, pin.digest)) {
            return Err(Failure::new(format!("{name} is not removed: the slot {slot} runs it"))
                .hint("take the slot out of the configuration first"));
        }
    }
    let gone = host.plugins.unpin(&name, version.as_ref())?;
    let gone: Vec<PluginRange> = gone.into_iter().map(|pin| pin.range).collect();
    printer.say(&format!("removed {name}; a slot that names it again takes the newest release"));
    printer.data(&gone, |_| gone.iter().map(|range| format!("{range}\n")).collect())
}

/// A slot that runs a digest, wherever in a status it stands.
fn slot_of(status: &Value, digest: Digest) -> Option<String> {
    match status {
        Value::Object(fields) => {
            let name = fields.get("name").and_then(Value::as_str);
            let runs = fields.get("digest").and_then(Value::as_str);
            match name {
                Some(name) if runs == Some(&digest.to_string()) => Some(name.to_owned()),
                _ => fields.values().find_map(|value| slot_of(value, digest)),
            }
        }
        Value::Array(all) => all.iter().find_map(|value| slot_of(value, digest)),
        _ => None,
    }
}

fn table(plugins: &[Shown], look: Look) -> String {
    if plugins.is_empty() {
        return String::new();
    }
    let columns = ["plugin", "version", "kind", "digest", "installed as", "newest", "may run", ""];
    let mut table = Table::new(look, &columns);
    for plugin in plugins {
        let digest = plugin.digest.strip_prefix("sha256:").unwrap_or(&plugin.digest);
        let digest: String = digest.chars().take(DIGEST_DIGITS).collect();
        let (may, tone) = match plugin.refused {
            None => ("yes", Tone::Good),
            Some(_) => ("no", Tone::Bad),
        };
        let ranges =
            if plugin.ranges.is_empty() { "–".to_owned() } else { plugin.ranges.join(" ") };
        table.toned([
            (plugin.name.as_str(), Tone::Plain),
            (plugin.version.as_str(), Tone::Plain),
            (plugin.kind.as_deref().unwrap_or("?"), Tone::Plain),
            (digest.as_str(), Tone::Quiet),
            (ranges.as_str(), Tone::Plain),
            (plugin.newest.as_deref().unwrap_or_default(), Tone::Plain),
            (may, tone),
            (plugin.refused.as_deref().unwrap_or_default(), Tone::Plain),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_installed_what_is_newer_and_what_may_not_run_is_seen_at_a_glance() {
        let plugin =
            |name: &str, ranges: &[&str], newest: Option<&str>, refused: Option<&str>| Shown {
                name: name.into(),
                version: "0.1.0".into(),
                kind: Some("collector".into()),
                digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
                description: String::new(),
                ranges: ranges.iter().map(ToString::to_string).collect(),
                newest: newest.map(str::to_owned),
                refused: refused.map(str::to_owned),
            };
        let plugins = [
            plugin("acme/other", &[], None, None),
            plugin("sentinel/nginx", &["sentinel/nginx"], None, Some("it was revoked")),
            plugin("sentinel/system", &["sentinel/system@^0.1"], Some("0.1.1"), None),
        ];
        insta::assert_snapshot!(table(&plugins, Look { color: false, width: 120 }));
    }

    #[test]
    fn a_slot_that_runs_a_plugin_is_found_wherever_it_stands() {
        let digest = Digest::of(b"a");
        let status = serde_json::json!({
            "version": "1", "agents": [{"report": {"slots": [
                {"name": "x", "digest": "sha256:00"}, {"name": "y", "digest": digest},
            ]}}],
        });
        assert_eq!(slot_of(&status, digest).as_deref(), Some("y"));
        assert_eq!(slot_of(&status, Digest::of(b"b")), None);
    }
}
