//! What a grant of mail says: relays, addresses, patterns, and what cannot be meant.

use insta::assert_snapshot;
use proptest::prelude::*;
use sentinel_trust::fleet::within_ceiling;
use sentinel_trust::{Grants, MailAddress, MailGrant, MailPattern, MailTls, Relay};
use serde_json::{Value, json};

fn grants(change: impl FnOnce(&mut Value)) -> Grants {
    let mut mail = json!({
        "relay": "smtp://mail.example.com",
        "senders": ["ops@example.com"],
        "recipients": ["*@example.com"],
        "user": "sentinel",
        "password": "mail-password"
    });
    change(&mut mail);
    serde_json::from_value(json!({"mail": mail})).unwrap()
}

fn grant(change: impl FnOnce(&mut Value)) -> MailGrant {
    let grants = grants(change);
    assert_eq!(grants.problems(), Vec::<String>::new());
    grants.mail.unwrap()
}

#[test]
fn relays_have_one_canonical_form() {
    for (text, canonical) in [
        ("smtp://mail.example.com", "smtp://mail.example.com:587"),
        ("smtp://MAIL.example.com.:25/", "smtp://mail.example.com:25"),
        ("smtps://mail.example.com", "smtps://mail.example.com:465"),
        ("smtp://127.1:80", "smtp://127.0.0.1:80"),
        ("smtp://[::1]", "smtp://[::1]:587"),
        ("smtps://[0:0::1]:465", "smtps://[::1]:465"),
    ] {
        let relay: Relay = text.parse().unwrap();
        assert_eq!(relay.to_string(), canonical, "{text}");
        assert_eq!(canonical.parse::<Relay>().unwrap(), relay);
    }
    for text in [
        "",
        "mail.example.com",
        "https://mail.example.com",
        "smtp://",
        "smtp://a/b",
        "smtp://u:p@a",
        "smtp://a:0",
        "smtp://a:99999",
        "smtp://*",
        "smtp://a b",
        "smtp://a\r\nb",
        "SMTP://a",
    ] {
        assert!(text.parse::<Relay>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn an_address_is_one_plain_address() {
    for (text, canonical) in [
        ("ops@example.com", "ops@example.com"),
        ("First.Last+tag@EXAMPLE.com", "First.Last+tag@example.com"),
        ("root@localhost", "root@localhost"),
        ("o'neil=x@a-b.example", "o'neil=x@a-b.example"),
    ] {
        let address: MailAddress = text.parse().unwrap();
        assert_eq!(address.as_str(), canonical, "{text}");
        assert_eq!(format!("{}@{}", address.local(), address.domain()), canonical);
    }
    for text in [
        "",
        "@",
        "a",
        "@example.com",
        "a@",
        "a@b@example.com",
        "a b@example.com",
        "a@exa mple.com",
        "a@example.com\r\nBcc: c@d",
        "a\r\n@example.com",
        "a@example.com>",
        "<a@example.com>",
        "a,b@example.com",
        "\"a b\"@example.com",
        "a@[127.0.0.1]",
        ".a@example.com",
        "a..b@example.com",
        "a.@example.com",
        "a@-example.com",
        "a@example..com",
        "a@example.com.",
        "ä@example.com",
        "a@exämple.com",
        "*@example.com",
    ] {
        assert!(text.parse::<MailAddress>().is_err(), "{text:?} was accepted");
    }
    assert!(format!("{}@example.com", "a".repeat(65)).parse::<MailAddress>().is_err());
    assert!(format!("a@{}com", "example.".repeat(40)).parse::<MailAddress>().is_err());
}

#[test]
fn patterns_of_addresses_cover_what_they_say_and_no_more() {
    for (pattern, address, covered) in [
        ("*", "a@b.example", true),
        ("*@example.com", "a@example.com", true),
        ("*@EXAMPLE.com", "a@example.com", true),
        ("*@example.com", "a@sub.example.com", false),
        ("*@example.com", "a@evilexample.com", false),
        ("*@*.example.com", "a@x.y.example.com", true),
        ("*@*.example.com", "a@example.com", false),
        ("*@*.example.com", "a@evilexample.com", false),
        ("ops@example.com", "ops@example.com", true),
        ("ops@example.com", "Ops@example.com", false),
        ("ops@example.com", "ops@example.net", false),
    ] {
        let pattern: MailPattern = pattern.parse().unwrap();
        assert_eq!(pattern.matches(&address.parse().unwrap()), covered, "{pattern} {address}");
        assert_eq!(pattern.to_string().parse::<MailPattern>().unwrap(), pattern);
    }
    for text in ["", "**", "*@", "*@*", "*@*.", "a*", "*@a b", "*@*.*.example.com", "example.com"] {
        assert!(text.parse::<MailPattern>().is_err(), "{text:?} was accepted");
    }
}

#[test]
fn what_protects_a_connection_follows_the_relay() {
    for (relay, tls, protection) in [
        ("smtp://mail.example.com", json!(null), MailTls::Starttls),
        ("smtp://mail.example.com", json!("tls"), MailTls::Tls),
        ("smtps://mail.example.com", json!(null), MailTls::Tls),
        ("smtp://127.0.0.1:25", json!("none"), MailTls::None),
        ("smtp://[::1]:25", json!("none"), MailTls::None),
        ("smtp://localhost:25", json!("none"), MailTls::None),
    ] {
        let grant = grant(|mail| (mail["relay"], mail["tls"]) = (json!(relay), tls.clone()));
        assert_eq!(grant.protection(), protection, "{relay} {tls}");
    }
}

#[test]
fn a_grant_of_mail_that_cannot_be_meant_says_everything_at_once() {
    let text = |change: fn(&mut Value)| grants(change).problems().join("\n");
    assert_snapshot!(text(|mail| mail["tls"] = json!("none")), @"mail.tls: none is for loopback only, and smtp://mail.example.com:587 is not; leave it out");
    assert_snapshot!(text(|mail| {
        *mail = json!({
            "relay": "smtps://127.0.0.1", "tls": "none", "senders": [], "recipients": [],
            "user": "a\nb", "password": "no spaces", "ca_file": "relative",
            "message_recipients": 101, "message_bytes": 0, "per_minute": 601, "step_ms": 60_001,
            "timeout_ms": 120_001
        });
    }), @r"
    mail.tls: `smtps://` is TLS from the first byte; leave it out
    mail.senders: 0 entries; 1 to 100 are allowed
    mail.recipients: 0 entries; 1 to 100 are allowed
    mail.user: `a\u{a}b` is not a name: 1 to 256 bytes without control characters
    mail.password: `no spaces` is not a name: 1 to 100 letters, digits, `-`, `_` and `.`
    mail.ca_file: `relative` is no absolute path
    mail.message_recipients: 101 is not within 1 to 100
    mail.message_bytes: 0 is not within 1 to 4194304
    mail.per_minute: 601 is not within 1 to 600
    mail.step_ms: 60001 is not within 1 to 60000
    mail.timeout_ms: 120001 is not within 1 to 120000
    ");
    assert_snapshot!(text(|mail| mail["password"] = json!(null)), @"mail.user, mail.password: a user needs the name of the secret that holds the password, and the other way round");
}

#[test]
fn a_hosts_ceiling_stands_above_a_grant_of_mail() {
    let ceiling = grants(|mail| mail["recipients"] = json!(["*@*.example.com", "a@b.example"]));
    let beyond = |change: fn(&mut Value)| {
        within_ceiling(&grants(change), &ceiling).err().unwrap_or_default().join("\n")
    };
    assert_eq!(
        beyond(|mail| mail["recipients"] = json!(["x@y.example.com", "*@z.example.com"])),
        ""
    );
    assert_eq!(beyond(|mail| mail["recipients"] = json!(["*"])), "mail: messages to *");
    assert_snapshot!(beyond(|mail| {
        *mail = json!({
            "relay": "smtp://localhost:25", "tls": "none", "senders": ["root@localhost"],
            "recipients": ["a@b.example"], "user": "other", "password": "other", "per_minute": 61
        });
    }), @r"
    mail: the relay smtp://localhost:25
    mail: a relay that is trusted otherwise (tls, ca_file)
    mail: another user or password
    mail: messages from root@localhost
    mail.per_minute: 61 where at most 60 are allowed
    ");
    let none = Grants::default();
    assert_eq!(within_ceiling(&ceiling, &none).unwrap_err(), ["mail: messages at all"]);
}

proptest! {
    #[test]
    fn no_text_panics_and_what_parses_prints_the_same(text in "[a-z.*@:/\\[\\]-]{0,12}(@[a-z.-]{0,12})?|\\PC{0,16}") {
        if let Ok(address) = text.parse::<MailAddress>() {
            prop_assert_eq!(address.to_string().parse::<MailAddress>().unwrap(), address);
        }
        if let Ok(pattern) = text.parse::<MailPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<MailPattern>().unwrap(), pattern);
        }
        if let Ok(relay) = format!("smtp://{text}").parse::<Relay>() {
            prop_assert_eq!(relay.to_string().parse::<Relay>().unwrap(), relay);
        }
    }
}
