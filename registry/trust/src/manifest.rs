//! The manifest: what a plugin says of itself, embedded as JSON in the custom section
//! `sentinel:manifest` of its component and thereby covered by the component's digest.

use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::capability::Kind;
use crate::limits::Limits;
use crate::name::{PluginName, Release};
use crate::requests::Requests;
use crate::text::{excerpt, is_unprintable, message};

/// The format of manifests that this crate reads and writes.
pub const MANIFEST_FORMAT: u32 = 1;
/// Most bytes of a manifest's JSON (256 KiB).
pub const MAX_MANIFEST_BYTES: usize = 256 << 10;
/// Most characters of a description.
pub const MAX_DESCRIPTION_CHARS: usize = 2_000;
/// Most characters of a licence, an author or a unit.
pub const MAX_LINE_CHARS: usize = 200;
/// Most authors.
pub const MAX_AUTHORS: usize = 50;
/// Most characters of a version.
pub const MAX_VERSION_CHARS: usize = 64;
/// Most metrics that a manifest may describe.
pub const MAX_METRICS: usize = 2_000;
/// Most characters of a metric's help.
pub const MAX_HELP_CHARS: usize = 500;
/// Deepest nesting of a config schema.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Format of the manifest: [`MANIFEST_FORMAT`].
    pub format: u32,
    /// Full name, `publisher/name`.
    pub name: PluginName,
    /// Semantic version, without build metadata: a version is one digest.
    pub version: Version,
    /// What it is for.
    pub kind: Kind,
    /// Version of the contract (`sentinel:plugin`) that it was built for.
    pub contract: Version,
    /// One sentence, or a few.
    pub description: String,
    /// SPDX expression of its licence.
    pub license: String,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authors: Vec<String>,
    /// Capabilities that it asks for.
    #[serde(default)]
    pub requests: Requests,
    /// Limits that it asks for.
    #[serde(default)]
    pub limits: Limits,
    /// JSON Schema (2020-12) of its configuration, an object.
    #[serde(default = "any_object")]
    pub config_schema: Map<String, Value>,
    /// The metrics that it makes, where they do not depend on the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricInfo>,
}

/// One metric that a plugin makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricInfo {
    /// Name, for example `system_cpu_time_seconds_total`.
    pub name: String,
    /// UCUM unit, for example `s`, `By`, `1`.
    pub unit: String,
    /// One sentence.
    pub help: String,
}

fn any_object() -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), Value::from("object"))])
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Larger than [`MAX_MANIFEST_BYTES`].
    #[error(
        "it has {bytes} bytes; at most {MAX_MANIFEST_BYTES} are allowed: shorten the config schema or the metrics"
    )]
    TooBig {
        /// Its size.
        bytes: usize,
    },
    /// Not JSON, or no field `format`.
    #[error("it is not a manifest: {0}")]
    NotJson(String),
    /// A format that this crate does not know.
    #[error(
        "its format is {found} and this host knows format {MANIFEST_FORMAT}: upgrade the host, or pack the plugin with the tools of this version"
    )]
    OtherFormat {
        /// The format that it names.
        found: u64,
    },
    /// Format 1 in the wrong shape: unknown or missing fields, wrong types.
    #[error("it does not have the shape of format {MANIFEST_FORMAT}: {0}")]
    Shape(String),
    /// Values out of bounds, all of them.
    #[error("it holds values that are not allowed:\n{}", list(.0))]
    Values(Vec<String>),
}

/// One problem a line, indented.
pub(crate) fn list(problems: &[String]) -> String {
    let lines: Vec<_> = problems.iter().map(|problem| format!("  - {problem}")).collect();
    lines.join("\n")
}

