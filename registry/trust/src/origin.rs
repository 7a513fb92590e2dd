//! Where a plugin may talk to: origins, patterns of origins, methods.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::text::{excerpt, travels_as_string};

/// Longest text of an origin or a pattern, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 300;

/// The scheme of an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// `http`, port 80 unless another is named.
    Http,
    /// `https`, port 443 unless another is named.
    Https,
}

impl Scheme {
    /// The scheme as it stands in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is meant where none is written.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// `scheme://host:port`, the unit in which requests are allowed. The host is in canonical
/// form (lower case, punycode, IPv6 in brackets); the text always names the port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    scheme: Scheme,
    host: Box<str>,
    port: u16,
}

/// Why a text is not an origin or not a pattern of origins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {why}")]
pub struct OriginError {
    text: String,
    what: &'static str,
    why: &'static str,
}

const ORIGIN: &str = "an origin";
const PATTERN: &str = "a pattern of origins";

impl Origin {
    /// The origin that a request to `url` goes to, or nothing if the URL is neither http nor
    /// https or has no host.
    #[must_use]
    pub fn of_url(url: &Url) -> Option<Self> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return None,
        };
        // A trailing dot names the same host in DNS; one form keeps comparisons honest.
        let host = match url.host()? {
            Host::Domain(name) => name.strip_suffix('.').unwrap_or(name).to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => format!("[{address}]"),
        };
        if host.is_empty() {
            return None;
        }
        Some(Self { scheme, host: host.into(), port: url.port_or_known_default()? })
    }

    /// The scheme.
    #[must_use]
    pub const fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host in canonical form, IPv6 addresses in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never left out.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Origin {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let refused = |why| OriginError { text: excerpt(text), what: ORIGIN, why };
        if text.len() > MAX_ORIGIN_BYTES {
            return Err(refused("too long"));
        }
        if text.contains('*') {
            return Err(refused("name the host and the port; wildcards are for manifests"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(refused("spaces, backslashes and control characters are not allowed"));
        }
        let url = Url::parse(text).map_err(|_| {
            refused("write `scheme://host:port`, for example `https://example.com:443`")
        })?;
        if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
            return Err(refused("a user or password has no place in an origin"));
        }
        let bare = url.path() == "/" || url.path().is_empty();
        if !bare || url.query().is_some() || url.fragment().is_some() {
            return Err(refused("leave out the path, the query and the fragment"));
        }
        Self::of_url(&url)
            .ok_or_else(|| refused("the scheme must be http or https and a host must follow"))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme.as_str(), self.host, self.port)
    }
}

impl fmt::Debug for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(
    Origin,
    "Origin",
    "^https?://[^/?#@*\\s]+/?$",
    "`scheme://host:port`; the port may be left out where it is the scheme's own"
);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum HostPattern {
    Any,
    /// Everything below a domain: holds `.example.com`.
    Below(Box<str>),
    Exact(Box<str>),
}

/// What a manifest may ask for: an exact origin, or
/// `https://*` (every host and port), `https://*:8443` (every host on that port),
/// `https://*.example.com` (every host below a domain), `http://127.0.0.1:*` (every port).
/// Only a pattern whose host is `*` leaves the port open when it names none.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginPattern {
    scheme: Scheme,
    host: HostPattern,
    port: Option<u16>,
}

impl OriginPattern {
    /// Whether the pattern covers an origin.
    #[must_use]
    pub fn matches(&self, origin: &Origin) -> bool {
        let host = match &self.host {
            HostPattern::Any => true,
            HostPattern::Below(suffix) => {
                origin.host.len() > suffix.len() && origin.host.ends_with(&**suffix)
            }
            HostPattern::Exact(host) => *host == origin.host,
        };
        host && self.scheme == origin.scheme && self.port.is_none_or(|port| port == origin.port)
    }

    /// The one origin that it covers, if it has no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<Origin> {
        match (&self.host, self.port) {
            (HostPattern::Exact(host), Some(port)) => {
                Some(Origin { scheme: self.scheme, host: host.clone(), port })
            }
            _ => None,
        }
    }
}

impl From<Origin> for OriginPattern {
    fn from(origin: Origin) -> Self {
        Self {
            scheme: origin.scheme,
            host: HostPattern::Exact(origin.host),
            port: Some(origin.port),
        }
    }
}

impl FromStr for OriginPattern {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let refused = |why| OriginError { text: excerpt(text), what: PATTERN, why };
        if text.len() > MAX_ORIGIN_BYTES {
            return Err(refused("too long"));
        }
        let shape =
            "write `scheme://host:port`, `https://*`, `https://*.example.com` or `http://host:*`";
        let (scheme, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Scheme::Http, rest),
            Some(("https", rest)) => (Scheme::Https, rest),
            _ => return Err(refused(shape)),
        };
        let (rest, any_port) = match rest.strip_suffix(":*") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        // What is left after the wildcards are taken off must read as an ordinary origin.
        let (host, wildcard) = if rest == "*" {
            ("placeholder", Some(HostPattern::Any))
        } else if let Some(port) = rest.strip_prefix("*:") {
            let port = port.parse().ok().filter(|_| !any_port).ok_or_else(|| refused(shape))?;
            return Ok(Self { scheme, host: HostPattern::Any, port: Some(port) });
        } else if let Some(domain) = rest.strip_prefix("*.") {
            (domain, Some(HostPattern::Below("".into())))
        } else {
            (rest, None)
        };
        let origin: Origin = format!("{}://{host}", scheme.as_str())
            .parse()
            .map_err(|error: OriginError| refused(error.why))?;
        let names_port = host.rsplit(']').next().is_some_and(|tail| tail.contains(':'));
        if any_port && names_port {
            return Err(refused("it names a port and `:*` both"));
        }
        let (host, port) = match wildcard {
            Some(HostPattern::Any) => (HostPattern::Any, None),
            Some(_) if !origin.host.contains('.') || is_address(&origin.host) => {
                return Err(refused("a wildcard needs a domain of at least two labels after it"));
            }
            Some(_) => (HostPattern::Below(format!(".{}", origin.host).into()), Some(origin.port)),
            None => (HostPattern::Exact(origin.host), Some(origin.port)),
        };
        Ok(Self { scheme, host, port: if any_port { None } else { port } })
    }
}

fn is_address(host: &str) -> bool {
    host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme.as_str())?;
        match (&self.host, self.port) {
            (HostPattern::Any, None) => f.write_str("*"),
            (HostPattern::Any, Some(port)) => write!(f, "*:{port}"),
            (HostPattern::Below(suffix), Some(port)) => write!(f, "*{suffix}:{port}"),
            (HostPattern::Below(suffix), None) => write!(f, "*{suffix}:*"),
            (HostPattern::Exact(host), Some(port)) => write!(f, "{host}:{port}"),
            (HostPattern::Exact(host), None) => write!(f, "{host}:*"),
        }
    }
}

impl fmt::Debug for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(
    OriginPattern,
    "OriginPattern",
    "^https?://[^/?#@\\s]+/?$",
    "An origin, or a pattern: `https://*`, `https://*:8443`, `https://*.example.com`, `http://127.0.0.1:*`"
);

/// A request method of the contract's `http` interface.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Reads.
    Get,
    /// Reads the headers only.
    Head,
    /// Sends.
    Post,
    /// Stores.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl HttpMethod {
    /// The method as it stands in a request line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for HttpMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
