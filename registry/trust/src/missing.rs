//! What a manifest requests and the grants do not name, in words that tell how to grant it.

use std::fmt;

use crate::origin::{HttpMethod, OriginPattern};
use crate::paths::PathGlob;

/// Something that a manifest requests and the grants do not name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MissingGrant {
    /// Readings of the machine.
    System,
    /// Any HTTP origin, where the operator is to choose.
    AnyOrigin,
    /// This origin, or one that the pattern covers.
    Origin(OriginPattern),
    /// This method.
    Method(HttpMethod),
    /// A relay for mail.
    Mail,
    /// Any path, where the operator is to choose.
    AnyPath,
    /// This path, or one that the glob covers.
    Path(PathGlob),
    /// The name of a key.
    MacKey,
    /// State of so many bytes.
    Kv {
        /// Bytes asked for.
        asked: u64,
        /// Bytes granted, if any are.
        granted: Option<u64>,
    },
    /// Stored series.
    Series,
}

impl fmt::Display for MissingGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("readings of the machine: `system: true`"),
            Self::AnyOrigin => f.write_str(
                "HTTP requests to origins of your choice: name them under `http.origins`",
            ),
            Self::Origin(pattern) => match pattern.exact() {
                Some(origin) => write!(f, "HTTP requests to {origin}: add it to `http.origins`"),
                None => write!(
                    f,
                    "HTTP requests to {pattern}: name at least one such origin under `http.origins`"
                ),
            },
            Self::Method(method) => {
                write!(f, "HTTP requests with {method}: add it to `http.methods`")
            }
            Self::Mail => {
                f.write_str("mail: name the relay, the senders and the recipients under `mail`")
            }
            Self::AnyPath => {
                f.write_str("reading files of your choice: name them under `files.paths`")
            }
            Self::Path(glob) => {
                write!(f, "reading {glob}: add it, or what you allow of it, to `files.paths`")
            }
            Self::MacKey => {
                f.write_str("message authentication: name the keys it may use under `mac.keys`")
            }
            Self::Kv { asked, granted: None } => {
                write!(f, "{asked} bytes of state: `kv: {{max_bytes: {asked}}}`")
            }
            Self::Kv { asked, granted: Some(granted) } => write!(
                f,
                "{asked} bytes of state where {granted} are granted: `kv: {{max_bytes: {asked}}}`"
            ),
            Self::Series => f.write_str("asking for stored series: `series: true`"),
        }
    }
}

/// Everything that a manifest requests and the grants do not name, in one message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it asks for more than its grants name; to let it run, grant:\n{}", lines(.0))]
pub struct MissingGrants(pub Vec<MissingGrant>);

fn lines(missing: &[MissingGrant]) -> String {
    let lines: Vec<_> = missing.iter().map(|one| format!("  - {one}")).collect();
    lines.join("\n")
}
