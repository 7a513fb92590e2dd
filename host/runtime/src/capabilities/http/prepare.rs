//! From what a guest asks for to what is sent: every check, and the secrets filled in.

use http::{HeaderMap, HeaderName, HeaderValue};
use sentinel_trust::{HttpCapability, Origin, SecretPlace};
use url::Url;
use zeroize::Zeroizing;

use super::mask::Masks;
use super::member;
use super::{Hop, HttpError, MAX_HEADER_BYTES, MAX_REQUEST_BODY_BYTES, MAX_URL_BYTES, Request};
use crate::capabilities::SecretSource;

/// Headers that frame the request, choose its target or speak to the next hop only: the
/// host's own.
const HOST_HEADERS: [&str; 12] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
    "trailer",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "expect",
    "http2-settings",
];

/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Longest name of a secret in a message.
const MAX_SHOWN: usize = 100;
const OPEN: &str = "{{secret:";
const CLOSE: &str = "}}";

/// A request that may be sent, and the secrets in it.
pub(super) struct Prepared {
    pub(super) hop: Hop,
    pub(super) masks: Masks,
}

/// Checks a request against the allow-list and fills its secrets in.
pub(super) fn prepare(
    request: Request,
    capability: &HttpCapability,
    secrets: &dyn SecretSource,
) -> Result<Prepared, HttpError> {
    if request.body.len() > MAX_REQUEST_BODY_BYTES {
        return Err(invalid(format!(
            "a body of {} bytes; at most {MAX_REQUEST_BODY_BYTES}",
            request.body.len()
        )));
    }
    let parts = UrlParts::split(&request.url)?;
    let origin = parts.origin()?;
    if !capability.methods().contains(&request.method) {
        return Err(denied(format!("the method {} is not in the allow-list", request.method)));
    }
    if !capability.allows(request.method, &origin) {
        return Err(denied("the origin of the URL is not in the allow-list"));
    }
    let mut filler = Filler { origin: &origin, capability, secrets, masks: Masks::default() };
    let url = parts.fill(&mut filler, &origin)?;
    let headers = filler.headers(&request.headers)?;
    let body = filler.body(request.body)?;
    let masks = filler.masks;
    let hop = Hop { method: request.method, url, origin, headers, body: body.into() };
    Ok(Prepared { hop, masks })
}

fn invalid(why: impl Into<String>) -> HttpError {
    HttpError::Invalid(why.into())
}

fn denied(why: impl Into<String>) -> HttpError {
    HttpError::Denied(why.into())
}

/// A URL's text, cut before anything interprets it, so that a secret cannot come to stand
/// in the authority.
struct UrlParts<'a> {
    /// `scheme://authority`.
    head: &'a str,
    /// The path and the query, without the fragment.
    tail: &'a str,
}

impl<'a> UrlParts<'a> {
    fn split(text: &'a str) -> Result<Self, HttpError> {
        if text.len() > MAX_URL_BYTES {
            return Err(invalid(format!("a URL of {} bytes; at most {MAX_URL_BYTES}", text.len())));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(invalid("the URL holds a space, a backslash or a control character"));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(invalid("the URL must begin with http:// or https://"));
        }
        let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (head, tail) = text.split_at(scheme.len() + "://".len() + authority);
        let (tail, fragment) = tail.split_once('#').unwrap_or((tail, ""));
        if authority == 0 {
            return Err(invalid("the URL has no host"));
        }
        if rest[..authority].contains('@') {
            return Err(invalid("the URL names a user; put credentials into a header"));
        }
        if head.contains(OPEN) || fragment.contains(OPEN) {
            return Err(invalid("a secret may stand in the path or the query of the URL only"));
        }
        Ok(Self { head, tail })
    }

    fn origin(&self) -> Result<Origin, HttpError> {
        let url = Url::parse(self.head).map_err(|e| invalid(format!("the URL: {e}")))?;
        Origin::of_url(&url).ok_or_else(|| invalid("the URL has no host"))
    }

    /// The whole URL with its secrets, which must not have moved it to another origin.
    fn fill(&self, filler: &mut Filler<'_>, origin: &Origin) -> Result<Url, HttpError> {
        let mut text = Zeroizing::new(self.head.to_owned());
        let mut in_query = false;
        for piece in pieces(self.tail)? {
            match piece {
                Piece::Text(piece) => {
                    in_query |= piece.contains('?');
                    text.push_str(piece);
                }
                Piece::Secret(name) => {
                    let secret = filler.secret(name, &SecretPlace::Url)?;
                    let encoded = Zeroizing::new(encode(&secret, in_query, name)?);
                    filler.masks.add(encoded.as_bytes());
                    text.push_str(&encoded);
                }
            }
        }
        let mut url = Url::parse(&text).map_err(|e| invalid(format!("the URL: {e}")))?;
        let moved = Origin::of_url(&url).as_ref() != Some(origin);
        if moved || !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("the URL does not keep its origin"));
        }
        // One form of the host, so that one origin is one pool of connections.
        url.set_host(Some(origin.host())).map_err(|e| invalid(format!("the URL: {e}")))?;
        Ok(url)
    }
}

