//! Publishing, and taking back.

use std::path::PathBuf;

use clap::Args;
use sentinel_registry_client::{Published, Publisher, RegistryClient};
use sentinel_trust::repository::{PluginRange, RequestsDifference};
use sentinel_trust::{MAX_COMPONENT_BYTES, PublisherKey, Requests};
use serde_json::json;

use crate::commands::now;
use crate::commands::reach::{Reach, publisher_key, token};
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// What whoever publishes needs.
#[derive(Debug, Args)]
struct Credentials {
    #[command(flatten)]
    reach: Reach,
    /// The publisher's secret key, as `sentinel plugin keygen` wrote it
    #[arg(long, short, value_name = "FILE")]
    key: PathBuf,
    /// File with the token that the registry's owner gave
    #[arg(long, value_name = "FILE", env = "SENTINEL_REGISTRY_TOKEN_FILE", hide_env_values = true)]
    token_file: PathBuf,
}

/// Options of `sentinel plugin publish`.
#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The plugin, as `sentinel plugin pack` wrote it
    file: PathBuf,
    #[command(flatten)]
    credentials: Credentials,
}

/// Options of `sentinel plugin yank`.
#[derive(Debug, Args)]
pub(crate) struct Yank {
    /// publisher/name@1.2.3
    #[arg(value_name = "NAME@VERSION")]
    plugin: super::ExactPlugin,
    #[command(flatten)]
    credentials: Credentials,
}

impl Credentials {
    fn open(&self) -> Result<(RegistryClient, PublisherKey), Failure> {
        Ok((self.reach.open()?, publisher_key(&self.key)?))
    }

    fn publisher<'a>(
        &self,
        client: &'a RegistryClient,
        key: &'a PublisherKey,
    ) -> Result<Publisher<'a>, Failure> {
        Ok(Publisher { client, key, token: token(&self.token_file)? })
    }
}

pub(super) async fn publish(command: Publish, printer: &Printer) -> Result<(), Failure> {
    let (client, key) = command.credentials.open()?;
    let component = files::read(&command.file, MAX_COMPONENT_BYTES)?;
    let publisher = command.credentials.publisher(&client, &key)?;
    let published = publisher
        .publish(&component, now())
        .await
        .map_err(|error| Failure::new(format!("{}: {error}", command.file.display())))?;
    let release = &published.release;
    if published.was_there {
        printer.say(&format!("{} is published already, with these very bytes", release.release()));
        return tell(&published, printer);
    }
    printer.say(&format!("published {} as {}", release.release(), release.digest));
    say_difference(&client, &published, printer);
    tell(&published, printer)
}

/// Tells the author what an upgrade asks of operators: it will wait for their word.
fn say_difference(client: &RegistryClient, published: &Published, printer: &Printer) {
    let release = &published.release;
    let view = client.view();
    let before = view
        .releases()
        .filter(|one| one.name == release.name && one.version < release.version && !one.yanked);
    let Some(before) = before.max_by(|a, b| a.version.cmp(&b.version)) else { return };
    let difference = RequestsDifference::between(&before.requests, &release.requests);
    if difference.asks_for_more() {
        let lines =
            difference.added.iter().map(|line| format!("\n  {} {}", line.capability, line.what));
        printer.warn(&format!(
            "it asks for more than {}, so upgrades stop until an operator grants it:{}",
            before.version,
            lines.collect::<String>()
        ));
    }
}

pub(super) async fn yank(command: Yank, printer: &Printer) -> Result<(), Failure> {
    let (client, key) = command.credentials.open()?;
    let publisher = command.credentials.publisher(&client, &key)?;
    let super::ExactPlugin { name, version } = &command.plugin;
    let published = publisher.yank(name, version, now()).await?;
    printer.say(&format!("{name} {version} is installed by nobody any more"));
    printer.hint("where it runs it goes on: `sentinel registry revoke` stops it");
    tell(&published, printer)
}

fn tell(published: &Published, printer: &Printer) -> Result<(), Failure> {
    let release = &published.release;
    let shown = json!({
        "name": release.name,
        "version": release.version,
        "digest": release.digest,
        "index": published.number,
        "yanked": release.yanked,
        "was_there": published.was_there,
        "requests": RequestsDifference::between(&Requests::default(), &release.requests).added,
    });
    printer
        .data(&shown, |_| PluginRange::exactly(release.name.clone(), &release.version).to_string())
}
