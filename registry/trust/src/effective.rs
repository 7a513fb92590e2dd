//! What a plugin may really do: that which its manifest requests *and* its operator grants.

use std::collections::BTreeSet;

use crate::capability::Capability;
use crate::grants::{Grants, HttpGrant, SecretGrant};
use crate::mail::MailGrant;
use crate::missing::{MissingGrant, MissingGrants};
use crate::origin::{HttpMethod, Origin};
use crate::paths::PathGlob;
use crate::requests::{Asked, FilesRequest, HttpRequest, Requests};

/// What a plugin may do in its slot. Only [`effective`] and [`Capabilities::none`] make it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    system: bool,
    http: Option<HttpCapability>,
    mail: Option<MailGrant>,
    files: Option<FilesCapability>,
    mac: Option<BTreeSet<String>>,
    kv_bytes: Option<u64>,
    series: bool,
}

/// HTTP requests that are allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCapability {
    origins: BTreeSet<Origin>,
    methods: BTreeSet<HttpMethod>,
    secrets: Vec<SecretGrant>,
    response_bytes: u64,
    timeout_ms: u64,
}

/// Files that may be read: those that a granted glob covers and, unless the request leaves
/// the choice to the operator, a requested one too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilesCapability {
    requested: Option<Vec<PathGlob>>,
    granted: Vec<PathGlob>,
    read_bytes: u64,
    call_bytes: u64,
}

impl Capabilities {
    /// No capability at all: what `describe` is called with.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether the machine's readings may be taken.
    #[must_use]
    pub const fn system(&self) -> bool {
        self.system
    }

    /// HTTP requests, if any are allowed.
    #[must_use]
    pub const fn http(&self) -> Option<&HttpCapability> {
        self.http.as_ref()
    }

    /// Mail, if any is allowed: a manifest asks for it whole, so what is granted is what holds.
    #[must_use]
    pub const fn mail(&self) -> Option<&MailGrant> {
        self.mail.as_ref()
    }

    /// File reads, if any are allowed.
    #[must_use]
    pub const fn files(&self) -> Option<&FilesCapability> {
        self.files.as_ref()
    }

    /// Names of keys that may be used for message authentication, if it is allowed.
    #[must_use]
    pub const fn mac(&self) -> Option<&BTreeSet<String>> {
        self.mac.as_ref()
    }

    /// Most bytes of state, if it may keep any.
    #[must_use]
    pub const fn kv_bytes(&self) -> Option<u64> {
        self.kv_bytes
    }

    /// Whether stored series may be asked for.
    #[must_use]
    pub const fn series(&self) -> bool {
        self.series
    }

    /// Whether a capability is there at all.
    #[must_use]
    pub const fn has(&self, capability: Capability) -> bool {
        match capability {
            Capability::System => self.system,
            Capability::Http => self.http.is_some(),
            Capability::Mail => self.mail.is_some(),
            Capability::Files => self.files.is_some(),
            Capability::Mac => self.mac.is_some(),
            Capability::Kv => self.kv_bytes.is_some(),
            Capability::Series => self.series,
        }
    }
}

impl HttpCapability {
    /// Whether a request of this method to this origin is allowed.
    #[must_use]
    pub fn allows(&self, method: HttpMethod, origin: &Origin) -> bool {
        self.methods.contains(&method) && self.origins.contains(origin)
    }

    /// Origins that may be called.
    #[must_use]
    pub const fn origins(&self) -> &BTreeSet<Origin> {
        &self.origins
    }

    /// Methods that may be used.
    #[must_use]
    pub const fn methods(&self) -> &BTreeSet<HttpMethod> {
        &self.methods
    }

    /// Secrets that may be filled in, each for an origin that may be called.
    #[must_use]
    pub fn secrets(&self) -> &[SecretGrant] {
        &self.secrets
    }

    /// Most bytes of a response body.
    #[must_use]
    pub const fn response_bytes(&self) -> u64 {
        self.response_bytes
    }

    /// Longest exchange, in milliseconds.
    #[must_use]
    pub const fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }
}

impl FilesCapability {
    /// Whether the file at `path` (absolute, links resolved, no `.` or `..` levels) may be
    /// read.
    #[must_use]
    pub fn allows(&self, path: &str) -> bool {
        let covered = |globs: &[PathGlob]| globs.iter().any(|glob| glob.matches(path));
        covered(&self.granted) && self.requested.as_deref().is_none_or(covered)
    }

    /// The granted globs.
    #[must_use]
    pub fn granted(&self) -> &[PathGlob] {
        &self.granted
    }

    /// Most bytes of one read.
    #[must_use]
    pub const fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Most bytes of all reads of one call.
    #[must_use]
    pub const fn call_bytes(&self) -> u64 {
        self.call_bytes
    }
}

