//! Where a notifier sends to, as a config says it.

use crate::Diagnostic;
use crate::config::wait_ms;

/// Longest wait for an answer that a config may ask for, in milliseconds.
pub const MAX_TIMEOUT_MS: u32 = 60_000;
/// How long an answer is waited for unless a config says otherwise.
pub const DEFAULT_TIMEOUT: &str = "10s";
/// Longest URL, in bytes.
pub const MAX_URL_BYTES: usize = 4_096;
/// Shorter parts of a URL are words, not secrets.
const MIN_SECRET_BYTES: usize = 4;

/// A URL that was checked. Its path and its query may be secrets, or hold `{{secret:NAME}}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    url: String,
    /// Bytes of scheme, host and port.
    origin: usize,
}

impl Endpoint {
    /// Checks a URL.
    ///
    /// # Errors
    ///
    /// Why it is none, in words that do not hold it.
    pub fn parse(url: &str) -> Result<Self, &'static str> {
        const WHOLE: &str = "is no http or https URL; write for example https://example.com/hook";
        let lower = url.get(..8).unwrap_or(url).to_ascii_lowercase();
        let scheme = if lower.starts_with("https://") {
            "https://".len()
        } else if lower.starts_with("http://") {
            "http://".len()
        } else {
            return Err(WHOLE);
        };
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if url.len() > MAX_URL_BYTES || url.contains(blank) {
            return Err("holds blanks or is longer than 4096 bytes");
        }
        let end = url[scheme..].find(['/', '?', '#', '\\']).map_or(url.len(), |at| scheme + at);
        let authority = &url[scheme..end];
        if authority.contains('@') {
            return Err("holds a user or a password; write a header such as \
                 `Authorization: {{secret:NAME}}` instead");
        }
        if authority.contains(['{', '}']) {
            return Err("holds a secret in its host; only the path and the query may");
        }
        if authority.is_empty() || authority.starts_with(':') {
            return Err(WHOLE);
        }
        Ok(Self { url: url.to_owned(), origin: end })
    }

    /// The whole URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Scheme, host and port: what messages may name.
    pub fn origin(&self) -> &str {
        &self.url[..self.origin]
    }

    /// The URL with this path in place of its own end: `https://h/a/` and `/b` make
    /// `https://h/a/b`.
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    /// Parts behind the origin that a message must not repeat, the longest first.
    pub fn hidden(&self) -> Vec<String> {
        let mut parts: Vec<String> = self.url[self.origin..]
            .split(['/', '?', '#', '&', '=', ';'])
            .filter(|part| part.len() >= MIN_SECRET_BYTES)
            .map(str::to_owned)
            .collect();
        parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
        parts
    }
}

/// The wait that a config's `timeout` asks for, in milliseconds; what is wrong with it goes to
/// `found`.
pub fn timeout_ms(text: &str, found: &mut Vec<Diagnostic>) -> u32 {
    wait_ms(text, MAX_TIMEOUT_MS).unwrap_or_else(|| {
        let said = format!("{text:?} is no wait from 1ms to 60s; write for example 10s");
        found.push(Diagnostic::error("/timeout", said));
        crate::http::DEFAULT_TIMEOUT_MS
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_taken_apart() {
        for (url, expect) in [
            ("https://h:8443/a/b?c=d", Ok("https://h:8443")),
            ("HTTP://[::1]:80", Ok("HTTP://[::1]:80")),
            ("https://h?{{secret:a}}", Ok("https://h")),
            ("ftp://h", Err("is no http or https URL")),
            ("https:///x", Err("is no http or https URL")),
            ("https://:80/", Err("is no http or https URL")),
            ("https://u:p@h/", Err("holds a user or a password")),
            ("https://{{secret:h}}/", Err("holds a secret in its host")),
            ("https://h/ x", Err("holds blanks")),
        ] {
            match (Endpoint::parse(url), expect) {
                (Ok(made), Ok(origin)) => assert_eq!(made.origin(), origin),
                (Err(said), Err(words)) => assert!(said.starts_with(words), "{url}: {said}"),
                (made, _) => panic!("{url}: {made:?}"),
            }
        }
        let endpoint = Endpoint::parse("https://h/hook/T0B1/?key=s3cr3t").unwrap();
        assert_eq!(endpoint.hidden(), ["s3cr3t", "hook", "T0B1"]);
        let endpoint = Endpoint::parse("https://h/api/").unwrap();
        assert_eq!(endpoint.join("/send"), "https://h/api/send");
    }

    #[test]
    fn a_wait_that_is_none_is_said_with_its_place() {
        let mut found = Vec::new();
        assert_eq!(timeout_ms("2s", &mut found), 2_000);
        assert!(found.is_empty());
        timeout_ms("61s", &mut found);
        assert!(found[0].to_string().starts_with("/timeout: \"61s\" is no wait"), "{found:?}");
    }
}
