//! `sentinel-oracle`: reads a database and the logs of agents, and says whether each value of
//! their counters is stored exactly once; with `--alerts` whether what is stored of alerts is what
//! the reference makes of the evaluations that were journaled.
//!
//! Ends with 0 where it holds, 1 where it does not, 2 where that cannot be told, and 3 where it
//! holds so far, and what `--after` waits for did not come.

use anyhow::{Context, Result};
use clap::Parser;
use sentinel_oracle::{Report, alerts, database, judge, logs::Logs};
use serde::Serialize;
use std::fmt::Display;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// How often it looks again while something is missing.
const LOOK: Duration = Duration::from_millis(250);

/// Whether a database holds what counters made, each value once, or alerts as they should be.
#[derive(Debug, Parser)]
#[command(name = "sentinel-oracle")]
struct Args {
    /// `postgres://…`, or the path of a SQLite database
    #[arg(long, value_name = "URL|FILE")]
    store: String,
    /// An agent's id and its log, as `ID=FILE`; as often as there are agents
    #[arg(long = "log", value_name = "ID=FILE", value_parser = named, required_unless_present = "alerts")]
    logs: Vec<(String, PathBuf)>,
    /// Judge alerts, by the database alone
    #[arg(long, conflicts_with = "logs")]
    alerts: bool,
    /// Wait until an alert began to fire, and one was over, later than this
    #[arg(long, value_name = "UNIX-MS", requires = "alerts")]
    after: Option<i64>,
    /// Wait so many seconds for what is missing; what is wrong for good is said at once
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
    let code = match args.alerts {
        true => of_alerts(&args).await,
        false => of_samples(&args).await,
    };
    match code {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("sentinel-oracle: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn print(args: &Args, report: &(impl Serialize + Display)) {
    match serde_json::to_string_pretty(report) {
        Ok(json) if args.json => println!("{json}"),
        _ => println!("{report}"),
    }
}

async fn of_samples(args: &Args) -> Result<u8> {
    let mut logs = Logs::default();
    for (id, file) in &args.logs {
        let text = std::fs::read(file).with_context(|| file.display().to_string())?;
        logs.add(id, &String::from_utf8_lossy(&text));
    }
    let is_over = |report: &Report| report.holds() || !report.may_still_hold();
    let look = async || Ok(judge(&logs, &database::read(&args.store).await?));
    let report = until(args.within, look, is_over).await?;
    print(args, &report);
    Ok(u8::from(!report.holds()))
}

async fn of_alerts(args: &Args) -> Result<u8> {
    let went_on = |report: &alerts::Report| args.after.is_none_or(|after| report.went_on(after));
    let is_over =
        |report: &alerts::Report| report.difference.is_some() || report.holds() && went_on(report);
    let look = async || alerts::judge(&alerts::read(&args.store).await?);
    let report = until(args.within, look, is_over).await?;
    print(args, &report);
    Ok(match (&report.difference, is_over(&report)) {
        (Some(_), _) => 1,
        (None, true) => 0,
        (None, false) => 3,
    })
}

/// Looks until it is over, or so many seconds are; then the last look counts.
async fn until<T>(
    seconds: u64,
    look: impl AsyncFn() -> Result<T>,
    is_over: impl Fn(&T) -> bool,
) -> Result<T> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        match look().await {
            Ok(report) if is_over(&report) || Instant::now() >= until => return Ok(report),
            Err(error) if Instant::now() >= until => return Err(error),
            Ok(_) | Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}
