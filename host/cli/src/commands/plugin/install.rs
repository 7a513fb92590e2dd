//! `sentinel plugin install`: of a file, for a server; of a name, for the fleet.

use std::path::{Path, PathBuf};

use clap::Args;
use sentinel_trust::repository::PluginRange;

use super::installed;
use crate::client::Client;
use crate::commands::fleet::{install, upgrade};
use crate::failure::Failure;
use crate::output::Printer;

/// Options of `sentinel plugin install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// A plugin of the registry, publisher/name@^1, for the fleet; or a file, with its signatures
    /// beside it in FILE.sig, for the server
    #[arg(value_name = "NAME[@RANGE]|FILE", value_parser = what)]
    plugin: What,
    #[command(flatten)]
    fleet: Box<install::Options>,
}

/// Options of `sentinel plugin upgrade`.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The plugin, and the versions that will do; else those it was installed with
    #[arg(value_name = "NAME[@RANGE]")]
    plugin: PluginRange,
    #[command(flatten)]
    fleet: Box<upgrade::Options>,
}

/// What is to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    File(PathBuf),
    Plugin(PluginRange),
}

/// A file is what is one, or is called like one.
fn what(text: &str) -> Result<What, String> {
    let path = Path::new(text);
    if path.is_file() || path.extension().is_some_and(|extension| extension == "wasm") {
        return Ok(What::File(path.to_owned()));
    }
    text.parse().map(What::Plugin).map_err(|error| format!("neither a file nor a plugin: {error}"))
}

pub(super) async fn run(
    command: Install,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    match command.plugin {
        What::Plugin(plugin) => install::run(plugin, *command.fleet, client, printer).await,
        What::File(file) if command.fleet.for_a_fleet() => Err(Failure::new(format!(
            "{} is a file, and hosts of a fleet get plugins from the registry",
            file.display()
        ))
        .hint("publish it with `sentinel plugin publish`, and install it by its name")),
        What::File(file) => installed::install(file, client, printer).await,
    }
}

pub(super) async fn upgrade(
    command: Upgrade,
    client: &Client,
    printer: &Printer,
) -> Result<(), Failure> {
    upgrade::run(command.plugin, *command.fleet, client, printer).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_what_is_one_or_is_called_like_one() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("plugin");
        std::fs::write(&there, "").unwrap();
        let file = |path: &Path| Ok(What::File(path.to_owned()));
        assert_eq!(what(there.to_str().unwrap()), file(&there));
        assert_eq!(what("none.wasm"), file(Path::new("none.wasm")));
        assert_eq!(what("acme/toy@^1"), Ok(What::Plugin("acme/toy@^1".parse().unwrap())));
        // A folder is no file, whatever it is called like.
        assert!(what(dir.path().to_str().unwrap()).is_err());
        assert!(what("toy").unwrap_err().contains("neither a file nor a plugin"));
    }
}