enum Piece<'a> {
    Text(&'a str),
    Secret(&'a str),
}

/// A text, cut at its placeholders.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, HttpError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (name, after) =
            after.split_once(CLOSE).ok_or_else(|| invalid("a `{{secret:` has no `}}` after it"))?;
        pieces.push(Piece::Text(before));
        pieces.push(Piece::Secret(name));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// A secret as it stands in a URL: in the path, what a path may hold stays as it is, slashes
/// too; in the query, only what is never special.
fn encode(secret: &[u8], in_query: bool, name: &str) -> Result<String, HttpError> {
    let climbs = secret.split(|b| *b == b'/').any(|level| matches!(level, b"." | b".."));
    if !in_query && climbs {
        return Err(denied(format!(
            "the secret `{}` has a `.` or `..` level and cannot stand in a path",
            shown(name)
        )));
    }
    let plain = |b: u8| {
        b.is_ascii_alphanumeric()
            || b"-._~".contains(&b)
            || (!in_query && b"/:@!$&'()*+,;=".contains(&b))
    };
    let mut out = String::with_capacity(3 * secret.len());
    for &b in secret {
        if plain(b) {
            out.push(char::from(b));
        } else {
            let digit = |n: u8| char::from(b"0123456789ABCDEF"[usize::from(n)]);
            out.extend(['%', digit(b >> 4), digit(b & 15)]);
        }
    }
    Ok(out)
}

fn shown(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_SHOWN)]
}

struct Filler<'a> {
    origin: &'a Origin,
    capability: &'a HttpCapability,
    secrets: &'a dyn SecretSource,
    masks: Masks,
}

impl Filler<'_> {
    /// A secret that may stand in this place of a request to this origin.
    fn secret(&mut self, name: &str, place: &SecretPlace) -> Result<Zeroizing<Vec<u8>>, HttpError> {
        let granted = self.capability.secrets().iter().any(|grant| {
            grant.name == name && grant.origin == *self.origin && grant.place == *place
        });
        if !granted {
            let place = match place {
                SecretPlace::Header(header) => format!("the header `{header}`"),
                SecretPlace::Url => "the URL".to_owned(),
                SecretPlace::Json(member) => format!("the member `{member}` of the body"),
            };
            return Err(denied(format!(
                "the secret `{}` is not granted for this origin and {place}; see `http.secrets`",
                shown(name)
            )));
        }
        let secret = self.secrets.secret(name).filter(|secret| !secret.is_empty());
        let secret = secret.ok_or_else(|| {
            denied(format!("the secret `{name}` is not in the host's secret store"))
        })?;
        self.masks.add(&secret);
        Ok(secret)
    }

    /// The body, with a secret in each member that a grant names and that asks for it.
    fn body(&mut self, mut body: Vec<u8>) -> Result<Vec<u8>, HttpError> {
        let capability = self.capability;
        for grant in capability.secrets() {
            let SecretPlace::Json(name) = &grant.place else {
                continue;
            };
            let asks = format!("\"{OPEN}{}{CLOSE}\"", grant.name);
            let at = member::find(&body, name).filter(|at| body[at.clone()] == *asks.as_bytes());
            let Some(at) = at.filter(|_| grant.origin == *self.origin) else {
                continue;
            };
            let secret = self.secret(&grant.name, &grant.place)?;
            let secret = std::str::from_utf8(&secret).map_err(|_| {
                denied(format!("the secret `{}` is no text and cannot stand in JSON", grant.name))
            })?;
            let filled = member::fill(&body, at, secret);
            self.masks.add(filled.text.trim_matches('"').as_bytes());
            body = filled.body;
        }
        Ok(body)
    }

    fn headers(&mut self, headers: &[(String, String)]) -> Result<HeaderMap, HttpError> {
        let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            return Err(invalid(format!(
                "{} headers of {bytes} bytes; at most {MAX_HEADERS} and {MAX_HEADER_BYTES}",
                headers.len()
            )));
        }
        let mut map = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            let parsed = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| invalid(format!("{:?} is not a header name", shown(name))))?;
            if HOST_HEADERS.contains(&parsed.as_str()) {
                return Err(invalid(format!("the header `{parsed}` is the host's own")));
            }
            let value = self.header_value(&parsed, value)?;
            map.append(parsed, value);
        }
        Ok(map)
    }

    fn header_value(&mut self, name: &HeaderName, text: &str) -> Result<HeaderValue, HttpError> {
        let mut value = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut filled = None;
        for piece in pieces(text)? {
            match piece {
                Piece::Text(piece) => value.extend_from_slice(piece.as_bytes()),
                Piece::Secret(secret) => {
                    let place = SecretPlace::Header(name.as_str().to_owned());
                    value.extend_from_slice(&self.secret(secret, &place)?);
                    filled = Some(secret);
                }
            }
        }
        // Refuses CR, LF, NUL and every other control character but the tab.
        let mut parsed = HeaderValue::from_bytes(&value).map_err(|_| match filled {
            Some(secret) => denied(format!(
                "the secret `{}` or what surrounds it cannot stand in a header: it holds a control character",
                shown(secret)
            )),
            None => invalid(format!("the value of `{name}` holds a control character")),
        })?;
        parsed.set_sensitive(filled.is_some());
        Ok(parsed)
    }
}
