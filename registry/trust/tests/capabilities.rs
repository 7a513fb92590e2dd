//! Requests, grants, and what they have in common.

mod fixture;

use insta::assert_snapshot;
use proptest::prelude::*;
use sentinel_trust::{
    Capabilities, Capability, Grants, HttpMethod, Origin, OriginPattern, Requests, effective,
    unused_grants,
};
use serde_json::{Value, json};

fn requests(json: Value) -> Requests {
    serde_json::from_value(json).unwrap()
}

fn grants(json: Value) -> Grants {
    let grants: Grants = serde_json::from_value(json).unwrap();
    assert_eq!(grants.problems(), Vec::<String>::new());
    grants
}

fn origin(text: &str) -> Origin {
    text.parse().unwrap()
}

fn everything() -> Requests {
    requests(json!({
        "system": true,
        "http": {"origins": ["https://api.example.com", "http://*:9090"], "methods": ["GET", "POST"]},
        "mail": true,
        "files": {"paths": ["/var/log/nginx/*.log", "/etc/os-release"]},
        "mac": true,
        "kv": {},
        "series": true
    }))
}

#[test]
fn everything_that_is_missing_is_said_at_once() {
    assert_snapshot!(effective(&everything(), &Grants::default()).unwrap_err());
}

#[test]
fn what_the_operator_is_to_choose_is_said_so() {
    let asked = requests(json!({
        "http": {"origins": "from-config", "methods": ["POST"]},
        "files": {"paths": "from-config"},
        "kv": {"max_bytes": 5000}
    }));
    let granted = grants(json!({"kv": {"max_bytes": 4000}}));
    assert_snapshot!(effective(&asked, &granted).unwrap_err());
}

#[test]
fn nothing_asked_is_nothing_granted_whatever_the_operator_allows() {
    let all = grants(json!({
        "system": true, "series": true, "kv": {"max_bytes": 10}, "mac": {"keys": ["k"]},
        "mail": {"relay": "smtp://m.example", "senders": ["a@b.example"], "recipients": ["*"]},
        "http": {"origins": ["https://a.example"]}, "files": {"paths": ["/**"]}
    }));
    let capabilities = effective(&Requests::default(), &all).unwrap();
    assert_eq!(capabilities, Capabilities::none());
    assert!(Capability::ALL.iter().all(|one| !capabilities.has(*one)));
    assert_snapshot!(unused_grants(&Requests::default(), &all).join("\n"));
}

#[test]
fn what_is_allowed_is_both_asked_and_granted() {
    let granted = grants(json!({
        "system": true,
        "http": {
            "origins": ["https://api.example.com", "http://10.0.0.1:9090", "https://other.example"],
            "methods": ["GET", "POST", "DELETE"],
            "secrets": [
                {"name": "token", "origin": "https://api.example.com:443", "place": {"header": "authorization"}},
                {"name": "unused", "origin": "https://other.example", "place": "url"}
            ]
        },
        "mail": {"relay": "smtps://m.example", "senders": ["a@b.example"], "recipients": ["*"]},
        "files": {"paths": ["/var/log/**", "/etc/*"], "read_bytes": 100},
        "mac": {"keys": ["webhook"]},
        "kv": {"max_bytes": 2_000_000},
        "series": true
    }));
    let capabilities = effective(&everything(), &granted).unwrap();
    assert!(Capability::ALL.iter().all(|one| capabilities.has(*one)));
    let http = capabilities.http().unwrap();
    for (method, to, allowed) in [
        (HttpMethod::Get, "https://api.example.com", true),
        (HttpMethod::Post, "http://10.0.0.1:9090", true),
        (HttpMethod::Delete, "https://api.example.com", false),
        (HttpMethod::Get, "https://other.example", false),
        (HttpMethod::Get, "http://api.example.com", false),
        (HttpMethod::Get, "https://api.example.com:8443", false),
        (HttpMethod::Get, "http://10.0.0.2:9090", false),
    ] {
        assert_eq!(http.allows(method, &origin(to)), allowed, "{method} {to}");
    }
    let secrets: Vec<_> = http.secrets().iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(secrets, ["token"]);
    let files = capabilities.files().unwrap();
    for (path, allowed) in [
        ("/var/log/nginx/access.log", true),
        ("/var/log/syslog", false),
        ("/etc/os-release", true),
        ("/etc/shadow", false),
        ("/var/log/nginx/../../../etc/os-release", false),
    ] {
        assert_eq!(files.allows(path), allowed, "{path}");
    }
    assert_eq!((files.read_bytes(), files.call_bytes()), (100, 16 << 20));
    assert_eq!(capabilities.kv_bytes(), Some(1 << 20));
    assert_eq!(capabilities.mac().unwrap().iter().collect::<Vec<_>>(), ["webhook"]);
    assert_snapshot!(unused_grants(&everything(), &granted).join("\n"));
}

#[test]
fn an_operator_may_grant_less_of_a_pattern_than_was_asked() {
    let asked = requests(json!({"files": {"paths": ["/var/log/**"]}}));
    let granted = grants(json!({"files": {"paths": ["/var/log/nginx/access.log"]}}));
    let capabilities = effective(&asked, &granted).unwrap();
    let files = capabilities.files().unwrap();
    assert!(files.allows("/var/log/nginx/access.log") && !files.allows("/var/log/nginx/error.log"));
}

