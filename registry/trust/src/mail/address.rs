//! Addresses, and patterns of them.

use std::fmt;
use std::str::FromStr;

use crate::text::{excerpt, travels_as_string};

/// Longest address, in bytes (RFC 5321, section 4.5.3.1.3, without the brackets).
pub const MAX_MAIL_ADDRESS_BYTES: usize = 254;
/// Longest part before the `@`, in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

/// Why a text is not a relay, an address or a pattern of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: {why}")]
pub struct MailTextError {
    pub(super) text: String,
    pub(super) what: &'static str,
    pub(super) why: &'static str,
}

/// `local@domain`: ASCII, no quotes, comments, address literals or `*`. The domain is in lower case;
/// before the `@` the case counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailAddress(Box<str>);

impl MailAddress {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the `@`.
    #[must_use]
    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or("", |(local, _)| local)
    }

    /// What stands after the `@`.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, domain)| domain)
    }
}

impl FromStr for MailAddress {
    type Err = MailTextError;

    fn from_str(text: &str) -> Result<Self, MailTextError> {
        let refused = |why| MailTextError { text: excerpt(text), what: "a mail address", why };
        if text.len() > MAX_MAIL_ADDRESS_BYTES {
            return Err(refused("too long"));
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(|| refused("it has no `@`"))?;
        let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'+-/=?^_`{|}~".contains(&b);
        let atoms = |part: &str| !part.is_empty() && part.bytes().all(atom);
        if local.len() > MAX_LOCAL_BYTES || !local.split('.').all(atoms) {
            return Err(refused(
                "before the `@` stand letters, digits and single dots, and nothing in quotes",
            ));
        }
        if !is_domain(domain) {
            return Err(refused("after the `@` stands no domain"));
        }
        Ok(Self(format!("{local}@{}", domain.to_ascii_lowercase()).into()))
    }
}

/// Labels of letters, digits and hyphens; at least one.
fn is_domain(text: &str) -> bool {
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(alphabet)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.split('.').all(label)
}

impl fmt::Display for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

travels_as_string!(
    MailAddress,
    "MailAddress",
    "^[^@\\s]+@[^@\\s]+$",
    "`local@domain`; before the `@` the case counts"
);

/// Whom mail may go to: an address, `*@example.com`, `*@*.example.com` (domains below that one)
/// or `*` (everybody).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MailPattern {
    /// Everybody.
    Any,
    /// Everybody in a domain.
    Domain(Box<str>),
    /// Everybody in domains below: holds `.example.com`.
    Below(Box<str>),
    /// One address.
    Exact(MailAddress),
}

impl MailPattern {
    /// Whether it covers an address.
    #[must_use]
    pub fn matches(&self, address: &MailAddress) -> bool {
        match self {
            Self::Any => true,
            Self::Domain(domain) => address.domain() == &**domain,
            Self::Below(suffix) => address.domain().ends_with(&**suffix),
            Self::Exact(exact) => exact == address,
        }
    }

    /// Whether everything that `other` covers is covered too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Any, _) => true,
            (_, Self::Exact(address)) => self.matches(address),
            (Self::Below(suffix), Self::Domain(domain)) => domain.ends_with(&**suffix),
            (Self::Below(suffix), Self::Below(inner)) => inner.ends_with(&**suffix),
            _ => self == other,
        }
    }
}

impl FromStr for MailPattern {
    type Err = MailTextError;

    fn from_str(text: &str) -> Result<Self, MailTextError> {
        let refused =
            |why| MailTextError { text: excerpt(text), what: "a pattern of addresses", why };
        let domain = |domain: &str| {
            (domain.len() <= MAX_MAIL_ADDRESS_BYTES && is_domain(domain))
                .then(|| domain.to_ascii_lowercase())
                .ok_or_else(|| {
                    refused("write `*`, `*@example.com`, `*@*.example.com` or an address")
                })
        };
        match (text, text.strip_prefix("*@*."), text.strip_prefix("*@")) {
            ("*", ..) => Ok(Self::Any),
            (_, Some(below), _) => Ok(Self::Below(format!(".{}", domain(below)?).into())),
            (_, None, Some(within)) => Ok(Self::Domain(domain(within)?.into())),
            _ => text.parse().map(Self::Exact).map_err(|error: MailTextError| refused(error.why)),
        }
    }
}

impl fmt::Display for MailPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Domain(domain) => write!(f, "*@{domain}"),
            Self::Below(suffix) => write!(f, "*@*{suffix}"),
            Self::Exact(address) => address.fmt(f),
        }
    }
}

impl fmt::Debug for MailPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

travels_as_string!(
    MailPattern,
    "MailPattern",
    "^(\\*|[^@\\s]+@[^@\\s]+)$",
    "An address, `*@example.com`, `*@*.example.com`, or `*` for everybody"
);