impl Manifest {
    /// Reads a manifest from its JSON and checks every value.
    ///
    /// # Errors
    ///
    /// If it is too big, not JSON, of another format, of another shape, or holds values that
    /// are out of bounds; the last names all of them.
    pub fn from_json(json: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct FormatOnly {
            format: u64,
        }

        if json.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooBig { bytes: json.len() });
        }
        // The format first: fields that this version does not know are no mistake of an
        // author whose format is newer.
        let FormatOnly { format } = serde_json::from_slice(json)
            .map_err(|error| ManifestError::NotJson(message(&error)))?;
        if format != u64::from(MANIFEST_FORMAT) {
            return Err(ManifestError::OtherFormat { found: format });
        }
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| ManifestError::Shape(message(&error)))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Name and version.
    #[must_use]
    pub fn release(&self) -> Release {
        Release { name: self.name.clone(), version: self.version.clone() }
    }

    /// The JSON that is embedded, one line.
    ///
    /// # Errors
    ///
    /// If a value is not allowed or the whole is too big: see [`check`](Self::check).
    pub fn to_json(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let json =
            serde_json::to_vec(self).map_err(|error| ManifestError::NotJson(message(&error)))?;
        if json.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::TooBig { bytes: json.len() });
        }
        Ok(json)
    }

    /// Checks every value, as [`from_json`](Self::from_json) does.
    ///
    /// # Errors
    ///
    /// [`ManifestError::OtherFormat`] or [`ManifestError::Values`] with every problem and its
    /// path.
    pub fn check(&self) -> Result<(), ManifestError> {
        if self.format != MANIFEST_FORMAT {
            return Err(ManifestError::OtherFormat { found: self.format.into() });
        }
        let mut problems = Vec::new();
        self.check_version(&mut problems);
        text("description", &self.description, MAX_DESCRIPTION_CHARS, true, &mut problems);
        text("license", &self.license, MAX_LINE_CHARS, false, &mut problems);
        if self.authors.len() > MAX_AUTHORS {
            problems.push(format!(
                "authors: {} of them; at most {MAX_AUTHORS} are allowed",
                self.authors.len()
            ));
        }
        for (at, author) in self.authors.iter().take(MAX_AUTHORS).enumerate() {
            text(&format!("authors[{at}]"), author, MAX_LINE_CHARS, false, &mut problems);
        }
        self.requests.problems(self.kind, &mut problems);
        self.limits.problems("limits", &mut problems);
        self.check_config_schema(&mut problems);
        self.check_metrics(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(ManifestError::Values(problems)) }
    }

    /// Compiles the config schema, so that an author hears of a mistake before a host does.
    /// Costs milliseconds and memory, so hosts do it when they have a config to check.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Values`] if it is not a JSON Schema that can be compiled on its own
    /// (references to other documents are not followed).
    pub fn check_schema_compiles(&self) -> Result<(), ManifestError> {
        jsonschema::draft202012::new(&Value::Object(self.config_schema.clone()))
            .map(|_| ())
            .map_err(|error| {
                let at = error.instance_path().as_str().replace('/', ".");
                ManifestError::Values(vec![format!(
                    "config_schema{}: not a JSON Schema: {}",
                    excerpt(&at),
                    message(&error)
                )])
            })
    }

    fn check_version(&self, problems: &mut Vec<String>) {
        let version = self.version.to_string();
        if version.len() > MAX_VERSION_CHARS {
            problems.push(format!(
                "version: {} characters; at most {MAX_VERSION_CHARS} are allowed",
                version.len()
            ));
        }
        if !self.version.build.is_empty() {
            problems.push(format!(
                "version: `{}` has build metadata (`+...`), which does not tell versions apart; leave it out",
                excerpt(&version)
            ));
        }
    }

    fn check_config_schema(&self, problems: &mut Vec<String>) {
        let takes_object = match self.config_schema.get("type") {
            Some(Value::String(name)) => name == "object",
            _ => false,
        };
        if !takes_object {
            problems.push(
                "config_schema.type: must be \"object\": a configuration is a JSON object".into(),
            );
        }
        let depth = self.config_schema.values().map(depth).max().unwrap_or(0) + 1;
        if depth > MAX_SCHEMA_DEPTH {
            problems.push(format!(
                "config_schema: nested {depth} deep; at most {MAX_SCHEMA_DEPTH} is allowed"
            ));
        }
    }

    fn check_metrics(&self, problems: &mut Vec<String>) {
        if self.metrics.len() > MAX_METRICS {
            problems.push(format!(
                "metrics: {} of them; at most {MAX_METRICS} are allowed",
                self.metrics.len()
            ));
        }
        for (at, metric) in self.metrics.iter().take(MAX_METRICS).enumerate() {
            if !is_metric_name(&metric.name) {
                problems.push(format!(
                    "metrics[{at}].name: `{}` is not a metric name ([a-zA-Z_][a-zA-Z0-9_]*, at most {MAX_LINE_CHARS})",
                    excerpt(&metric.name)
                ));
            }
            if metric.unit.chars().count() > MAX_LINE_CHARS
                || metric.unit.chars().any(is_unprintable)
            {
                problems
                    .push(format!("metrics[{at}].unit: `{}` is not a unit", excerpt(&metric.unit)));
            }
            text(&format!("metrics[{at}].help"), &metric.help, MAX_HELP_CHARS, true, problems);
        }
    }
}

fn is_metric_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    name.len() <= MAX_LINE_CHARS
        && bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Depth of a JSON value; the parser bounds it at 128, so recursion is safe.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Text that people read: not empty, bounded, and nothing that moves a terminal.
fn text(path: &str, value: &str, max: usize, lines: bool, problems: &mut Vec<String>) {
    let chars = value.chars().count();
    if value.trim().is_empty() {
        problems.push(format!("{path}: must not be empty"));
    }
    if chars > max {
        problems.push(format!("{path}: {chars} characters; at most {max} are allowed"));
    }
    if value.chars().any(|c| is_unprintable(c) && !(lines && c == '\n')) {
        problems.push(format!("{path}: holds control characters: `{}`", excerpt(value)));
    }
}
