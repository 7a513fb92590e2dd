//! `sentinel plugin install` and `upgrade`: of names, for the fleet; of a file, or of what the
//! own slots of this machine name, for this machine.

use std::path::{Path, PathBuf};

use clap::Args;
use sentinel_trust::repository::PluginRange;

use super::machine::Machine;
use super::own;
use crate::args::Global;
use crate::commands::ask;
use crate::commands::fleet::{install, upgrade};
use crate::commands::reach::wait;
use crate::failure::Failure;
use crate::output::Printer;

/// Options of `sentinel plugin install`.
#[derive(Debug, Args)]
pub(crate) struct Install {
    /// A plugin of the registry, publisher/name@^1, for the fleet; or a file, as `sentinel plugin
    /// pack` wrote it, for this machine: it is published to the registry of its `sentinel up`
    #[arg(value_name = "NAME[@RANGE]|FILE", value_parser = what)]
    plugin: What,
    /// The secret key of the publisher of FILE; what is published already needs none
    #[arg(long, value_name = "KEY")]
    publisher_key: Option<PathBuf>,
    #[command(flatten)]
    fleet: Box<install::Options>,
}

/// Options of `sentinel plugin upgrade`.
#[derive(Debug, Args)]
pub(crate) struct Upgrade {
    /// The plugin, and the versions that will do; else those it was installed with
    #[arg(value_name = "NAME[@RANGE]", required_unless_present = "here")]
    plugin: Option<PluginRange>,
    /// Not the fleet: what the slots of this machine's configuration name, this plugin or all
    #[arg(long)]
    here: bool,
    #[command(flatten)]
    machine: Machine,
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

pub(super) fn run(command: Install, global: &Global, printer: &Printer) -> Result<(), Failure> {
    let Install { plugin, publisher_key, fleet } = command;
    match plugin {
        What::Plugin(_) if publisher_key.is_some() => {
            Err(Failure::new("--publisher-key is for a file, and this is a name"))
        }
        What::Plugin(plugin) => {
            ask(global, async |client| install::run(plugin, *fleet, client, printer).await)
        }
        What::File(file) if fleet.for_a_fleet() => Err(Failure::new(format!(
            "{} is a file, and hosts of a fleet get plugins from the registry",
            file.display()
        ))
        .hint("publish it with `sentinel plugin publish`, and install it by its name")),
        What::File(file) => {
            wait(own::install(&file, publisher_key.as_deref(), fleet.agreed(), printer))
        }
    }
}

pub(super) fn upgrade(command: Upgrade, global: &Global, printer: &Printer) -> Result<(), Failure> {
    let Upgrade { plugin, here, machine, fleet } = command;
    match plugin {
        Some(plugin) if !here => {
            ask(global, async |client| upgrade::run(plugin, *fleet, client, printer).await)
        }
        Some(plugin) if plugin.versions != semver::VersionReq::STAR => {
            Err(Failure::new("the versions that will do stand in this machine's configuration")
                .hint("name the plugin without versions"))
        }
        plugin => {
            let name = plugin.map(|plugin| plugin.name);
            wait(own::upgrade(name.as_ref(), &machine, fleet.agreed(), printer))
        }
    }
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
