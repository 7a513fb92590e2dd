//! Grants: what an operator allows a plugin in one slot.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::limits::LimitOverrides;
use crate::mail::MailGrant;
use crate::origin::{HttpMethod, Origin};
use crate::paths::PathGlob;
use crate::requests::{MAX_KV_BYTES, MAX_LISTED};
use crate::text::excerpt;

/// Most bytes of a response body that a grant may allow (64 MiB).
pub const MAX_RESPONSE_BYTES: u64 = 64 << 20;
/// Longest exchange that a grant may allow, in milliseconds (2 minutes).
pub const MAX_TIMEOUT_MS: u64 = 120_000;
/// Most bytes of one file read that a grant may allow (64 MiB).
pub const MAX_FILE_BYTES: u64 = 64 << 20;
/// Most bytes that the file reads of one call may come to together (256 MiB).
pub const MAX_FILE_CALL_BYTES: u64 = 256 << 20;
/// Longest name of a secret or a key.
pub const MAX_SECRET_NAME_CHARS: usize = 100;

/// Headers that a secret must not fill: they frame the request or choose its target.
const FRAMING_HEADERS: [&str; 9] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "proxy-connection",
    "keep-alive",
];

/// What an operator allows. What is not named is not allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Grants {
    /// Readings of the machine.
    #[serde(skip_serializing_if = "is_false")]
    pub system: bool,
    /// HTTP requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGrant>,
    /// Mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailGrant>,
    /// Reading files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesGrant>,
    /// Message authentication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacGrant>,
    /// State that survives restarts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvGrant>,
    /// Asking for stored series.
    #[serde(skip_serializing_if = "is_false")]
    pub series: bool,
    /// Limits in place of those that the manifest asks for.
    #[serde(skip_serializing_if = "is_default")]
    pub limits: LimitOverrides,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape serde calls")]
const fn is_false(value: &bool) -> bool {
    !*value
}

fn is_default(overrides: &LimitOverrides) -> bool {
    *overrides == LimitOverrides::default()
}

/// HTTP: where to, how, with which secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// Origins that may be called. An address or a name that leads to loopback or link-local
    /// addresses is reached only if it stands here itself.
    pub origins: BTreeSet<Origin>,
    /// Methods that may be used; reading only where left out.
    #[serde(default = "reading")]
    pub methods: BTreeSet<HttpMethod>,
    /// Secrets that the host may fill in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretGrant>,
    /// Most bytes of a response body: 4 MiB unless set, at most [`MAX_RESPONSE_BYTES`].
    #[serde(default = "response_bytes")]
    pub response_bytes: u64,
    /// Longest exchange in milliseconds: 10 s unless set, at most [`MAX_TIMEOUT_MS`].
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

fn reading() -> BTreeSet<HttpMethod> {
    BTreeSet::from([HttpMethod::Get, HttpMethod::Head])
}

const fn response_bytes() -> u64 {
    4 << 20
}

const fn timeout_ms() -> u64 {
    10_000
}

impl HttpGrant {
    /// A grant of these origins: reading only, no secrets, default caps.
    #[must_use]
    pub fn reading(origins: impl IntoIterator<Item = Origin>) -> Self {
        Self {
            origins: origins.into_iter().collect(),
            methods: reading(),
            secrets: Vec::new(),
            response_bytes: response_bytes(),
            timeout_ms: timeout_ms(),
        }
    }
}

/// One secret that the host fills in where the plugin writes `{{secret:NAME}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretGrant {
    /// Name of the secret in the host's secret store.
    pub name: String,
    /// The one origin that it may be sent to; must be among the granted origins.
    pub origin: Origin,
    /// Where in the request it may stand.
    pub place: SecretPlace,
}

/// Where in a request a secret may stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretPlace {
    /// In the value of the header of this name, in lower case.
    Header(String),
    /// In the path or the query of the URL.
    Url,
    /// As the whole value of the member of this name in a body that is a JSON object, for
    /// receivers that want their key there.
    Json(String),
}

/// Files: which and how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FilesGrant {
    /// Absolute paths or globs that may be read.
    pub paths: Vec<PathGlob>,
    /// Most bytes of one read: 1 MiB unless set, at most [`MAX_FILE_BYTES`].
    #[serde(default = "read_bytes")]
    pub read_bytes: u64,
    /// Most bytes of all reads of one call: 16 MiB unless set, at most
    /// [`MAX_FILE_CALL_BYTES`].
    #[serde(default = "call_bytes")]
    pub call_bytes: u64,
}

const fn read_bytes() -> u64 {
    1 << 20
}

