//! `sentinel-oracle`: reads a database and the logs of agents, and says whether each value of
//! their counters is stored exactly once.
//!
//! Ends with 0 where it holds, 1 where it does not, 2 where that cannot be told.

use anyhow::{Context, Result};
use clap::Parser;
use sentinel_oracle::{Report, database, judge, logs::Logs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often it looks again while something is missing.
const LOOK: Duration = Duration::from_millis(250);

/// Whether a database holds what counters made, each value once.
#[derive(Debug, Parser)]
#[command(name = "sentinel-oracle")]
struct Args {
    /// `postgres://…`, or the path of a SQLite database
    #[arg(long, value_name = "URL|FILE")]
    store: String,
    /// An agent's id and its log, as `ID=FILE`; as often as there are agents
    #[arg(long = "log", value_name = "ID=FILE", value_parser = named, required = true)]
    logs: Vec<(String, PathBuf)>,
    /// Wait so many seconds for what is missing; what is stored twice is said at once
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    within: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

fn named(text: &str) -> Result<(String, PathBuf), String> {
    let (id, file) = text.split_once('=').ok_or("write ID=FILE")?;
    Ok((id.to_owned(), file.into()))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    match decide(&args).await {
        Ok(report) => {
            match serde_json::to_string_pretty(&report) {
                Ok(json) if args.json => println!("{json}"),
                _ => println!("{report}"),
            }
            ExitCode::from(u8::from(!report.holds()))
        }
        Err(error) => {
            eprintln!("sentinel-oracle: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn decide(args: &Args) -> Result<Report> {
    let mut logs = Logs::default();
    for (id, file) in &args.logs {
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        logs.add(id, &String::from_utf8_lossy(&text));
    }
    let until = Instant::now() + Duration::from_secs(args.within);
    loop {
        let report = match database::read(&args.store).await {
            Ok(stored) => judge(&logs, &stored),
            Err(error) if Instant::now() >= until => return Err(error),
            Err(_) => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
        };
        if report.holds() || !report.may_still_hold() || Instant::now() >= until {
            return Ok(report);
        }
        tokio::time::sleep(LOOK).await;
    }
}
