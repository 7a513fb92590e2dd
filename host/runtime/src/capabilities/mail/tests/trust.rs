//! Whom the gate trusts: names, TLS, and who gets the password.

use std::net::IpAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::relay::{Act, Relay, usual};
use super::*;
use crate::capabilities::http::address::Resolving;

/// Every name leads to the same addresses.
struct Leads(Vec<&'static str>);

impl Resolver for Leads {
    fn resolve(&self, _: &str) -> Resolving {
        let all: Vec<IpAddr> = self.0.iter().map(|address| address.parse().unwrap()).collect();
        Box::pin(async move { Ok(all) })
    }
}

fn with_user(mail: &mut Value) {
    (mail["user"], mail["password"]) = (json!("sentinel"), json!("password"));
}

#[tokio::test]
async fn a_name_leads_to_ordinary_addresses_only() {
    let relay = Relay::answering(|word, _| usual(word)).await;
    let port = relay.url.rsplit(':').next().unwrap();
    for (host, addresses, reached) in [
        ("localhost", vec!["127.0.0.1"], true),
        ("localhost", vec!["169.254.169.254", "127.0.0.1"], true),
        ("localhost", vec!["169.254.169.254"], false),
        ("mail.example.com", vec!["127.0.0.1"], false),
        ("mail.example.com", vec!["::1", "169.254.169.254", "0.0.0.0"], false),
    ] {
        // Nothing but the addresses may keep it from sending without TLS.
        let mut grant = granted(&format!("smtp://localhost:{port}"), |_| ());
        grant.relay = format!("smtp://{host}:{port}").parse().unwrap();
        let gate = MailGate::new(&grant, "pager", secrets(), Arc::new(Leads(addresses.clone())));
        match gate.send(message(), 0, AMPLE).await {
            Ok(_) => assert!(reached, "{host} {addresses:?}"),
            Err(MailError::Denied(why)) => assert!(!reached, "{host} {addresses:?}: {why}"),
            Err(other) => panic!("{other}"),
        }
    }
    let none = MailGate::new(
        &granted(&format!("smtp://localhost:{port}"), |_| ()),
        "pager",
        secrets(),
        Arc::new(Leads(Vec::new())),
    );
    assert!(matches!(none.send(message(), 0, AMPLE).await, Err(MailError::Unreachable(_))));
}

#[tokio::test]
async fn a_relay_without_starttls_hears_neither_user_nor_message() {
    let relay = Relay::answering(|word, _| usual(word)).await;
    let grant = granted(&relay.url, |mail| {
        mail["tls"] = json!("starttls");
        with_user(mail);
    });
    let result = gate(&grant).send(message(), 0, AMPLE).await;
    assert!(matches!(result, Err(MailError::Tls(_))), "{result:?}");
    assert_eq!(relay.words(), ["EHLO"]);
}

/// A relay that knows STARTTLS, with somebody in between who adds `more` to its last plain
/// answer. Says what it heard within TLS.
async fn injected(
    more: &'static str,
) -> (String, tempfile::TempDir, tokio::task::JoinHandle<String>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("ca.pem"), made.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("smtp://127.0.0.1:{}", listener.local_addr().unwrap().port());
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut line = [0; 512];
        stream.write_all(b"220 relay\r\n").await.unwrap();
        let _ = stream.read(&mut line).await.unwrap();
        stream.write_all(b"250-relay\r\n250 STARTTLS\r\n").await.unwrap();
        let _ = stream.read(&mut line).await.unwrap();
        stream.write_all(format!("220 go\r\n{more}").as_bytes()).await.unwrap();
        let Ok(mut stream) = acceptor.accept(stream).await else { return String::new() };
        let read = stream.read(&mut line).await.unwrap_or(0);
        String::from_utf8_lossy(&line[..read]).into_owned()
    });
    (url, folder, heard)
}

#[tokio::test]
async fn what_is_added_to_the_last_plain_answer_is_no_answer_within_tls() {
    for (more, begun) in [("", true), ("250-evil\r\n250 AUTH PLAIN\r\n250 in\r\n", false)] {
        let (url, folder, heard) = injected(more).await;
        let grant = granted(&url, |mail| {
            mail["tls"] = json!("starttls");
            mail["ca_file"] = json!(folder.path().join("ca.pem"));
        });
        let result = gate(&grant).send(message(), 0, AMPLE).await;
        let heard = heard.await.unwrap();
        assert_eq!(heard.starts_with("EHLO "), begun, "{more:?}: {heard}");
        // It hangs up after the first command, or the handshake failed.
        assert!(matches!(result, Err(MailError::Tls(_))), "{result:?}");
    }
}

