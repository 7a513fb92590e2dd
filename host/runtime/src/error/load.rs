//! Why a plugin was not taken into a slot.

use sentinel_model::ids::SlotName;
use sentinel_trust::{MissingGrants, PluginName};

use super::{Cause, Diagnostic, lines};
use crate::admission::Refusal;
use crate::compiler::CompileError;

/// Why a plugin was not taken into a slot. What ran there before goes on.
#[derive(Debug, thiserror::Error)]
#[error("slot {slot}: {plugin} {version} was not loaded: {cause}")]
pub struct LoadError {
    /// The slot.
    pub slot: SlotName,
    /// The plugin.
    pub plugin: PluginName,
    /// Its version.
    pub version: Box<semver::Version>,
    /// Why.
    #[source]
    pub cause: LoadCause,
}

/// Why a plugin was not taken into a slot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadCause {
    /// It asks for more than its grants name.
    #[error(transparent)]
    Grants(#[from] MissingGrants),
    /// Values of the grants are not allowed.
    #[error("its grants hold values that are not allowed:{}", bullets(.0))]
    BadGrants(Vec<String>),
    /// It imports what this host does not have or may not give; all of them.
    #[error("it imports what it may not have:{}", bullets(.0))]
    Imports(Vec<String>),
    /// It lacks exports of its kind, or has them with other types.
    #[error("it does not export what its kind needs: {0}; build it against the contract")]
    Exports(String),
    /// The slot holds a plugin of another kind.
    #[error("it is a {found} and the slot is for a {expected}")]
    OtherKind {
        /// What the slot is for.
        expected: sentinel_trust::Kind,
        /// What was given.
        found: sentinel_trust::Kind,
    },
    /// It could not be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// It could not be instantiated.
    #[error("it could not be instantiated: {0}")]
    Instantiate(String),
    /// What it says of itself differs from its signed manifest.
    #[error("{0}")]
    Description(String),
    /// The config does not fit the manifest's schema, or the plugin refuses it.
    #[error("its config was refused:{}", lines(.0))]
    Config(Vec<Diagnostic>),
    /// A call during loading failed.
    #[error("{export}: {cause}")]
    Call {
        /// The function.
        export: &'static str,
        /// Why.
        cause: Cause,
    },
    /// The state that the generation before kept in memory was not taken over.
    #[error(
        "it did not take over the state of {from}: {cause}; to begin without it, disable the slot first"
    )]
    Restore {
        /// Which version's state.
        from: Box<semver::Version>,
        /// Why.
        cause: Cause,
    },
    /// It may not run.
    #[error(transparent)]
    NotAdmitted(#[from] Refusal),
    /// A set names a slot twice.
    #[error("the slot is named twice in one set; name it once")]
    Twice,
    /// A set has too many slots.
    #[error("the set changes {slots} slots at once; at most {most}: apply it in parts")]
    TooMany {
        /// How many there are.
        slots: usize,
        /// How many may be.
        most: usize,
    },
    /// The slot was disabled, or got something else, while this was loaded.
    #[error("{0} while it was loaded")]
    Overtaken(&'static str),
    /// The slot was stopped meanwhile.
    #[error("the slot was stopped")]
    Stopped,
}

fn bullets(texts: &[String]) -> String {
    let lines: Vec<_> = texts.iter().map(|one| format!("\n  - {one}")).collect();
    lines.concat()
}
