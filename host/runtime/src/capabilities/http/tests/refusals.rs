use super::*;
use proptest::prelude::*;

const HERE: &str = "http://127.0.0.1:9999";

fn refusal(request: Request, capability: &HttpCapability) -> HttpError {
    match prepare::prepare(request, capability, &*store()) {
        Ok(_) => panic!("it was let through"),
        Err(error) => {
            for part in ["127.0.0.1", "9999", "evil", "s3cret"] {
                assert!(!error.to_string().contains(part), "{error} holds {part}");
            }
            error
        }
    }
}

#[test]
fn what_is_not_in_the_allow_list_is_denied() {
    let capability = capability(&[HERE, "https://example.com"], &[]);
    for url in [
        "http://127.0.0.1:9998/",
        "http://127.0.0.1/",
        "https://127.0.0.1:9999/",
        "http://localhost:9999/",
        "http://127.0.0.2:9999/",
        "http://[::1]:9999/",
        "http://[::ffff:127.0.0.1]:9999/",
        "http://example.com/",
        "https://example.com:444/",
        "https://www.example.com/",
        "https://example.com.evil.test/",
        "https://example.comx/",
        "https://exаmple.com/",
    ] {
        assert!(matches!(refusal(get(url), &capability), HttpError::Denied(_)), "{url}");
    }
    let reading = adjusted(&[HERE], &[], |grant| grant.methods = [HttpMethod::Get].into());
    for method in ALL_METHODS.into_iter().skip(1) {
        let request = Request { method, ..get(HERE) };
        assert!(matches!(refusal(request, &reading), HttpError::Denied(_)), "{method}");
    }
}

#[test]
fn one_origin_may_be_written_in_many_ways() {
    let capability = capability(&[HERE, "https://example.com"], &[]);
    for (url, sent) in [
        ("http://127.0.0.1:9999", "http://127.0.0.1:9999/"),
        ("HTTP://127.1:9999/a?b#c", "http://127.0.0.1:9999/a?b"),
        ("http://2130706433:9999/", "http://127.0.0.1:9999/"),
        ("https://EXAMPLE.com:443/x/../y", "https://example.com/y"),
        ("https://example.com./", "https://example.com/"),
        ("https://example.com?q=a@b", "https://example.com/?q=a@b"),
        ("https://example.com/{{secret}}", "https://example.com/%7B%7Bsecret%7D%7D"),
    ] {
        let prepared = prepare::prepare(get(url), &capability, &*store());
        assert_eq!(prepared.ok().unwrap().hop.url.as_str(), sent, "{url}");
    }
}

#[test]
fn a_malformed_url_is_invalid() {
    let capability = capability(&[HERE, "https://example.com"], &[]);
    for url in [
        "",
        "/",
        "127.0.0.1:9999",
        "file:///etc/passwd",
        "ftp://127.0.0.1:9999/",
        "http:127.0.0.1:9999",
        "http:///127.0.0.1:9999",
        "http://",
        "http://127.0.0.1:99999/",
        "http://user@127.0.0.1:9999/",
        "http://user:pw@127.0.0.1:9999/",
        "http://127.0.0.1:9999@evil.test/",
        "http://evil.test\\@127.0.0.1:9999/",
        "http://127.0.0.1:9999\\x",
        "http://127.0.0.1:9999/a b",
        "http://127.0.0.1:9999/a\r\nx: y",
        "http://127.0.0.1:9999/\0",
        "http://127.0.0.1:9999/\u{85}",
        "https://%65xample.com%00/",
        &format!("{HERE}/{}", "a".repeat(MAX_URL_BYTES)),
    ] {
        assert!(matches!(refusal(get(url), &capability), HttpError::Invalid(_)), "{url:?}");
    }
}

#[test]
fn headers_that_frame_or_smuggle_are_invalid() {
    let capability = capability(&[HERE], &[]);
    for (name, value) in [
        ("Host", "evil.test"),
        ("content-length", "1"),
        ("Transfer-Encoding", "chunked"),
        ("CONNECTION", "close"),
        ("Upgrade", "h2c"),
        ("te", "trailers"),
        ("Trailer", "x"),
        ("keep-alive", "1"),
        ("Proxy-Connection", "close"),
        ("proxy-authorization", "x"),
        ("expect", "100-continue"),
        ("HTTP2-Settings", "x"),
        ("x-a", "b\r\nx-evil: 1"),
        ("x-a", "b\nc"),
        ("x-a", "b\0"),
        ("x-a", "\u{7f}"),
        ("x a", "b"),
        ("x:a", "b"),
        ("x-a\r\nhost", "b"),
        (":authority", "evil.test"),
        ("", "b"),
        ("x-ä", "b"),
        ("{{secret:token}}", "b"),
    ] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let error = refusal(Request { headers, ..get(HERE) }, &capability);
        assert!(matches!(error, HttpError::Invalid(_)), "{name:?}: {value:?}: {error}");
    }
}

#[test]
fn what_passes_a_bound_is_invalid() {
    let capability = capability(&[HERE], &[]);
    let wide = vec![("x".to_owned(), "y".repeat(MAX_HEADER_BYTES))];
    let many = vec![("x".to_owned(), "y".to_owned()); 101];
    for request in [
        Request { body: vec![0; MAX_REQUEST_BODY_BYTES + 1], ..get(HERE) },
        Request { headers: wide, ..get(HERE) },
        Request { headers: many, ..get(HERE) },
    ] {
        assert!(matches!(refusal(request, &capability), HttpError::Invalid(_)));
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_for_stays_in_its_origin(
        scheme in "(http|https|HTTP|ftp)?",
        middle in "[/\\\\:@]{0,4}",
        authority in "(127\\.0\\.0\\.1:9999|evil\\.test|[a-z@:.%\\[\\]{}0-9]{0,12}){1,2}",
        tail in "([/?#@.{}:%&\\\\]|secret|token|evil|\\{\\{secret:token\\}\\}|\\{\\{secret:odd\\}\\}){0,8}",
    ) {
        let places = [("token", HERE, SecretPlace::Url), ("odd", HERE, SecretPlace::Url)];
        let capability = capability(&[HERE], &places);
        for url in [format!("{scheme}:{middle}{authority}{tail}"), format!("{HERE}{tail}")] {
            if let Ok(prepared) = prepare::prepare(get(url.as_str()), &capability, &*store()) {
                let sent = prepared.hop.url;
                prop_assert_eq!(sent.origin().ascii_serialization(), HERE, "{}", url);
                prop_assert!(sent.username().is_empty() && sent.password().is_none());
                let path_and_query = sent[url::Position::BeforePath..].to_owned();
                let secret = path_and_query.contains("s3cret-t0ken");
                prop_assert!(!secret || url.contains("{{secret:token}}"), "{}", url);
            }
        }
    }
}