#[tokio::test]
async fn a_user_is_known_by_plain_or_by_login() {
    for (offered, said) in [
        ("250-relay\r\n250 AUTH LOGIN PLAIN", &["AUTH PLAIN AHNlbnRpbmVsAHMzY3JldA=="][..]),
        ("250-relay\r\n250 AUTH LOGIN", &["AUTH LOGIN", "c2VudGluZWw=", "czNjcmV0"]),
    ] {
        let relay = Relay::answering(move |word, line| match (word, line) {
            ("EHLO", _) => Act::Say(offered),
            (_, "AUTH LOGIN") => Act::Say("334 VXNlcm5hbWU6"),
            (_, "c2VudGluZWw=") => Act::Say("334 UGFzc3dvcmQ6"),
            (_, "czNjcmV0") => Act::Say("235 in"),
            _ => usual(word),
        })
        .await;
        let grant = granted(&relay.url, |mail| {
            with_user(mail);
            mail["password"] = json!("ended");
        });
        gate(&grant).send(message(), 0, AMPLE).await.unwrap();
        assert_eq!(relay.heard()[1..=said.len()], *said);
    }
}

#[tokio::test]
async fn a_relay_that_repeats_the_password_repeats_it_to_nobody() {
    for (at, act) in [
        ("AUTH", (|| Act::Say("535 5.7.8 not s3cret")) as fn() -> Act),
        ("AUTH", || Act::Say("454 4.7.0 czNjcmV0 AHNlbnRpbmVsAHMzY3JldA==")),
        ("MAIL", || Act::Say("550 s3cret")),
        (".", || Act::Say("250 taken with s3cret")),
        (".", || Act::Say("554 s3cret")),
    ] {
        let relay = Relay::but(at, act).await;
        let result = gate(&granted(&relay.url, with_user)).send(message(), 0, AMPLE).await;
        let said = format!("{result:?}");
        for part in ["s3cret", "czNjcmV0", "AHNlbnRpbmVsAHMzY3JldA=="] {
            assert!(!said.contains(part), "{at}: {said}");
        }
        assert!(said.contains("***"), "{at}: {said}");
        match (at, result) {
            ("AUTH", Err(MailError::Auth(why))) => assert!(why.starts_with("535 "), "{why}"),
            ("AUTH", Err(MailError::Temporary(reply))) => assert_eq!(reply.code, 454),
            ("AUTH", other) => panic!("{other:?}"),
            _ => {}
        }
    }
    let relay = Relay::but("EHLO", || Act::Say("250 relay")).await;
    let result = gate(&granted(&relay.url, with_user)).send(message(), 0, AMPLE).await;
    assert!(matches!(result, Err(MailError::Auth(_))), "{result:?}");
    assert_eq!(relay.words(), ["EHLO"]);
}

#[tokio::test]
async fn of_a_password_that_stands_where_words_are_cut_no_part_is_told() {
    // Of two lines: one alone may be no longer than 512 bytes.
    for before in MAX_REPLY_BYTES - 6..=MAX_REPLY_BYTES {
        let line = format!("451-{}\r\n451 ", "x".repeat(before - 250));
        let said: &str = format!("{line}{}s3cret", "y".repeat(249)).leak();
        let relay = Relay::answering(move |word, _| match word {
            "MAIL" => Act::Say(said),
            word => usual(word),
        })
        .await;
        let result = gate(&granted(&relay.url, with_user)).send(message(), 0, AMPLE).await;
        let Err(MailError::Temporary(reply)) = result else { panic!("{result:?}") };
        assert!(reply.text.len() <= MAX_REPLY_BYTES, "{}", reply.text.len());
        let last = reply.text.trim_end_matches('*');
        assert!(last.ends_with(['x', 'y']), "{before}: {}", reply.text);
    }
}

#[tokio::test]
async fn a_password_that_is_not_there_keeps_the_relay_from_being_called() {
    let relay = Relay::answering(|word, _| usual(word)).await;
    for secret in ["gone", "empty", "lines"] {
        let grant = granted(&relay.url, |mail| {
            with_user(mail);
            mail["password"] = json!(secret);
        });
        let result = gate(&grant).send(message(), 0, AMPLE).await;
        assert!(
            matches!(&result, Err(MailError::Denied(why)) if why.contains(secret)),
            "{result:?}"
        );
    }
    assert_eq!(relay.heard(), Vec::<String>::new());
}

#[tokio::test]
async fn authorities_that_cannot_be_read_are_trusted_by_nobody() {
    let relay = Relay::answering(|word, _| usual(word)).await;
    let folder = tempfile::tempdir().unwrap();
    let written = |name: &str, text: &[u8]| {
        std::fs::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    };
    let missing = folder.path().join("none.pem");
    let bad = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
    for file in [missing, written("text", b"hello"), written("bad.pem", bad)] {
        let grant = granted(&relay.url, |mail| {
            (mail["tls"], mail["ca_file"]) = (json!("tls"), json!(file));
        });
        let result = gate(&grant).send(message(), 0, AMPLE).await;
        assert!(matches!(&result, Err(MailError::Tls(_))), "{file:?}: {result:?}");
    }
    assert_eq!(relay.heard(), Vec::<String>::new());
}
