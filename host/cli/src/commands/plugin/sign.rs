//! Signing a packed plugin.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use sentinel_trust::{
    MAX_COMPONENT_BYTES, MAX_KEY_FILE_BYTES, PublisherKey, SignatureFile, Unverified,
};
use zeroize::Zeroizing;

use super::{read_signatures, refuse, signature_path};
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// Options of `sentinel plugin sign`.
#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The plugin, as `sentinel plugin pack` wrote it.
    file: PathBuf,
    /// The secret key of the plugin's publisher.
    #[arg(long, short, value_name = "FILE")]
    key: PathBuf,
}

pub(super) fn run(command: Sign, printer: &Printer) -> Result<(), Failure> {
    let Sign { file, key } = command;
    let key = read_key(&key)?;
    let component = files::read(&file, MAX_COMPONENT_BYTES)?;
    let named = |error: String| Failure::new(format!("{}: {error}", file.display()));
    if let Ok(unverified) = Unverified::read(&component) {
        refuse(&file, &unverified.problems())?;
    }
    let out = signature_path(&file);
    let existing = match read_signatures(&file)? {
        Some(json) => Some(SignatureFile::from_json(&json).map_err(|error| {
            Failure::new(format!("{}: not a signature file: {error}", out.display()))
                .hint("remove it, and sign again")
        })?),
        None => None,
    };
    let signed = sentinel_trust::sign(&component, &key, existing.as_ref())
        .map_err(|error| named(error.to_string()))?;
    files::replace(&out, signed.to_json().as_bytes(), 0o644)?;
    printer.say(&format!(
        "signed {}@{} ({}) with the key {} of {}",
        signed.name,
        signed.version,
        signed.digest,
        key.id(),
        key.publisher()
    ));
    printer.data(&signed, |_| out.display().to_string())
}

fn read_key(path: &Path) -> Result<PublisherKey, Failure> {
    let text = Zeroizing::new(files::read(path, MAX_KEY_FILE_BYTES)?);
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::new(format!(
            "the key {} may be read by others (mode {mode:o}), so it was not used",
            path.display()
        ))
        .hint(format!(
            "if nobody has read it, `chmod 600 {}`; else make another key",
            path.display()
        )));
    }
    PublisherKey::from_file_text(&text)
        .map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}