const fn call_bytes() -> u64 {
    16 << 20
}

impl FilesGrant {
    /// A grant of these paths with the default caps.
    #[must_use]
    pub fn reading(paths: impl IntoIterator<Item = PathGlob>) -> Self {
        Self {
            paths: paths.into_iter().collect(),
            read_bytes: read_bytes(),
            call_bytes: call_bytes(),
        }
    }
}

/// Message authentication: with which keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MacGrant {
    /// Names of the keys in the host's secret store. Never agent keys: those are kept apart.
    pub keys: BTreeSet<String>,
}

/// State: how much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KvGrant {
    /// Most bytes of all keys and values together, at most [`MAX_KV_BYTES`].
    pub max_bytes: u64,
}

impl Grants {
    /// Everything that is wrong with the values, each with its path below the grants. A
    /// config with problems must be refused; [`effective`](crate::effective) does not look.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(http) = &self.http {
            http.problems(&mut problems);
        }
        if let Some(mail) = &self.mail {
            mail.problems(&mut problems);
        }
        if let Some(files) = &self.files {
            count("files.paths", files.paths.len(), &mut problems);
            within("files.read_bytes", files.read_bytes, MAX_FILE_BYTES, &mut problems);
            within("files.call_bytes", files.call_bytes, MAX_FILE_CALL_BYTES, &mut problems);
        }
        if let Some(mac) = &self.mac {
            count("mac.keys", mac.keys.len(), &mut problems);
            for key in &mac.keys {
                secret_name("mac.keys", key, &mut problems);
            }
        }
        if let Some(kv) = &self.kv {
            within("kv.max_bytes", kv.max_bytes, MAX_KV_BYTES, &mut problems);
        }
        self.limits.problems("limits", &mut problems);
        problems
    }
}

impl HttpGrant {
    fn problems(&self, problems: &mut Vec<String>) {
        count("http.origins", self.origins.len(), problems);
        count("http.methods", self.methods.len(), problems);
        within("http.response_bytes", self.response_bytes, MAX_RESPONSE_BYTES, problems);
        within("http.timeout_ms", self.timeout_ms, MAX_TIMEOUT_MS, problems);
        if self.secrets.len() > MAX_LISTED {
            problems.push(format!(
                "http.secrets: {} entries; at most {MAX_LISTED} are allowed",
                self.secrets.len()
            ));
        }
        for (at, secret) in self.secrets.iter().take(MAX_LISTED).enumerate() {
            secret_name(&format!("http.secrets[{at}].name"), &secret.name, problems);
            if !self.origins.contains(&secret.origin) {
                problems.push(format!(
                    "http.secrets[{at}].origin: {} is not among http.origins; add it there or correct it",
                    secret.origin
                ));
            }
            if let SecretPlace::Header(name) = &secret.place
                && let Some(why) = header_problem(name)
            {
                problems
                    .push(format!("http.secrets[{at}].place.header: `{}` {why}", excerpt(name)));
            }
            if let SecretPlace::Json(name) = &secret.place
                && !(1..=MAX_SECRET_NAME_CHARS).contains(&name.chars().count())
            {
                problems.push(format!(
                    "http.secrets[{at}].place.json: `{}` is no name of a member: 1 to {MAX_SECRET_NAME_CHARS} characters",
                    excerpt(name)
                ));
            }
        }
    }
}

fn header_problem(name: &str) -> Option<&'static str> {
    let token =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || name.len() > MAX_SECRET_NAME_CHARS || !name.bytes().all(token) {
        return Some("is not a header name in lower case");
    }
    FRAMING_HEADERS.contains(&name).then_some("frames the request; a secret must not fill it")
}

pub(crate) fn secret_name(path: &str, name: &str, problems: &mut Vec<String>) {
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > MAX_SECRET_NAME_CHARS || !name.bytes().all(alphabet) {
        problems.push(format!(
            "{path}: `{}` is not a name: 1 to {MAX_SECRET_NAME_CHARS} letters, digits, `-`, `_` and `.`",
            excerpt(name)
        ));
    }
}

pub(crate) fn count(path: &str, entries: usize, problems: &mut Vec<String>) {
    if !(1..=MAX_LISTED).contains(&entries) {
        problems.push(format!("{path}: {entries} entries; 1 to {MAX_LISTED} are allowed"));
    }
}

pub(crate) fn within(path: &str, value: u64, max: u64, problems: &mut Vec<String>) {
    if !(1..=max).contains(&value) {
        problems.push(format!("{path}: {value} is not within 1 to {max}"));
    }
}
