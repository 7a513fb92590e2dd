//! What is written of a message, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::capabilities::mail::compose::{Outgoing, compose};

const RELAY: &str = "smtp://127.0.0.1:25";
const NOW: i64 = 1_760_000_000_000;

fn composed(message: Message) -> Result<Outgoing, MailError> {
    compose(message, &granted(RELAY, |_| ()), "pager", NOW)
}

fn text(message: Message) -> String {
    String::from_utf8(composed(message).unwrap_or_else(|error| panic!("{error}")).content).unwrap()
}

#[test]
fn a_message_is_written_with_the_hosts_own_headers() {
    let text = text(Message {
        cc: vec![mailbox("Chef, Große", "boss@example.net")],
        reply_to: Some(mailbox("", "answers@elsewhere.example")),
        subject: "It is höt".into(),
        in_reply_to: Some("n-0".into()),
        ..message()
    });
    insta::assert_snapshot!(text.replace("\r\n", "\n"), @r"
    Date: Thu, 09 Oct 2025 08:53:20 +0000
    From: Sentinel <ops@example.com>
    Subject: It is =?utf-8?b?aMO2dA==?=
    Message-ID: <69250d31fd2e919719654022c3871de3@example.com>
    Auto-Submitted: auto-generated
    Reply-To: answers@elsewhere.example
    In-Reply-To: <b054364ae455ad421f7fd08b36070f1a@example.com>
    References: <b054364ae455ad421f7fd08b36070f1a@example.com>
    To: on-call@example.com
    Cc: =?utf-8?b?Q2hlZiwgR3Jvw59l?= <boss@example.net>
    MIME-Version: 1.0
    Content-Type: text/plain; charset=utf-8
    Content-Transfer-Encoding: 7bit

    Machine 2 is hot.
    ");
}

#[test]
fn the_same_key_is_the_same_id_in_the_same_slot_and_domain() {
    let id = |slot: &str, key: &str, sender: &str| {
        let grant = granted(RELAY, |mail| mail["senders"] = json!([sender]));
        let sender = mailbox("", sender);
        let sent = Message { idempotency_key: key.into(), sender, ..message() };
        compose(sent, &grant, slot, NOW).ok().unwrap().message_id
    };
    let one = id("pager", "n-1", "ops@example.com");
    assert_eq!(one, id("pager", "n-1", "other@example.com"));
    assert!(one.ends_with("@example.com") && !one.contains("n-1"), "{one}");
    for other in [
        id("pager", "n-2", "ops@example.com"),
        id("page", "rn-1", "ops@example.com"),
        id("pager", "n-1", "ops@example.net"),
    ] {
        assert_ne!(one, other);
    }
    let answer = text(Message {
        idempotency_key: "n-2".into(),
        in_reply_to: Some("n-1".into()),
        ..message()
    });
    assert!(
        answer.contains(&format!("In-Reply-To: <{one}>\r\nReferences: <{one}>\r\n")),
        "{answer}"
    );
}

#[test]
fn what_is_not_granted_is_denied() {
    let denied = |change: fn(&mut Message)| {
        let mut sent = message();
        change(&mut sent);
        match composed(sent) {
            Err(MailError::Denied(why)) => why,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was let through"),
        }
    };
    for why in [
        denied(|sent| sent.sender = mailbox("", "root@example.com")),
        denied(|sent| sent.sender = mailbox("", "Ops@example.com")),
        denied(|sent| sent.to.push(mailbox("", "boss@example.org"))),
        denied(|sent| sent.cc.push(mailbox("", "x@sub.example.com"))),
        denied(|sent| sent.to = vec![mailbox("", "boss2@example.net")]),
    ] {
        assert!(why.contains("mail."), "{why}");
    }
}

#[test]
fn a_malformed_or_too_large_message_is_invalid() {
    let changes: &[fn(&mut Message)] = &[
        |sent| sent.to.clear(),
        |sent| sent.to = vec![mailbox("", "a@example.com"); 51],
        |sent| sent.cc = vec![mailbox("", "a@example.com"); 50],
        |sent| sent.subject = "a\r\nBcc: x@example.com".into(),
        |sent| sent.subject = "a\nb".into(),
        |sent| sent.subject = "a\0".into(),
        |sent| sent.subject = "a".repeat(1_001),
        |sent| sent.sender.name = "a\r\nBcc: x@example.com".into(),
        |sent| sent.to[0].name = "a\u{85}b".into(),
        |sent| sent.to[0].name = "a".repeat(201),
        |sent| sent.to[0].address = "on-call@example.com\r\nRCPT TO:<x@example.com>".into(),
        |sent| sent.to[0].address = "on-call@example.com> SIZE=1".into(),
        |sent| sent.to[0].address = "\"a b\"@example.com".into(),
        |sent| sent.reply_to = Some(mailbox("", "x@y\r\nz: a")),
        |sent| sent.idempotency_key.clear(),
        |sent| sent.idempotency_key = "a\r\nb".into(),
        |sent| sent.idempotency_key = "a".repeat(201),
        |sent| sent.in_reply_to = Some(String::new()),
        |sent| sent.text = "a".repeat((256 << 10) + 1),
        |sent| sent.html = Some("a".repeat(256 << 10)),
    ];
    for (at, change) in changes.iter().enumerate() {
        let mut sent = message();
        change(&mut sent);
        let result = composed(sent);
        assert!(matches!(result, Err(MailError::Invalid(_))), "change {at} was let through");
    }
}

/// The names of the headers of a message, outermost only.
fn header_names(content: &str) -> Vec<String> {
    let head = content.split("\r\n\r\n").next().unwrap();
    head.split("\r\n")
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap().to_owned())
        .collect()
}

proptest! {
    #[test]
    fn no_text_becomes_a_header_a_command_or_the_end(
        subject in "\\PC{0,60}|[a-z :,<>@\"=?]{0,60}",
        name in "\\PC{0,40}|[a-z :,<>@\"=?\\\\]{0,40}",
        key in "\\PC{1,40}",
        body in "(?s).{0,80}|[a\r\n.:]{0,80}",
        html in proptest::option::of("(?s).{0,80}|[a\r\n.:-]{0,80}"),
    ) {
        let sent = Message {
            subject, text: body, html: html.clone(), idempotency_key: key,
            to: vec![mailbox(&name, "on-call@example.com")],
            ..message()
        };
        let Ok(outgoing) = composed(sent) else { return Ok(()) };
        let content = String::from_utf8(outgoing.content).unwrap();
        prop_assert!(content.is_ascii());
        prop_assert!(!content.replace("\r\n", "").contains(['\r', '\n']), "{:?}", content);
        prop_assert!(content.split("\r\n").all(|line| line.len() <= 998));
        let names = header_names(&content);
        let mut expected = vec![
            "Date", "From", "Subject", "Message-ID", "Auto-Submitted", "To", "MIME-Version",
        ];
        let body: &[&str] = if html.is_some() {
            &["Content-Type"]
        } else {
            &["Content-Type", "Content-Transfer-Encoding"]
        };
        expected.extend(body);
        let mut found: Vec<&str> = names.iter().map(String::as_str).collect();
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}
