//! Plugins on a server.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use sentinel_registry_client::PluginRef;
use sentinel_server::api::PluginBody;
use sentinel_server::rest::SIGNATURES_HEADER;
use sentinel_trust::{MAX_COMPONENT_BYTES, Unverified};

use super::{read_signatures, requests};
use crate::client::Client;
use crate::failure::Failure;
use crate::files;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer};

/// Digits of a digest that are shown in a table, after `sha256:`.
const DIGEST_DIGITS: usize = 12;

/// Options of `sentinel plugin remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// publisher/name for every version, publisher/name@1.2.3 for one.
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: PluginRef,
}

pub(super) async fn list(client: &Client, printer: &Printer) -> Result<(), Failure> {
    let plugins: Vec<PluginBody> = client.get("/v1/plugins", &[]).await?;
    printer.data(&plugins, |look| table(&plugins, look))?;
    if plugins.is_empty() {
        printer.say("no plugin is installed");
        printer.hint("install one with `sentinel plugin install FILE`");
    }
    Ok(())
}

pub(super) async fn install(
    file: PathBuf,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let component = files::read(&file, MAX_COMPONENT_BYTES)?;
    let unverified = Unverified::read(&component)
        .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
    let manifest = unverified.manifest();
    printer.say(&format!("{} ({}): {}", manifest.release(), manifest.kind, manifest.description));
    let asked = requests::lines(&manifest.requests);
    if asked.is_empty() {
        printer.say("  asks for nothing");
    }
    for line in &asked {
        printer.say(&format!("  asks for {line}"));
    }
    let signatures = read_signatures(&file)?.ok_or_else(|| {
        Failure::new(format!("{0} is not signed: there is no {0}.sig", file.display()))
            .hint("fetch it from where the plugin is from, or sign with `sentinel plugin sign`")
    })?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/wasm"));
    headers.insert(SIGNATURES_HEADER, HeaderValue::from_str(&STANDARD.encode(signatures))?);
    let posted = client.post_bytes("/v1/plugins", headers, component).await;
    let installed: PluginBody = posted.map_err(|failure| Failure {
        message: format!("{} was not installed: {}", file.display(), failure.message),
        ..failure
    })?;
    printer.say(&format!("installed {}@{}", installed.name, installed.version));
    if !asked.is_empty() {
        printer.hint("it can do what it asks for only in slots whose `grants` allow it");
    }
    printer.data(&installed, |_| installed.file.clone())
}

pub(super) async fn remove(
    command: Remove,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    let PluginRef { name, version } = command.plugin;
    let query: Vec<_> = version.iter().map(|version| ("version", version.to_string())).collect();
    let removed: Vec<String> = client.delete(&format!("/v1/plugins/{name}"), &query).await?;
    printer.say(&format!("removed {name}; slots that run it go on until they change or restart"));
    printer.data(&removed, |_| removed.iter().map(|file| format!("{file}\n")).collect())
}

fn table(plugins: &[PluginBody], look: Look) -> String {
    if plugins.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(look, &["plugin", "version", "kind", "digest", "file", "may run", "why not"]);
    for plugin in plugins {
        let digest = plugin.digest.strip_prefix("sha256:").unwrap_or(&plugin.digest);
        let digest: String = digest.chars().take(DIGEST_DIGITS).collect();
        let (may, tone) = match plugin.refused {
            None => ("yes", Tone::Good),
            Some(_) => ("no", Tone::Bad),
        };
        // A file that is no plugin has no name.
        let name = if plugin.name.is_empty() { "-" } else { &plugin.name };
        table.toned([
            (name, Tone::Plain),
            (plugin.version.as_str(), Tone::Plain),
            (plugin.kind.as_str(), Tone::Plain),
            (digest.as_str(), Tone::Quiet),
            (plugin.file.as_str(), Tone::Quiet),
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
    fn a_plugin_that_may_not_run_says_why() {
        let plugin = |name: &str, refused: Option<&str>| PluginBody {
            name: name.into(),
            version: if name.is_empty() { String::new() } else { "0.1.0".into() },
            kind: if name.is_empty() { String::new() } else { "collector".into() },
            digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            file: "/data/plugins/x.wasm".into(),
            description: String::new(),
            refused: refused.map(str::to_owned),
        };
        let plugins = [plugin("sentinel/system", None), plugin("", Some("it is not a component"))];
        insta::assert_snapshot!(table(&plugins, Look { color: false, width: 100 }));
    }
}
