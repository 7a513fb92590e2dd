//! `sentinel wal`: an agent's log as it lies on the disk, whether the agent runs or not.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sentinel_wal::inspect::{InspectedEpoch, InspectedFile, InspectedSegment, Inspection, inspect};
use sentinel_wal::{GapReason, MetaFile};
use serde::Serialize;

use super::local::folders;
use super::now;
use crate::failure::Failure;
use crate::output::table::{Table, Tone};
use crate::output::{Look, Printer, human};

/// Where a log lies under the folder of an agent, and under that of an `up`.
const UNDER: [&str; 2] = ["log", "agent/log"];

#[derive(Debug, Subcommand)]
pub(crate) enum WalCommand {
    /// Show an agent's log: segments, records, offsets, damage. Changes nothing, also of an agent that runs.
    Inspect(Inspect),
}

/// Options of `sentinel wal inspect`.
#[derive(Debug, Args)]
pub(crate) struct Inspect {
    /// The log's folder, or the data folder of its agent or `up` [default: that of the running `up`, else
    /// the user's own]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Does what is asked.
pub(super) fn run(command: WalCommand, printer: &Printer) -> Result<(), Failure> {
    let WalCommand::Inspect(Inspect { folder }) = command;
    let folder = log_folder(folder.as_deref())?;
    let found = inspect(&folder).map_err(|error| Failure::new(error.to_string()))?;
    let body = Body::of(&folder, &found);
    let at = now();
    printer.data(&body, |look| text(&body, at, look))?;
    if let Some(warning) = body.damage() {
        printer.warn(&warning);
        printer.hint("what is missing is told to the server when the agent sends; files set aside are yours to look at and remove");
    }
    Ok(())
}

/// The folder that is meant.
fn log_folder(named: Option<&Path>) -> Result<PathBuf, Failure> {
    let places = folders(named);
    for place in &places {
        let under = UNDER.iter().map(|part| place.join(part)).find(|path| path.is_dir());
        if let Some(found) = under {
            return Ok(found);
        }
    }
    match named.filter(|folder| folder.is_dir()) {
        Some(folder) => Ok(folder.to_owned()),
        None => {
            let tried: Vec<String> = places.iter().map(|p| p.display().to_string()).collect();
            Err(Failure::new(format!("there is no agent's log in {}", tried.join(", ")))
                .hint("name the agent's data folder: `sentinel wal inspect DIR`"))
        }
    }
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Body {
    folder: PathBuf,
    /// The process that has it open; 0 where it is of another namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use_by: Option<u32>,
    closed_cleanly: bool,
    meta: &'static str,
    /// Records ever dropped at the cap of size or age.
    dropped_records: u64,
    segments: usize,
    file_bytes: u64,
    epochs: Vec<EpochBody>,
    prepared: Vec<FileBody>,
    unreadable: Vec<FileBody>,
    set_aside: Vec<FileBody>,
}

#[derive(Debug, Serialize)]
struct EpochBody {
    epoch: String,
    written: u64,
    synced: u64,
    accepted: u64,
    committed: u64,
    /// Records that are there and not committed.
    waiting: u64,
    missing: Vec<MissingBody>,
    segments: Vec<SegmentBody>,
}

#[derive(Debug, Serialize)]
struct MissingBody {
    from: u64,
    to: u64,
    why: &'static str,
}

#[derive(Debug, Serialize)]
struct SegmentBody {
    file: String,
    first: u64,
    last: u64,
    records: u64,
    bytes: u64,
    file_bytes: u64,
    /// Unix milliseconds.
    written_at: i64,
    state: &'static str,
    /// Bytes behind the last record that are no record.
    trailing_bytes: u64,
}

#[derive(Debug, Serialize)]
struct FileBody {
    file: String,
    bytes: u64,
}

impl Body {
    fn of(folder: &Path, found: &Inspection) -> Self {
        let epochs: Vec<EpochBody> = found.epochs.iter().map(EpochBody::of).collect();
        let segments = || found.epochs.iter().flat_map(|epoch| &epoch.segments);
        let others = found.prepared.iter().chain(&found.unreadable).chain(&found.aside);
        let file_bytes = segments().map(|one| one.file_bytes).sum::<u64>()
            + others.map(|one| one.bytes).sum::<u64>();
        let files = |files: &[InspectedFile]| files.iter().map(FileBody::of).collect();
        Self {
            folder: folder.to_owned(),
            in_use_by: found.holder,
            closed_cleanly: found.closed,
            meta: match found.meta {
                MetaFile::Intact => "intact",
                MetaFile::Missing => "missing",
                MetaFile::Damaged => "damaged",
            },
            dropped_records: found.dropped_records,
            segments: segments().count(),
            file_bytes,
            epochs,
            prepared: files(&found.prepared),
            unreadable: files(&found.unreadable),
            set_aside: files(&found.aside),
        }
    }

    /// What is damaged, if anything.
    fn damage(&self) -> Option<String> {
        let mut all = Vec::new();
        if self.meta == "damaged" || (self.meta == "missing" && self.segments > 0) {
            all.push(format!("the meta file is {}: records are sent again", self.meta));
        }
        for epoch in &self.epochs {
            let lost = epoch.missing.iter().filter(|missing| missing.why == "damaged");
            let lost: u64 = lost.map(|missing| missing.to - missing.from + 1).sum();
            if lost > 0 {
                all.push(format!(
                    "{} of epoch {} lost",
                    human::plural(lost, "record"),
                    epoch.epoch
                ));
            }
            for one in epoch.segments.iter().filter(|one| one.state == "damaged") {
                all.push(format!("{} is damaged, its records were read all the same", one.file));
            }
        }
        for one in self.unreadable.iter().chain(&self.set_aside) {
            all.push(format!("{} holds no record that can be read", one.file));
        }
        (!all.is_empty()).then(|| all.join("; "))
    }
}

impl EpochBody {
    fn of(epoch: &InspectedEpoch) -> Self {
        let missing = |gap: &sentinel_wal::FoundGap| MissingBody {
            from: gap.from,
            to: gap.to,
            why: match gap.reason {
                GapReason::Corrupt => "damaged",
                GapReason::DroppedAtCap => "dropped",
            },
        };
        let body = |one| SegmentBody::of(one, epoch.committed);
        Self {
            epoch: epoch.epoch.to_string(),
            written: epoch.written,
            synced: epoch.synced,
            accepted: epoch.accepted,
            committed: epoch.committed,
            waiting: epoch.waiting(),
            missing: epoch.gaps.iter().map(missing).collect(),
            segments: epoch.segments.iter().map(body).collect(),
        }
    }
}

impl SegmentBody {
    fn of(one: &InspectedSegment, committed: u64) -> Self {
        let torn = one.trailing_bytes > 0 && !one.active;
        let state = match () {
            () if one.damaged_header || torn || !one.missing.is_empty() => "damaged",
            () if one.active => "being written",
            () if one.last <= committed => "committed",
            () => "waits",
        };
        Self {
            file: one.name.clone(),
            first: one.first,
            last: one.last,
            records: one.records,
            bytes: one.bytes,
            file_bytes: one.file_bytes,
            written_at: one.written_at,
            state,
            trailing_bytes: one.trailing_bytes,
        }
    }
}

impl FileBody {
    fn of(file: &InspectedFile) -> Self {
        Self { file: file.name.clone(), bytes: file.bytes }
    }
}

fn text(body: &Body, now: i64, look: Look) -> String {
    let mut head = Table::properties(look);
    head.property("log", &body.folder.display().to_string());
    head.property(
        "in use",
        &match body.in_use_by {
            Some(0) => "yes".to_owned(),
            Some(pid) => format!("by process {pid}; offsets are those of its last meta file"),
            None if body.closed_cleanly => "no; it was closed cleanly".to_owned(),
            None => "no; it was not closed: the next start checks it".to_owned(),
        },
    );
    let size = human::plural(body.segments as u64, "segment");
    head.property("size", &format!("{size}, {} of disk", human::bytes(body.file_bytes)));
    if body.dropped_records > 0 {
        head.property(
            "dropped",
            &format!("{} at its cap", human::plural(body.dropped_records, "record")),
        );
    }
    let mut out = head.text();
    for epoch in &body.epochs {
        let mut offsets = Table::properties(look);
        offsets.property("epoch", &epoch.epoch);
        let EpochBody { written, synced, accepted, committed, waiting, .. } = epoch;
        offsets.property(
            "records",
            &format!("written {written}, synced {synced}, accepted {accepted}, committed {committed}; {waiting} to be committed"),
        );
        for missing in &epoch.missing {
            offsets.property(
                "missing",
                &format!("{} to {}: {}", missing.from, missing.to, missing.why),
            );
        }
        out = format!("{out}\n\n{}", offsets.text());
        if epoch.segments.is_empty() {
            continue;
        }
        let mut table = Table::new(
            look,
            &["segment", ">first", ">last", ">records", ">bytes", ">written", "state"],
        );
        for one in &epoch.segments {
            let tone = if one.state == "damaged" { Tone::Bad } else { Tone::Plain };
            table.toned([
                (one.file.clone(), Tone::Plain),
                (one.first.to_string(), Tone::Plain),
                (one.last.to_string(), Tone::Plain),
                (one.records.to_string(), Tone::Plain),
                (human::bytes(one.bytes), Tone::Plain),
                (human::ago(now - one.written_at), Tone::Quiet),
                (one.state.to_owned(), tone),
            ]);
        }
        out = format!("{out}\n{}", table.text());
    }
    out
}