#[test]
fn where_the_config_chooses_the_grant_alone_decides() {
    let asked = requests(json!({
        "http": {"origins": "from-config", "methods": ["POST"]},
        "files": {"paths": "from-config"}
    }));
    let granted = grants(json!({
        "http": {"origins": ["http://127.0.0.1:8081"], "methods": ["POST"]},
        "files": {"paths": ["/srv/*.txt"]}
    }));
    let capabilities = effective(&asked, &granted).unwrap();
    assert!(
        capabilities.http().unwrap().allows(HttpMethod::Post, &origin("http://127.0.0.1:8081"))
    );
    assert!(
        !capabilities.http().unwrap().allows(HttpMethod::Get, &origin("http://127.0.0.1:8081"))
    );
    assert!(capabilities.files().unwrap().allows("/srv/a.txt"));
    assert!(!capabilities.files().unwrap().allows("/srv/a/b.txt"));
}

#[test]
fn grants_that_cannot_be_meant_are_reported_all_at_once() {
    let grants: Grants = serde_json::from_value(json!({
        "http": {
            "origins": ["https://a.example"], "methods": [], "response_bytes": 0, "timeout_ms": 999_999,
            "secrets": [
                {"name": "has space", "origin": "https://b.example", "place": {"header": "Authorization"}},
                {"name": "h", "origin": "https://a.example", "place": {"header": "host"}}
            ]
        },
        "files": {"paths": [], "read_bytes": 0, "call_bytes": 1_u64 << 40},
        "mac": {"keys": ["a/b"]},
        "kv": {"max_bytes": 1_u64 << 40},
        "limits": {"memory_bytes": 1, "call_ms": 0, "returned_bytes": 1_u64 << 40}
    }))
    .unwrap();
    assert_snapshot!(grants.problems().join("\n"));
}

#[test]
fn a_grant_without_methods_is_for_reading_only() {
    let granted = grants(json!({"http": {"origins": ["https://a.example"]}}));
    let methods: Vec<_> = granted.http.unwrap().methods.into_iter().collect();
    assert_eq!(methods, [HttpMethod::Get, HttpMethod::Head]);
}

#[test]
fn origins_have_one_canonical_form() {
    for (text, canonical) in [
        ("https://example.com", "https://example.com:443"),
        ("https://EXAMPLE.com:443/", "https://example.com:443"),
        ("https://example.com.", "https://example.com:443"),
        ("http://localhost", "http://localhost:80"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://[0:0::0:1]", "http://[::1]:80"),
        ("http://0x7f.1:81", "http://127.0.0.1:81"),
        ("http://2130706433", "http://127.0.0.1:80"),
        ("https://bücher.example", "https://xn--bcher-kva.example:443"),
    ] {
        assert_eq!(origin(text).to_string(), canonical, "{text}");
        assert_eq!(origin(canonical), origin(text));
    }
    for text in [
        "",
        "example.com",
        "ftp://example.com",
        "https://",
        "https://a/b",
        "https://a?x",
        "https://a#x",
        "https://u@a",
        "https://u:p@a",
        "https://@a",
        "https://*",
        "https://a b",
        "https:\\\\a",
        "https://a\n",
        "https://a:99999",
        "file:///etc/passwd",
        "https://.",
    ] {
        assert!(text.parse::<Origin>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn patterns_cover_what_they_say_and_no_more() {
    for (pattern, to, covered) in [
        ("https://*", "https://a.example:8443", true),
        ("https://*", "http://a.example", false),
        ("https://*:8443", "https://a.example:8443", true),
        ("https://*:8443", "https://a.example", false),
        ("https://*.example.com", "https://a.b.example.com", true),
        ("https://*.example.com", "https://example.com", false),
        ("https://*.example.com", "https://evilexample.com", false),
        ("https://*.example.com", "https://a.example.com.evil.net", false),
        ("https://*.example.com", "https://a.example.com:8443", false),
        ("https://*.example.com:*", "https://a.example.com:8443", true),
        ("http://127.0.0.1:*", "http://127.0.0.1:8080", true),
        ("http://127.0.0.1:*", "http://127.0.0.2:8080", false),
        ("http://[::1]:*", "http://[::1]:8080", true),
        ("https://api.example.com", "https://api.example.com", true),
    ] {
        let pattern: OriginPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(&origin(to)), covered, "{pattern} {to}");
        assert_eq!(pattern.to_string().parse::<OriginPattern>().unwrap(), pattern);
    }
    for text in [
        "",
        "*",
        "*://a",
        "https://*.",
        "https://*.com",
        "https://a.*",
        "https://a*.example.com",
        "https://*:x",
        "https://*:0:*",
        "https://a:80:*",
        "https://*/x",
        "https://*.example.com/x",
        "https://*.1.2.3.4",
        "https://**",
        "https://*.*.example.com",
        "ftp://*",
    ] {
        assert!(text.parse::<OriginPattern>().is_err(), "{text:?} was accepted");
    }
}

proptest! {
    #[test]
    fn no_text_panics_a_pattern_and_what_parses_prints_the_same(text in "https?://[a-z0-9*.:\\[\\]/@]{0,16}|\\PC{0,16}") {
        if let Ok(pattern) = text.parse::<OriginPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<OriginPattern>().unwrap(), pattern);
        }
        if let Ok(origin) = text.parse::<Origin>() {
            prop_assert_eq!(origin.to_string().parse::<Origin>().unwrap(), origin.clone());
            prop_assert!(OriginPattern::from(origin.clone()).matches(&origin));
        }
    }
}
