//! Looking for plugins: in verified metadata, not in what a server says.

use clap::Args;
use sentinel_trust::repository::{IndexedRelease, Interest, RepositoryView};
use sentinel_trust::{Capability, Kind};
use serde::Serialize;
use std::collections::BTreeMap;

use crate::commands::now;
use crate::commands::reach::Reach;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, clean};

/// Options of `sentinel plugin search`.
#[derive(Debug, Args)]
pub(crate) struct Search {
    /// Part of a name or a description; everything where it is left out
    #[arg(default_value = "")]
    text: String,
    /// Only plugins of this kind
    #[arg(long, value_parser = kind)]
    kind: Option<Kind>,
    #[command(flatten)]
    reach: Reach,
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.as_str() == text);
    found.ok_or_else(|| {
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("write one of {}", kinds.join(", "))
    })
}

#[derive(Debug, Serialize)]
struct Found {
    name: String,
    kind: Kind,
    /// The newest that may be installed.
    newest: String,
    versions: Vec<String>,
    capabilities: Vec<Capability>,
    description: String,
}

pub(super) async fn run(command: Search, printer: &Printer) -> Result<(), Failure> {
    let client = command.reach.open()?;
    let view = client.refresh(Interest::All, now()).await?;
    for (name, state) in view.publishers() {
        if let Some(problem) = &state.problem {
            printer.warn(&format!(
                "the newest index of {name} was refused: {}",
                clean(&problem.to_string())
            ));
        }
    }
    let found = found(&view, &command);
    if found.is_empty() {
        printer.say("nothing was found");
    }
    printer.data(&found, |look| text(&found, look))
}

fn found(view: &RepositoryView, command: &Search) -> Vec<Found> {
    let text = command.text.to_lowercase();
    let mut plugins: BTreeMap<_, Vec<&IndexedRelease>> = BTreeMap::new();
    for release in view.releases().filter(|one| !one.yanked && view.may_run(one).is_ok()) {
        plugins.entry(&release.name).or_default().push(release);
    }
    let found = plugins.into_iter().filter_map(|(name, releases)| {
        let newest = releases.iter().max_by(|a, b| a.version.cmp(&b.version))?;
        let fits =
            name.as_str().contains(&text) || newest.description.to_lowercase().contains(&text);
        let wanted = command.kind.is_none_or(|kind| kind == newest.kind);
        (fits && wanted).then(|| Found {
            name: name.to_string(),
            kind: newest.kind,
            newest: newest.version.to_string(),
            versions: releases.iter().rev().map(|one| one.version.to_string()).collect(),
            capabilities: Capability::ALL
                .into_iter()
                .filter(|one| newest.requests.asks_for(*one))
                .collect(),
            description: clean(&newest.description),
        })
    });
    found.collect()
}

fn text(found: &[Found], look: Look) -> String {
    if found.is_empty() {
        return String::new();
    }
    let mut table = Table::new(look, &["plugin", "kind", "newest", "asks for", ""]);
    for one in found {
        let asks: Vec<_> = one.capabilities.iter().map(|one| one.as_str()).collect();
        let first = one.description.lines().next().unwrap_or_default().to_owned();
        let cells = [one.name.clone(), one.kind.to_string(), one.newest.clone(), asks.join(" ")];
        let cells = cells.into_iter().map(|cell| (cell, Tone::Plain));
        table.toned(cells.chain([(first, Tone::Quiet)]));
    }
    table.text()
}
