//! Offline bundles: one file for hosts without a network.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sentinel_registry_client::BundleOptions;
use sentinel_trust::repository::{IndexedRelease, KeyPurpose, MAX_BUNDLE_BYTES, PluginRange};
use serde_json::{Value, json};

use crate::commands::now;
use crate::commands::reach::{Reach, role_key};
use crate::failure::Failure;
use crate::files;
use crate::output::{Printer, human};

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

#[derive(Debug, Subcommand)]
pub(crate) enum Bundle {
    /// Make a bundle of plugins and of what hosts verify them by.
    Create(Create),
    /// Verify a bundle and keep its plugins, without a network.
    Install(Install),
}

/// Options of `sentinel plugin bundle create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// What goes into it: publisher/name, or publisher/name@RANGE
    #[arg(required = true, value_name = "NAME[@RANGE]")]
    plugins: Vec<PluginRange>,
    /// The file to write; must not be there yet
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
    /// The secret key of an operator whom the hosts were enrolled with
    #[arg(long, value_name = "FILE")]
    operator_key: PathBuf,
    /// Days until hosts take nothing from it any more
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(i64).range(1..=366))]
    days: i64,
    #[command(flatten)]
    reach: Reach,
}

/// Options of `sentinel plugin bundle install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// The bundle
    file: PathBuf,
    #[command(flatten)]
    reach: Reach,
}

pub(super) async fn run(command: Bundle, printer: &Printer) -> Result<(), Failure> {
    match command {
        Bundle::Create(command) => create(command, printer).await,
        Bundle::Install(command) => install(command, printer).await,
    }
}

async fn create(command: Create, printer: &Printer) -> Result<(), Failure> {
    let key = role_key(&command.operator_key, KeyPurpose::Operator)?;
    let client = command.reach.open()?;
    let expires_at = now() + command.days * DAY_MS;
    let options = BundleOptions { plugins: command.plugins, expires_at };
    let (bytes, releases) = client.bundle(options, &key, now()).await?;
    files::create(&command.out, &bytes, 0o644)?;
    printer.say(&format!(
        "wrote {} ({}), good until {}",
        command.out.display(),
        human::bytes(bytes.len() as u64),
        human::moment(expires_at)
    ));
    tell(&releases, printer)
}

async fn install(command: Install, printer: &Printer) -> Result<(), Failure> {
    let client = command.reach.open()?;
    let bytes = files::read(&command.file, MAX_BUNDLE_BYTES)?;
    let kept = client
        .install_bundle(bytes, now())
        .await
        .map_err(|error| Failure::new(format!("{}: {error}", command.file.display())))?;
    printer.say(&format!("verified and kept {}", human::plural(kept.len() as u64, "plugin")));
    tell(&kept, printer)
}

fn tell(releases: &[IndexedRelease], printer: &Printer) -> Result<(), Failure> {
    let one = |release: &IndexedRelease| -> Value {
        json!({ "name": release.name, "version": release.version, "digest": release.digest })
    };
    let shown: Vec<_> = releases.iter().map(one).collect();
    printer.data(&shown, |_| {
        releases.iter().map(|release| format!("{}@{}\n", release.name, release.version)).collect()
    })
}
