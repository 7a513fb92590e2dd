//! Capabilities: what an import lets a plugin do, and which capability an import needs.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The version of the contract that this host speaks: WIT package `sentinel:plugin@0.1.0`.
pub const CONTRACT: semver::Version = semver::Version::new(0, 1, 0);

/// The WIT package of the contract, without its version.
pub const CONTRACT_PACKAGE: &str = "sentinel:plugin";

/// The custom section that holds a component's manifest.
pub const MANIFEST_SECTION: &str = "sentinel:manifest";

/// WASI packages of version 0.2 that a host links with nothing behind them: no files, no
/// arguments, no sockets, standard error into the plugin's log.
const EMPTY_WASI_PACKAGES: [&str; 6] =
    ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];

/// What a plugin is for: each kind is one WIT world.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Makes samples.
    Collector,
    /// Shapes samples.
    Transform,
    /// Decides about alerts.
    Evaluator,
    /// Tells somebody.
    Notifier,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Collector, Self::Transform, Self::Evaluator, Self::Notifier];

    /// The kind's name, which is also its world's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Collector => "collector",
            Self::Transform => "transform",
            Self::Evaluator => "evaluator",
            Self::Notifier => "notifier",
        }
    }

    /// The interface, beside `plugin`, that a component of the kind exports.
    #[must_use]
    pub const fn interface(self) -> &'static str {
        match self {
            Self::Collector => "collect",
            Self::Transform => "reshape",
            Self::Evaluator => "evaluate",
            Self::Notifier => "notify",
        }
    }

    /// Capabilities that the kind's world offers at all.
    #[must_use]
    pub const fn capabilities(self) -> &'static [Capability] {
        match self {
            Self::Collector => &[
                Capability::System,
                Capability::Http,
                Capability::Files,
                Capability::Mac,
                Capability::Kv,
            ],
            Self::Transform => &[],
            Self::Evaluator => &[Capability::Series],
            Self::Notifier => {
                &[Capability::Http, Capability::Mail, Capability::Mac, Capability::Kv]
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that a plugin may do only if its manifest requests it and an operator grants it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Readings of the machine.
    System,
    /// HTTP requests.
    Http,
    /// Mail through the operator's relay.
    Mail,
    /// Reading files.
    Files,
    /// Message authentication with a named key.
    Mac,
    /// State that survives restarts.
    Kv,
    /// Asking for stored series.
    Series,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 7] =
        [Self::System, Self::Http, Self::Mail, Self::Files, Self::Mac, Self::Kv, Self::Series];

    /// The capability's name in manifests and grants, which is also its interface's.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Http => "http",
            Self::Mail => "mail",
            Self::Files => "files",
            Self::Mac => "mac",
            Self::Kv => "kv",
            Self::Series => "series",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an import needs before it may be linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Need {
    /// Nothing: every plugin has it (`types`, `log`, `clock`, empty WASI).
    Nothing,
    /// A capability that the manifest must request and the operator grant.
    Capability(Capability),
    /// An interface of another version of the contract.
    OtherContract,
    /// Nothing that a host has.
    Unknown,
}

/// What the import or export called `name` needs (`sentinel:plugin/http@0.1.0`,
/// `wasi:io/streams@0.2.6`).
#[must_use]
pub fn need_of_import(name: &str) -> Need {
    let Some((path, version)) = name.split_once('@') else {
        return Need::Unknown;
    };
    let Some((package, interface)) = path.split_once('/') else {
        return Need::Unknown;
    };
    let Ok(version) = semver::Version::parse(version) else {
        return Need::Unknown;
    };
    if package == CONTRACT_PACKAGE {
        if version != CONTRACT {
            return Need::OtherContract;
        }
        return match interface {
            "types" | "log" | "clock" => Need::Nothing,
            other => Capability::ALL
                .into_iter()
                .find(|capability| capability.as_str() == other)
                .map_or(Need::Unknown, Need::Capability),
        };
    }
    let preview_2 = version.major == 0 && version.minor == 2 && version.pre.is_empty();
    if preview_2 && package == "wasi:http" {
        return Need::Capability(Capability::Http);
    }
    if preview_2 && EMPTY_WASI_PACKAGES.contains(&package) {
        return Need::Nothing;
    }
    Need::Unknown
}

/// The full name of an interface of the contract that this host speaks.
pub(crate) fn contract_interface(interface: &str) -> String {
    format!("{CONTRACT_PACKAGE}/{interface}@{CONTRACT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_import_has_its_need() {
        for (name, need) in [
            ("sentinel:plugin/types@0.1.0", Need::Nothing),
            ("sentinel:plugin/log@0.1.0", Need::Nothing),
            ("sentinel:plugin/clock@0.1.0", Need::Nothing),
            ("sentinel:plugin/system@0.1.0", Need::Capability(Capability::System)),
            ("sentinel:plugin/http@0.1.0", Need::Capability(Capability::Http)),
            ("sentinel:plugin/mail@0.1.0", Need::Capability(Capability::Mail)),
            ("sentinel:plugin/files@0.1.0", Need::Capability(Capability::Files)),
            ("sentinel:plugin/mac@0.1.0", Need::Capability(Capability::Mac)),
            ("sentinel:plugin/kv@0.1.0", Need::Capability(Capability::Kv)),
            ("sentinel:plugin/series@0.1.0", Need::Capability(Capability::Series)),
            ("sentinel:plugin/http@0.2.0", Need::OtherContract),
            ("sentinel:plugin/http@0.1.1", Need::OtherContract),
            ("sentinel:plugin/probes@0.1.0", Need::Unknown),
            ("sentinel:plugin/http", Need::Unknown),
            ("sentinel:plugins/http@0.1.0", Need::Unknown),
            ("wasi:io/streams@0.2.6", Need::Nothing),
            ("wasi:sockets/tcp@0.2.0", Need::Nothing),
            ("wasi:http/outgoing-handler@0.2.6", Need::Capability(Capability::Http)),
            ("wasi:http/outgoing-handler@0.3.0", Need::Unknown),
            ("wasi:io/streams@0.2.0-rc-2023-11-10", Need::Unknown),
            ("wasi:keyvalue/store@0.2.0", Need::Unknown),
            ("wasi_snapshot_preview1", Need::Unknown),
            ("", Need::Unknown),
            ("@", Need::Unknown),
        ] {
            assert_eq!(need_of_import(name), need, "{name}");
        }
    }
}
