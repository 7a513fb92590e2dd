//! `sentinel plugin`: from a core module to a signed plugin.

mod bundle;
mod inspect;
mod install;
mod installed;
mod keygen;
pub(super) mod machine;
mod own;
mod pack;
mod publish;
pub(super) mod requests;
mod search;
mod sign;

use std::path::{Path, PathBuf};

use clap::Subcommand;
use semver::Version;
use sentinel_trust::{MAX_COMPONENT_BYTES, NameError, PluginName, TrustError};

use super::ask;
use super::fleet::switch;
use super::reach::wait;
use super::registry;
use crate::args::Global;
use crate::failure::Failure;
use crate::files;
use crate::output::Printer;

/// A core module has a little more around its code than the component made of it.
const MAX_MODULE_BYTES: usize = 2 * MAX_COMPONENT_BYTES;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins of this machine, and what its registry has beside.
    List(installed::List),
    /// Install a plugin on hosts of the fleet; or, from a file, on this machine.
    Install(install::Install),
    /// Move the fleet's slots of a plugin to a newer version; or those of this machine.
    Upgrade(install::Upgrade),
    /// Forget a plugin on this machine.
    Remove(installed::Remove),
    /// Go back to what the fleet ran before: a new set with an older one's content.
    Rollback(switch::Rollback),
    /// Switch a slot of the fleet off, keeping how it was set up.
    Disable(switch::Slot),
    /// Switch a slot of the fleet on again.
    Enable(switch::Slot),
    /// Take a slot out of the fleet.
    Uninstall(switch::Slot),
    /// Make a key pair with which a publisher signs plugins.
    Keygen(keygen::Keygen),
    /// Make a plugin of a core module or component and its manifest.
    Pack(pack::Pack),
    /// Sign a plugin: writes FILE.sig beside it.
    Sign(sign::Sign),
    /// Show what a plugin is, what it asks for and who signed it.
    Inspect(inspect::Inspect),
    /// Sign a plugin and publish it to a registry.
    Publish(publish::Publish),
    /// Ask that nobody installs a published version anew.
    Yank(publish::Yank),
    /// Stop a published version wherever it runs: `sentinel registry revoke` by its name.
    Revoke(registry::RevokeRelease),
    /// Look for plugins in a registry.
    Search(search::Search),
    /// Plugins in one file, for hosts without a network.
    #[command(subcommand)]
    Bundle(bundle::Bundle),
}

/// One version of a plugin, `publisher/name@1.2.3`.
#[derive(Debug, Clone)]
pub(crate) struct ExactPlugin {
    name: PluginName,
    version: Version,
}

impl std::str::FromStr for ExactPlugin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) =
            text.split_once('@').ok_or("write publisher/name@1.2.3, with its version")?;
        Ok(Self {
            name: name.parse().map_err(|error: NameError| error.to_string())?,
            version: version.parse().map_err(|error| format!("{version}: {error}"))?,
        })
    }
}

/// Does one of them.
pub(super) fn run(
    command: PluginCommand,
    global: &Global,
    printer: &Printer,
) -> Result<(), Failure> {
    match command {
        PluginCommand::List(command) => wait(installed::list(command, printer)),
        PluginCommand::Install(command) => install::run(command, global, printer),
        PluginCommand::Upgrade(command) => install::upgrade(command, global, printer),
        PluginCommand::Remove(command) => wait(installed::remove(command, printer)),
        PluginCommand::Rollback(command) => {
            ask(global, async |client| switch::rollback(command, client, printer).await)
        }
        PluginCommand::Disable(command) => {
            ask(global, async |client| switch::disable(command, true, client, printer).await)
        }
        PluginCommand::Enable(command) => {
            ask(global, async |client| switch::disable(command, false, client, printer).await)
        }
        PluginCommand::Uninstall(command) => {
            ask(global, async |client| switch::uninstall(command, client, printer).await)
        }
        PluginCommand::Keygen(command) => keygen::run(command, printer),
        PluginCommand::Pack(command) => pack::run(command, printer),
        PluginCommand::Sign(command) => sign::run(command, printer),
        PluginCommand::Inspect(command) => inspect::run(command, printer),
        PluginCommand::Publish(command) => wait(publish::publish(command, printer)),
        PluginCommand::Yank(command) => wait(publish::yank(command, printer)),
        PluginCommand::Revoke(command) => wait(registry::revoke_release(command, printer)),
        PluginCommand::Search(command) => wait(search::run(command, printer)),
        PluginCommand::Bundle(command) => wait(bundle::run(command, printer)),
    }
}

/// Where the signatures of a component lie.
fn signature_path(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".sig");
    name.into()
}

/// What is in the file of signatures beside a component; nothing where there is none.
fn read_signatures(component: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let path = signature_path(component);
    if path.exists() {
        files::read(&path, sentinel_trust::MAX_SIGNATURE_FILE_BYTES).map(Some)
    } else {
        Ok(None)
    }
}

/// Everything for which every host would refuse a plugin, as one failure.
fn refuse(file: &Path, problems: &[TrustError]) -> Result<(), Failure> {
    if problems.is_empty() {
        return Ok(());
    }
    // What a problem lists itself stands below it.
    let list =
        problems.iter().map(|one| format!("\n  - {}", one.to_string().replace('\n', "\n  ")));
    let list: String = list.collect();
    Err(Failure::new(format!("{}: every host would refuse this plugin:{list}", file.display())))
}