/// What a plugin that requests this may do under these grants: both together.
///
/// A pattern or a glob that is requested is satisfied by any granted origin or path that it
/// covers: an operator may grant less of it than the author imagined. Granted origins, paths
/// and methods beyond the request have no effect: see [`unused_grants`].
///
/// # Errors
///
/// [`MissingGrants`] with everything that is requested and not granted.
pub fn effective(requests: &Requests, grants: &Grants) -> Result<Capabilities, MissingGrants> {
    let mut missing = Vec::new();
    if requests.system && !grants.system {
        missing.push(MissingGrant::System);
    }
    let http = requests
        .http
        .as_ref()
        .and_then(|request| http(request, grants.http.as_ref(), &mut missing));
    if requests.mail && grants.mail.is_none() {
        missing.push(MissingGrant::Mail);
    }
    let files = requests.files.as_ref().and_then(|request| files(request, grants, &mut missing));
    let keys = grants.mac.as_ref().map(|mac| &mac.keys);
    if requests.mac && keys.is_none_or(BTreeSet::is_empty) {
        missing.push(MissingGrant::MacKey);
    }
    let kv_granted = grants.kv.as_ref().map(|kv| kv.max_bytes);
    if let Some(kv) = &requests.kv
        && kv_granted.is_none_or(|granted| granted < kv.max_bytes)
    {
        missing.push(MissingGrant::Kv { asked: kv.max_bytes, granted: kv_granted });
    }
    if requests.series && !grants.series {
        missing.push(MissingGrant::Series);
    }
    if !missing.is_empty() {
        return Err(MissingGrants(missing));
    }
    Ok(Capabilities {
        system: requests.system,
        http,
        mail: grants.mail.clone().filter(|_| requests.mail),
        files,
        mac: keys.filter(|_| requests.mac).cloned(),
        kv_bytes: requests.kv.as_ref().map(|kv| kv.max_bytes),
        series: requests.series,
    })
}

fn http(
    request: &HttpRequest,
    grant: Option<&HttpGrant>,
    missing: &mut Vec<MissingGrant>,
) -> Option<HttpCapability> {
    let none = BTreeSet::new();
    let granted = grant.map_or(&none, |grant| &grant.origins);
    let origins: BTreeSet<_> = match &request.origins {
        Asked::FromConfig => {
            if granted.is_empty() {
                missing.push(MissingGrant::AnyOrigin);
            }
            granted.clone()
        }
        Asked::Listed(patterns) => {
            for pattern in patterns {
                if !granted.iter().any(|origin| pattern.matches(origin)) {
                    missing.push(MissingGrant::Origin(pattern.clone()));
                }
            }
            let asked = |origin: &&Origin| patterns.iter().any(|pattern| pattern.matches(origin));
            granted.iter().filter(asked).cloned().collect()
        }
    };
    for method in &request.methods {
        if !grant.is_some_and(|grant| grant.methods.contains(method)) {
            missing.push(MissingGrant::Method(*method));
        }
    }
    grant.map(|grant| HttpCapability {
        secrets: grant
            .secrets
            .iter()
            .filter(|secret| origins.contains(&secret.origin))
            .cloned()
            .collect(),
        origins,
        methods: request.methods.intersection(&grant.methods).copied().collect(),
        response_bytes: grant.response_bytes,
        timeout_ms: grant.timeout_ms,
    })
}

fn files(
    request: &FilesRequest,
    grants: &Grants,
    missing: &mut Vec<MissingGrant>,
) -> Option<FilesCapability> {
    let grant = grants.files.as_ref();
    let granted = grant.map_or(&[][..], |grant| &grant.paths);
    let requested = match &request.paths {
        Asked::FromConfig => {
            if granted.is_empty() {
                missing.push(MissingGrant::AnyPath);
            }
            None
        }
        Asked::Listed(globs) => {
            for glob in globs {
                if !granted.iter().any(|granted| granted.seems_to_overlap(glob)) {
                    missing.push(MissingGrant::Path(glob.clone()));
                }
            }
            Some(globs.clone())
        }
    };
    grant.map(|grant| FilesCapability {
        requested,
        granted: grant.paths.clone(),
        read_bytes: grant.read_bytes,
        call_bytes: grant.call_bytes,
    })
}

/// Grants that have no effect because the manifest does not request them, for a warning: a
/// grant that was meant for something is worth a second look.
#[must_use]
pub fn unused_grants(requests: &Requests, grants: &Grants) -> Vec<String> {
    let mut unused = Vec::new();
    for (capability, granted) in [
        (Capability::System, grants.system),
        (Capability::Http, grants.http.is_some()),
        (Capability::Mail, grants.mail.is_some()),
        (Capability::Files, grants.files.is_some()),
        (Capability::Mac, grants.mac.is_some()),
        (Capability::Kv, grants.kv.is_some()),
        (Capability::Series, grants.series),
    ] {
        if granted && !requests.asks_for(capability) {
            unused.push(format!("{capability}: the plugin does not ask for it"));
        }
    }
    if let (Some(request), Some(grant)) = (&requests.http, &grants.http)
        && let Asked::Listed(patterns) = &request.origins
    {
        for origin in &grant.origins {
            if !patterns.iter().any(|pattern| pattern.matches(origin)) {
                unused.push(format!("http.origins: the plugin does not ask for {origin}"));
            }
        }
    }
    if let (Some(request), Some(grant)) = (&requests.files, &grants.files)
        && let Asked::Listed(globs) = &request.paths
    {
        for granted in &grant.paths {
            if !globs.iter().any(|glob| glob.seems_to_overlap(granted)) {
                unused.push(format!("files.paths: the plugin does not ask for {granted}"));
            }
        }
    }
    unused
}
