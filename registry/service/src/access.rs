//! Who asks, and whether they may.
//!
//! Pulling is open to everybody unless the configuration says otherwise; pushing needs a
//! token of the repository's namespace. A token comes as `Authorization: Bearer TOKEN`, or as
//! the password of `Basic`, the user's name being anybody's: that is what OCI clients send
//! once `/v2/` has answered 401 with a challenge, which it always does to whoever shows no
//! token, so that `oras login` finds out at once whether one is good.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::names::Repository;
use crate::rate::{Buckets, Rate, asker};
use crate::refusal::{Code, Refusal};
use crate::store::Store;
use crate::tokens::Token;

/// Most bytes of an `Authorization` header.
const MAX_HEADER_BYTES: usize = 1024;
/// What is asked for where a token is missing.
const CHALLENGE: &str = "Basic realm=\"sentinel registry\", charset=\"UTF-8\"";

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Anybody.
    Anonymous,
    /// The holder of a token.
    Holder(Token),
}

/// How often who may ask.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// All requests of one address.
    pub address: Rate,
    /// Requests with one token, beside the address's.
    pub token: Rate,
    /// Refused tokens of one address, after which none of its tokens is looked at.
    pub failures: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            address: Rate { per_second: 500.0, burst: 5_000.0 },
            token: Rate { per_second: 100.0, burst: 1_000.0 },
            failures: Rate { per_second: 0.2, burst: 20.0 },
        }
    }
}

/// Who may what.
pub(crate) struct Access {
    anonymous_pull: bool,
    addresses: Mutex<Buckets<IpAddr>>,
    tokens: Mutex<Buckets<String>>,
    failures: Mutex<Buckets<IpAddr>>,
}

fn unauthorized(message: &str) -> Refusal {
    Refusal::new(Code::Unauthorized, message).header(header::WWW_AUTHENTICATE, CHALLENGE)
}

/// The token that a request shows; nothing where it shows none.
fn shown(headers: &HeaderMap) -> Result<Option<Zeroizing<String>>, Refusal> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let malformed = || unauthorized("the Authorization header is neither Basic nor Bearer");
    if value.len() > MAX_HEADER_BYTES {
        return Err(malformed());
    }
    let (scheme, rest) =
        value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(malformed)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(Zeroizing::new(rest.trim().to_owned())));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(malformed());
    }
    let decoded = Zeroizing::new(STANDARD.decode(rest.trim()).map_err(|_| malformed())?);
    let text = std::str::from_utf8(&decoded).map_err(|_| malformed())?;
    let (user, password) = text.split_once(':').ok_or_else(malformed)?;
    // Some clients send an empty name and password where they have none.
    let anonymous = user.is_empty() && password.is_empty();
    Ok((!anonymous).then(|| Zeroizing::new(password.to_owned())))
}

impl Access {
    pub(crate) fn new(anonymous_pull: bool, rates: Rates) -> Self {
        Self {
            anonymous_pull,
            addresses: Mutex::new(Buckets::new(rates.address)),
            tokens: Mutex::new(Buckets::new(rates.token)),
            failures: Mutex::new(Buckets::new(rates.failures)),
        }
    }

    /// Who asks, at `now` (unix milliseconds).
    pub(crate) async fn identify(
        &self,
        store: &Store,
        headers: &HeaderMap,
        address: IpAddr,
        now: i64,
    ) -> Result<Identity, Refusal> {
        let address = asker(address);
        if !self.addresses.lock().take(address, now) {
            return Err(Refusal::too_many("this address asks too often"));
        }
        let Some(text) = shown(headers)? else { return Ok(Identity::Anonymous) };
        if !self.failures.lock().has_left(address, now) {
            return Err(Refusal::too_many("this address has shown too many wrong tokens"));
        }
        let found = store
            .token(&text)
            .await
            .map_err(|error| Refusal::internal("tokens cannot be looked up", &error))?;
        let Some(token) = found else {
            self.failures.lock().take(address, now);
            return Err(unauthorized(
                "the token is not known here: make one with `sentinel registry token create`",
            ));
        };
        if !self.tokens.lock().take(token.id.clone(), now) {
            return Err(Refusal::too_many("this token is used too often"));
        }
        Ok(Identity::Holder(token))
    }

    /// Whether `/v2/` may be greeted: only with a token, so that a login is tried out.
    pub(crate) fn may_greet(&self, who: &Identity) -> Result<(), Refusal> {
        match who {
            Identity::Holder(_) => Ok(()),
            Identity::Anonymous => {
                Err(unauthorized("no token was shown; pulling may need none, pushing needs one"))
            }
        }
    }

    /// Whether one may pull.
    pub(crate) fn may_pull(&self, who: &Identity) -> Result<(), Refusal> {
        match who {
            Identity::Anonymous if !self.anonymous_pull => {
                Err(unauthorized("pulling from this registry needs a token"))
            }
            _ => Ok(()),
        }
    }

    /// Whether one may push to a namespace.
    pub(crate) fn may_push_to(&self, who: &Identity, namespace: &str) -> Result<(), Refusal> {
        let Identity::Holder(token) = who else {
            return Err(unauthorized("pushing needs a token of the namespace"));
        };
        match &token.namespace {
            Some(own) if own.as_str() == namespace => Ok(()),
            Some(own) => Err(Refusal::new(
                Code::Denied,
                format!("this token is for the namespace `{own}`, not for `{namespace}`"),
            )),
            None => Err(Refusal::new(Code::Denied, "this token is for pulling alone")),
        }
    }

    /// Whether one may push to a repository.
    pub(crate) fn may_push(&self, who: &Identity, to: &Repository) -> Result<(), Refusal> {
        self.may_push_to(who, to.namespace())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_from_either_scheme_and_nothing_else() {
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())]);
            shown(&headers).map(|found| found.map(|token| token.to_string())).map_err(|e| e.status)
        };
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let refused = Err(http::StatusCode::UNAUTHORIZED);
        for (value, expected) in [
            ("Bearer abc".to_owned(), Ok(Some("abc".to_owned()))),
            ("bearer  abc ".to_owned(), Ok(Some("abc".to_owned()))),
            (basic("me:abc"), Ok(Some("abc".to_owned()))),
            (basic(":abc"), Ok(Some("abc".to_owned()))),
            (basic("me:a:b"), Ok(Some("a:b".to_owned()))),
            (basic(":"), Ok(None)),
            (basic("me"), refused.clone()),
            ("Basic !".to_owned(), refused.clone()),
            ("Digest x".to_owned(), refused.clone()),
            ("abc".to_owned(), refused.clone()),
            (format!("Bearer {}", "a".repeat(MAX_HEADER_BYTES)), refused),
        ] {
            assert_eq!(read(&value), expected, "{value}");
        }
        assert_eq!(shown(&HeaderMap::new()).unwrap().map(|t| t.to_string()), None);
    }
}
