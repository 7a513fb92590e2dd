//! What a registry says of itself.

use std::path::PathBuf;

use clap::Args;
use sentinel_trust::PublicKey;
use sentinel_trust::repository::{
    Enrolment, Interest, MetadataFile, MinimumVersions, Role, TargetsSpec, Trusted,
};
use serde::Serialize;

use crate::commands::now;
use crate::commands::reach::Reach;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, clean, human};

/// Options of `sentinel registry enrolment`.
#[derive(Debug, Args)]
pub(crate) struct EnrolmentArgs {
    #[command(flatten)]
    reach: Reach,
    /// Public keys of the operators whose desired sets and bundles hosts believe
    #[arg(long, value_name = "KEY")]
    operator: Vec<PublicKey>,
    /// Write it to a file instead of printing it
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Options of `sentinel registry status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    #[command(flatten)]
    reach: Reach,
}

#[derive(Debug, Serialize)]
struct Shown {
    files: Vec<ShownFile>,
    publishers: Vec<ShownPublisher>,
}

#[derive(Debug, Serialize)]
struct ShownFile {
    role: Role,
    version: u64,
    expires_at: i64,
    offline: bool,
}

#[derive(Debug, Serialize)]
struct ShownPublisher {
    name: String,
    keys: Vec<String>,
    releases: usize,
    index: Option<u64>,
    revoked_keys: usize,
    revoked_plugins: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

pub(super) async fn enrolment(command: EnrolmentArgs, printer: &Printer) -> Result<(), Failure> {
    let client = command.reach.open()?;
    client.refresh(Interest::All, now()).await?;
    let trusted = client.trusted().await?;
    let versions = trusted.view().versions();
    let numbers = trusted.indexes().map(|(name, index)| (name.clone(), index.index().number));
    let enrolment = Enrolment {
        root: trusted.root().clone(),
        minimum: MinimumVersions {
            targets: versions.targets,
            index: versions.index,
            snapshot: versions.snapshot,
            timestamp: versions.timestamp,
            publishers: numbers.collect(),
        },
        operators: command.operator,
    };
    let json = enrolment.to_json();
    if let Some(out) = &command.out {
        crate::files::replace(out, json.as_bytes(), 0o644)?;
        printer.say(&format!("wrote what hosts are given to {}", out.display()));
        return printer.data(&serde_json::json!({ "enrolment": out }), |_| String::new());
    }
    let value: serde_json::Value = serde_json::from_str(&json)?;
    printer.data(&value, |_| json)
}

pub(super) async fn run(command: Status, printer: &Printer) -> Result<(), Failure> {
    let client = command.reach.open()?;
    client.refresh(Interest::All, now()).await?;
    let shown = shown(&client.trusted().await?)?;
    warn(&shown, printer);
    printer.data(&shown, |look| text(&shown, look))
}

fn shown(trusted: &Trusted) -> Result<Shown, Failure> {
    let files: Vec<&MetadataFile> = trusted.files();
    let targets = files.iter().find(|file| file.role() == Role::Targets);
    let spec = targets.map(|targets| TargetsSpec::read(targets)).transpose()?;
    let view = trusted.view();
    let publishers = spec.iter().flat_map(|spec| spec.publishers.iter()).map(|(name, one)| {
        let state = view.publishers().get(name);
        let index = state.and_then(|state| state.index.as_ref());
        ShownPublisher {
            name: name.to_string(),
            keys: one.keys.iter().map(|key| key.id().to_string()).collect(),
            releases: index.map_or(0, |index| index.releases.len()),
            index: index.map(|index| index.number),
            revoked_keys: one.revoked_keys.len(),
            revoked_plugins: one.revoked_digests.len(),
            problem: state.and_then(|state| state.problem.as_ref()).map(ToString::to_string),
        }
    });
    Ok(Shown {
        publishers: publishers.collect(),
        files: files
            .iter()
            .map(|file| ShownFile {
                role: file.role(),
                version: file.version(),
                expires_at: file.expires_at(),
                offline: file.role().is_offline(),
            })
            .collect(),
    })
}

/// What nobody renews but the owner is told a fifth of its time before.
fn warn(shown: &Shown, printer: &Printer) {
    for file in shown.files.iter().filter(|file| file.offline) {
        let left = file.expires_at - now();
        if left < file.role.lifetime_ms() / 5 {
            printer.warn(&format!(
                "the {} metadata expires {}: `sentinel registry renew {}`",
                file.role,
                human::moment(file.expires_at),
                file.role
            ));
        }
    }
}

fn text(shown: &Shown, look: Look) -> String {
    let mut files = Table::new(look, &["metadata", "version", "good until", "signed"]);
    for file in &shown.files {
        let signed = if file.offline { "offline" } else { "online" };
        let until = human::moment(file.expires_at);
        files.row([file.role.to_string(), file.version.to_string(), until, signed.to_owned()]);
    }
    if shown.publishers.is_empty() {
        return format!("{}\nnobody may publish yet\n", files.text());
    }
    let mut publishers = Table::new(look, &["publisher", "keys", "releases", "revoked", ""]);
    for one in &shown.publishers {
        let revoked = match (one.revoked_keys, one.revoked_plugins) {
            (0, 0) => String::new(),
            (keys, plugins) => format!(
                "{}, {}",
                human::plural(keys as u64, "key"),
                human::plural(plugins as u64, "plugin")
            ),
        };
        let problem = one.problem.as_deref().map(clean).unwrap_or_default();
        let tone = if problem.is_empty() { Tone::Plain } else { Tone::Bad };
        let cells = [one.name.clone(), one.keys.join(" "), one.releases.to_string(), revoked];
        let cells = cells.into_iter().map(|cell| (cell, Tone::Plain));
        publishers.toned(cells.chain([(problem, tone)]));
    }
    format!("{}\n{}", files.text(), publishers.text())
}
