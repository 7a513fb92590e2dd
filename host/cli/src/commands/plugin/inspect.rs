//! Looking at a plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use sentinel_registry_client::load_policies;
use sentinel_trust::{
    Digest, Extern, MAX_COMPONENT_BYTES, Manifest, SignatureFile, SignatureFileError, Unverified,
    verify,
};
use serde::Serialize;
use serde_json::Value;

use super::{read_signatures, requests, signature_path};
use crate::failure::Failure;
use crate::files;
use crate::output::table::Table;
use crate::output::{Look, Printer, human};

/// Options of `sentinel plugin inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The plugin.
    file: PathBuf,
    /// A trust policy to judge it by; the command fails where the policy refuses it.
    #[arg(long, value_name = "FILE")]
    trust: Vec<PathBuf>,
}

/// A plugin as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Inspected {
    file: PathBuf,
    bytes: usize,
    digest: Digest,
    manifest: Manifest,
    imports: Vec<String>,
    exports: Vec<String>,
    signatures: Vec<Signature>,
    /// Why every host would refuse it, whoever signed it.
    problems: Vec<String>,
    /// Whether the given policies trust it; absent where none was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    trusted: Option<bool>,
    /// Why they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

#[derive(Debug, Serialize)]
struct Signature {
    publisher: String,
    key_id: String,
    /// Whether it speaks about these very bytes. Only a policy tells whether it is genuine.
    about_this: bool,
}

pub(super) fn run(command: Inspect, printer: &Printer) -> Result<(), Failure> {
    let Inspect { file, trust } = command;
    let bytes = files::read(&file, MAX_COMPONENT_BYTES)?;
    let named =
        |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", file.display()));
    let unverified = Unverified::read(&bytes).map_err(|error| named(&error))?;
    let signatures = read_signatures(&file)?;
    let mut inspected = inspect(&file, bytes.len(), &unverified, signatures.as_deref())?;
    if !trust.is_empty() {
        if let Some(absent) = trust.iter().find(|path| !path.exists()) {
            return Err(Failure::new(format!("there is no trust policy {}", absent.display())));
        }
        let bytes: Arc<[u8]> = bytes.into();
        let verdict = verify(bytes, &signatures.unwrap_or_default(), &load_policies(&trust)?);
        inspected.trusted = Some(verdict.is_ok());
        inspected.refused = verdict.err().map(|error| error.to_string());
    }
    printer.data(&inspected, |look| text(&inspected, look))?;
    match &inspected.refused {
        Some(refused) => Err(named(refused)),
        None => Ok(()),
    }
}

fn inspect(
    file: &Path,
    bytes: usize,
    unverified: &Unverified,
    signatures: Option<&[u8]>,
) -> Result<Inspected, Failure> {
    let names = |list: &[Extern]| list.iter().map(|one| one.name.clone()).collect();
    Ok(Inspected {
        file: file.to_owned(),
        bytes,
        digest: unverified.digest(),
        manifest: unverified.manifest().clone(),
        imports: names(unverified.shape().imports()),
        exports: names(unverified.shape().exports()),
        signatures: match signatures {
            Some(json) => read(json, unverified).map_err(|error| {
                Failure::new(format!("{}: {error}", signature_path(file).display()))
            })?,
            None => Vec::new(),
        },
        problems: unverified.problems().iter().map(ToString::to_string).collect(),
        trusted: None,
        refused: None,
    })
}

fn read(json: &[u8], unverified: &Unverified) -> Result<Vec<Signature>, SignatureFileError> {
    let file = SignatureFile::from_json(json)?;
    let about_this = file.claim() == unverified.claim();
    let entries = file.signatures.into_iter().map(|entry| Signature {
        publisher: entry.publisher.to_string(),
        key_id: entry.key_id.to_string(),
        about_this,
    });
    Ok(entries.collect())
}

fn text(inspected: &Inspected, look: Look) -> String {
    let manifest = &inspected.manifest;
    let limits = &manifest.limits;
    let mut table = Table::properties(look);
    table.property("plugin", &manifest.release().to_string());
    table.property("kind", manifest.kind.as_str());
    table.property("description", &manifest.description);
    table.property("license", &manifest.license);
    table.property("authors", &manifest.authors.join(", "));
    table.property("contract", &format!("sentinel:plugin@{}", manifest.contract));
    table.property("size", &human::bytes(inspected.bytes as u64));
    table.property("digest", &inspected.digest.to_string());
    table.property(
        "limits",
        &format!(
            "memory {}, {} a call, {} handed back",
            human::bytes(limits.memory_bytes),
            human::millis(limits.call_ms),
            human::bytes(limits.returned_bytes)
        ),
    );
    many(&mut table, "asks for", &requests::lines(&manifest.requests), "nothing");
    many(&mut table, "imports", &inspected.imports, "nothing");
    many(&mut table, "config", &config(manifest), "no keys");
    let metrics: Vec<_> = manifest.metrics.iter().map(|one| one.name.clone()).collect();
    many(&mut table, "metrics", &metrics, "");
    let signatures = inspected.signatures.iter().map(|one| {
        let other = if one.about_this { "" } else { " (of other bytes than these)" };
        format!("{} with key {}{other}", one.publisher, one.key_id)
    });
    many(&mut table, "signed by", &signatures.collect::<Vec<_>>(), "nobody");
    many(&mut table, "problems", &inspected.problems, "");
    match inspected.trusted {
        Some(true) => table.property("trusted", "yes"),
        Some(false) => table.property("trusted", "no"),
        None => {}
    }
    table.text()
}

/// A property of several values, one a line.
fn many(table: &mut Table, name: &str, values: &[String], none: &str) {
    let Some((first, rest)) = values.split_first() else {
        return table.property(name, none);
    };
    table.property(name, first);
    for value in rest {
        table.property(" ", value);
    }
}

/// The keys at the top of a plugin's config, with those that must be there marked.
fn config(manifest: &Manifest) -> Vec<String> {
    let schema = &manifest.config_schema;
    let required = schema.get("required").and_then(Value::as_array);
    let must = |key: &str| required.is_some_and(|keys| keys.iter().any(|one| one == key));
    let properties = schema.get("properties").and_then(Value::as_object);
    let keys = properties.into_iter().flatten().map(|(key, schema)| {
        let said = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        let said = said.lines().next().unwrap_or_default();
        let mark = if must(key) { " (required)" } else { "" };
        let colon = if said.is_empty() { "" } else { ": " };
        format!("{key}{mark}{colon}{said}")
    });
    keys.collect()
}
