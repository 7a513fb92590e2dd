//! `sentinel bus`: the stream of the bus on NATS, made and looked at.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sentinel_bus::jetstream::{StreamReport, set_up};
use serde_json::json;
use tokio::runtime::Builder;

use crate::failure::{Failure, with_causes};
use crate::output::{Printer, human};
use crate::roles::bus::nats;
use crate::roles::config::shape;

#[derive(Debug, Subcommand)]
pub(crate) enum BusCommand {
    /// Make the stream on NATS where it is missing, and give it the bounds of the configuration.
    Setup(Setup),
}

/// Options of `sentinel bus setup`.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Configuration: `bus` and `nats` are used
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Change nothing of a stream that is there; exit with 1 where it is not as configured
    #[arg(long)]
    check: bool,
}

/// Does what is asked.
pub(super) fn run(command: BusCommand, printer: &Printer) -> Result<(), Failure> {
    let BusCommand::Setup(Setup { config, check }) = command;
    let failed = |error: anyhow::Error| Failure::new(with_causes(&error));
    let config = shape(&config).map_err(failed)?;
    let options = nats(&config).map_err(failed)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(set_up(options, check));
    let report = report.map_err(|error| Failure::new(error.to_string()))?;
    show(&report, check, printer)
}

fn show(report: &StreamReport, check: bool, printer: &Printer) -> Result<(), Failure> {
    let StreamReport { stream, incarnation, partitions, messages, bytes, .. } = report;
    let data = json!({
        "stream": stream, "incarnation": incarnation, "partitions": partitions,
        "messages": messages, "bytes": bytes, "differences": report.differences,
    });
    printer.data(&data, |_| {
        format!(
            "stream {stream}: {partitions} partitions, {} waiting ({}), incarnation {incarnation}",
            human::plural(*messages, "message"),
            human::bytes(*bytes)
        )
    })?;
    let mut differences = report.differences.clone();
    if !check {
        for one in differences.drain(..) {
            printer.say(&format!("changed: {one}"));
        }
    }
    differences.extend(report.partitions_differ.clone());
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("the stream is not as configured: {}", differences.join("; "))))
}
