//! From a core module and what its author says of it to a plugin that can be signed.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use schemars::JsonSchema;
use semver::Version;
use sentinel_model::document::{Document, MAX_DOCUMENT};
use sentinel_trust::{
    CONTRACT, ComponentError, ComponentShape, Kind, Limits, MANIFEST_FORMAT, Manifest, MetricInfo,
    PluginName, Requests, Unverified,
};
use serde::Deserialize;
use wit_component::ComponentEncoder;

use super::{MAX_MODULE_BYTES, refuse, requests, signature_path};
use crate::failure::Failure;
use crate::files;
use crate::output::{Printer, human};

/// Options of `sentinel plugin pack`.
#[derive(Debug, Args)]
pub(crate) struct Pack {
    /// A core module as a compiler wrote it, or a component.
    file: PathBuf,
    /// What the plugin is (YAML or JSON); its config schema and metrics come out of the code.
    #[arg(long, short, value_name = "FILE")]
    manifest: PathBuf,
    /// The plugin to write.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// Give it this patch number in place of the manifest's: for builds in development, each of
    /// which is a release of its own to whoever installs it.
    #[arg(long, value_name = "N")]
    patch: Option<u64>,
}

/// What an author writes: the manifest but for what the plugin itself says.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Source {
    name: PluginName,
    version: Version,
    kind: Kind,
    #[serde(default = "contract")]
    contract: Version,
    description: String,
    license: String,
    #[serde(default)]
    authors: Vec<String>,
    #[serde(default)]
    requests: Requests,
    #[serde(default)]
    limits: Limits,
}

fn contract() -> Version {
    CONTRACT
}

pub(super) fn run(command: Pack, printer: &Printer) -> Result<(), Failure> {
    let Pack { file, manifest: source, out, patch } = command;
    let named = |error: String| Failure::new(format!("{}: {error}", file.display()));
    let text = files::read_text(&source, MAX_DOCUMENT)?;
    let mut written: Source = Document::parse(&source.display().to_string(), &text)?.read()?;
    written.version.patch = patch.unwrap_or(written.version.patch);

    let component = component(&file)?;
    let said = sentinel_runtime::describe(&component).map_err(|error| named(error.to_string()))?;
    let manifest = written.complete(said);
    let plugin = sentinel_trust::embed(&component, &manifest).map_err(|error| match error {
        ComponentError::Manifest(error) => Failure::new(format!("{}: {error}", source.display())),
        error => named(error.to_string()),
    })?;
    let unverified = Unverified::read(&plugin).map_err(|error| named(error.to_string()))?;
    refuse(&file, &unverified.problems())?;

    files::replace(&out, &plugin, 0o644)?;
    let signatures = signature_path(&out);
    if signatures.exists() {
        // They speak about other bytes.
        fs::remove_file(&signatures)?;
    }
    printer.say(&format!(
        "packed {} ({}, {})",
        manifest.release(),
        manifest.kind,
        human::bytes(plugin.len() as u64)
    ));
    for line in requests::lines(&manifest.requests) {
        printer.say(&format!("  asks for {line}"));
    }
    printer.hint(&format!(
        "try it beside a `sentinel up`: `sentinel plugin install {} --publisher-key KEY` signs, publishes and installs it",
        out.display()
    ));
    let packed = serde_json::json!({
        "file": out,
        "digest": unverified.digest().to_string(),
        "bytes": plugin.len(),
        "manifest": manifest,
    });
    printer.data(&packed, |_| out.display().to_string())
}

/// The component in a file, made of the core module where there is one.
fn component(file: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = files::read(file, MAX_MODULE_BYTES)?;
    match ComponentShape::read(&bytes) {
        Ok(_) => Ok(bytes),
        Err(ComponentError::CoreModule) => encode(&bytes).map_err(|error| {
            Failure::new(format!("{}: no component can be made of it: {error:#}", file.display()))
                .hint("build it with the SDK or wit-bindgen for one world of `sentinel:plugin`, as a cdylib for wasm32-unknown-unknown")
        }),
        Err(ComponentError::NotWasm) => Err(Failure::new(format!(
            "{}: neither a core WebAssembly module nor a component",
            file.display()
        ))),
        Err(error) => Err(Failure::new(format!("{}: {error}", file.display()))),
    }
}

fn encode(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module)?.encode()
}

impl Source {
    fn complete(self, said: sentinel_runtime::Description) -> Manifest {
        let metrics = said.metrics.into_iter();
        Manifest {
            format: MANIFEST_FORMAT,
            name: self.name,
            version: self.version,
            kind: self.kind,
            contract: self.contract,
            description: self.description.trim().to_owned(),
            license: self.license,
            authors: self.authors,
            requests: self.requests,
            limits: self.limits,
            config_schema: said.config_schema,
            metrics: metrics
                .map(|one| MetricInfo { name: one.name, unit: one.unit, help: one.help })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_of_the_first_plugin_in_the_sdks_readme_is_one() {
        let readme = include_str!("../../../../../components/sdk/README.md");
        let (_, text) = readme.split_once("```yaml\nname: ").unwrap();
        let (text, _) = text.split_once("```").unwrap();
        let document = Document::parse("plugin.yaml", &format!("name: {text}")).unwrap();
        let source: Source = document.read().unwrap();
        assert_eq!((source.name.as_str(), source.kind), ("acme/number", Kind::Collector));
        assert_eq!(source.contract, CONTRACT);
        assert!(source.requests.files.is_some(), "the example reads a file");
    }
}
