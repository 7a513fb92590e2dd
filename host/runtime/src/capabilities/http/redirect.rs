//! What a redirect asks for: pure, and not yet allowed.

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION, CONTENT_TYPE, COOKIE,
    HeaderMap,
};
use sentinel_trust::{HttpMethod, Origin};

use super::{Hop, MAX_URL_BYTES};

/// The request that a response with this status and `Location` redirects to, or nothing where
/// it is no redirect, or one to nowhere sensible.
///
/// | status | method | body |
/// |---|---|---|
/// | 301, 302 | POST becomes GET, others stay | dropped where the method changed |
/// | 303 | HEAD stays, others become GET | dropped |
/// | 307, 308 | stays | stays |
///
/// Credentials that the guest wrote itself do not leave their origin.
pub(super) fn next(hop: &Hop, status: u16, location: Option<&str>) -> Option<Hop> {
    let location = location.filter(|location| location.len() <= MAX_URL_BYTES)?;
    let method = match (status, hop.method) {
        (301 | 302, HttpMethod::Post) => HttpMethod::Get,
        (303, HttpMethod::Head) => HttpMethod::Head,
        (303, _) => HttpMethod::Get,
        (301 | 302 | 307 | 308, method) => method,
        _ => return None,
    };
    let mut url = hop.url.join(location).ok()?;
    if !url.username().is_empty() || url.password().is_some() {
        return None;
    }
    url.set_fragment(None);
    let origin = Origin::of_url(&url)?;
    url.set_host(Some(origin.host())).ok()?;
    let mut headers = hop.headers.clone();
    let keeps_body = method == hop.method && status != 303;
    if !keeps_body {
        remove(&mut headers, &[CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LOCATION]);
    }
    if origin != hop.origin {
        remove(&mut headers, &[AUTHORIZATION, COOKIE]);
        headers.remove("proxy-authorization");
    }
    let body = if keeps_body { hop.body.clone() } else { Bytes::new() };
    Some(Hop { method, url, origin, headers, body })
}

fn remove(headers: &mut HeaderMap, names: &[http::HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop(method: HttpMethod) -> Hop {
        let url: url::Url = "https://a.example/x/y?q".parse().unwrap();
        let origin = Origin::of_url(&url).unwrap();
        let headers = [(AUTHORIZATION, "mine"), (CONTENT_TYPE, "text/plain"), (COOKIE, "c=1")];
        let headers = headers.into_iter().map(|(k, v)| (k, v.parse().unwrap())).collect();
        Hop { method, url, origin, headers, body: Bytes::from_static(b"body") }
    }

    #[test]
    fn methods_and_bodies_follow_the_status() {
        use HttpMethod::{Delete, Get, Head, Post, Put};
        for (status, method, expected) in [
            (301, Post, Some((Get, false))),
            (302, Post, Some((Get, false))),
            (302, Put, Some((Put, true))),
            (303, Put, Some((Get, false))),
            (303, Get, Some((Get, false))),
            (303, Head, Some((Head, false))),
            (307, Post, Some((Post, true))),
            (308, Delete, Some((Delete, true))),
            (300, Get, None),
            (304, Get, None),
            (200, Post, None),
        ] {
            let next = next(&hop(method), status, Some("/z"));
            let got = next.as_ref().map(|next| (next.method, !next.body.is_empty()));
            assert_eq!(got, expected, "{status} {method}");
            if let Some(next) = next {
                assert_eq!(next.url.as_str(), "https://a.example/z");
                assert_eq!(next.headers.contains_key(CONTENT_TYPE), !next.body.is_empty());
                assert!(next.headers.contains_key(AUTHORIZATION));
            }
        }
    }

    #[test]
    fn credentials_do_not_leave_their_origin() {
        for (location, kept) in [
            ("https://a.example:443/z", true),
            ("//a.example./z", true),
            ("z", true),
            ("https://b.example/", false),
            ("https://a.example:8443/", false),
            ("http://a.example/", false),
        ] {
            let next = next(&hop(HttpMethod::Get), 302, Some(location)).unwrap();
            assert_eq!(next.headers.contains_key(AUTHORIZATION), kept, "{location}");
            assert_eq!(next.headers.contains_key(COOKIE), kept, "{location}");
        }
    }

    #[test]
    fn redirects_to_nowhere_sensible_are_none() {
        for location in [
            None,
            Some("file:///etc/passwd"),
            Some("https://u:p@a.example/"),
            Some("https://"),
            Some("javascript:1"),
        ] {
            assert!(next(&hop(HttpMethod::Get), 302, location).is_none(), "{location:?}");
        }
        let long = format!("/{}", "a".repeat(MAX_URL_BYTES));
        assert!(next(&hop(HttpMethod::Get), 302, Some(&long)).is_none());
    }

    #[test]
    fn a_placeholder_in_a_location_stays_text() {
        let next = next(&hop(HttpMethod::Get), 302, Some("/{{secret:x}}")).unwrap();
        assert_eq!(next.url.path(), "/%7B%7Bsecret:x%7D%7D");
    }
}
