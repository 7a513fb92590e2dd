use super::*;
use crate::commands::fleet::difference::grants as lines;
use sentinel_trust::effective;
use sentinel_trust::repository::RequestsDifference;
use serde_json::json;

fn named(texts: &[&str]) -> Result<Named, String> {
    let texts: Vec<_> = texts.iter().map(|&text| text.to_owned()).collect();
    Named::read(&texts, false, |path| match path {
        "g.yaml" => Ok("system: true\nkv: {max_bytes: 10}\n".to_owned()),
        _ => Err(format!("{path} is not there")),
    })
}

fn asks(json: serde_json::Value) -> Requests {
    serde_json::from_value(json).unwrap()
}

#[test]
fn each_way_of_writing_a_grant_means_one_thing() {
    for (texts, expected) in [
        (
            &["system", "series"][..],
            &["system: readings of the machine", "series: asking for stored series"][..],
        ),
        (&["http=https://a.example"], &["http: GET, HEAD to https://a.example:443"]),
        (
            &["http=https://a.example,POST,http://b:81"],
            &["http: POST to http://b:81", "http: POST to https://a.example:443"],
        ),
        (
            &["http=https://a.example,GET", "http=https://b.example,POST"],
            &[
                "http: GET, POST to https://a.example:443",
                "http: GET, POST to https://b.example:443",
            ],
        ),
        (
            &["http=https://a.example", "secret=t,https://a.example:443,header:authorization"],
            &[
                "http: GET, HEAD to https://a.example:443",
                "http: the secret t in the header authorization to https://a.example:443",
            ],
        ),
        (
            &["http=https://a.example", "secret=t,https://a.example,url"],
            &[
                "http: GET, HEAD to https://a.example:443",
                "http: the secret t in the URL to https://a.example:443",
            ],
        ),
        (
            &["http=https://a.example", "secret=t,https://a.example,json:routing_key"],
            &[
                "http: GET, HEAD to https://a.example:443",
                "http: the secret t in the member routing_key of the body to https://a.example:443",
            ],
        ),
        (
            &["files=/var/log/{a,b}.log", "files=/etc/*"],
            &["files: reading /var/log/{a,b}.log", "files: reading /etc/*"],
        ),
        (&["mac=a,b", "mac=c"], &["mac: the key a", "mac: the key b", "mac: the key c"]),
        (&["kv=64KiB"], &["kv: 64 KiB of state"]),
        (&["{mac: {keys: [k]}}"], &["mac: the key k"]),
        (
            &["@g.yaml", "series"],
            &[
                "system: readings of the machine",
                "kv: 10 B of state",
                "series: asking for stored series",
            ],
        ),
    ] {
        let grants = named(texts).unwrap().grants(&Requests::default(), &Grants::default());
        assert_eq!(lines(&grants), expected, "{texts:?}");
    }
}

#[test]
fn what_grants_nothing_says_how_to_write_it() {
    for (texts, why) in [
        (&["sytsem"][..], "--grant sytsem: write system, series"),
        (&["system=yes"], "write system"),
        (&["http"], "write system"),
        (&["http=POST"], "no origin is named"),
        (&["http=https://*"], "wildcards are for manifests"),
        (&["http=post,https://a"], "`post` is not an origin"),
        (&["secret=t,https://a.example,url"], "write --grant http=https://a.example:443 before it"),
        (&["http=https://a", "secret=t,https://a"], "write secret=NAME"),
        (
            &["http=https://a", "secret=t,https://a,header:Authorization"],
            "not a header name in lower case",
        ),
        (&["files=relative"], "write an absolute path"),
        (&["mac="], "is not a name"),
        (&["kv=64KB"], "no number of bytes"),
        (&["kv=99999999999MiB"], "not within"),
        (&["kv=99999999999999MiB"], "no number of bytes"),
        (&["{nonsense: 1}"], "nonsense"),
        (&["@none"], "none is not there"),
    ] {
        let error = named(texts).unwrap_err();
        assert!(error.contains(why), "{texts:?}: {error}");
    }
}

#[test]
fn all_is_what_is_asked_for_and_needs_no_choice() {
    let all = Named { all: true, ..Named::default() };
    let plain = asks(json!({
        "system": true, "series": true, "kv": {"max_bytes": 4096}, "files": {"paths": ["/proc/stat"]},
        "http": {"origins": ["https://a.example"], "methods": ["GET", "POST"]},
    }));
    let granted = all.grants(&plain, &Grants::default());
    assert!(effective(&plain, &granted).is_ok());
    assert_eq!(sentinel_trust::unused_grants(&plain, &granted), Vec::<String>::new());
    for choice in [
        json!({"http": {"origins": "from-config", "methods": ["POST"]}}),
        json!({"http": {"origins": ["https://*.example.com"], "methods": ["GET"]}}),
        json!({"files": {"paths": "from-config"}}),
        json!({"mac": true}),
        json!({"mail": true}),
    ] {
        let asked = asks(choice.clone());
        let granted = all.grants(&asked, &Grants::default());
        assert!(effective(&asked, &granted).is_err(), "{choice}");
        assert_eq!(lines(&granted), Vec::<String>::new(), "{choice}");
    }
    // Nor does an upgrade that asks for a key or a relay go on with it.
    for (asked, left) in [(json!({"mac": true, "mail": true, "system": true}), 2), (json!({}), 0)] {
        let asked = RequestsDifference::between(&Requests::default(), &asks(asked)).added;
        assert_eq!(all.unnamed(&asked).len(), left);
    }
    // An origin that is named gets the methods that are asked for.
    let asked = asks(json!({"http": {"origins": "from-config", "methods": ["POST"]}}));
    let named = Named { all: true, ..named(&["http=https://a.example"]).unwrap() };
    assert!(effective(&asked, &named.grants(&asked, &Grants::default())).is_ok());
}

#[test]
fn what_was_granted_before_stays_and_counts_for_nothing_new() {
    let before = named(&["http=https://a.example,POST", "kv=1KiB", "system"]).unwrap();
    let before = before.grants(&Requests::default(), &Grants::default());
    let old = asks(
        json!({"http": {"origins": "from-config", "methods": ["GET"]}, "kv": {"max_bytes": 1024}}),
    );
    let new = asks(
        json!({"http": {"origins": "from-config", "methods": ["GET", "POST"]}, "kv": {"max_bytes": 2048}, "system": true}),
    );
    let asked = RequestsDifference::between(&old, &new).added;
    for (texts, left) in [
        (&[][..], 3),
        (&["series"], 3),
        (&["system"], 2),
        (&["system", "kv"], 1),
        (&["system", "kv", "http=https://a.example,POST"], 0),
    ] {
        assert_eq!(named(texts).unwrap().unnamed(&asked).len(), left, "{texts:?}");
    }
    let granted = named(&["kv"]).unwrap().grants(&new, &before);
    assert!(lines(&granted).contains(&"kv: 2 KiB of state".to_owned()));
    assert!(lines(&granted).contains(&"system: readings of the machine".to_owned()));
}
