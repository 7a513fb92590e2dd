//! The gate against a relay that says what a test wants, and its refusals.

mod messages;
mod outcomes;
mod relay;
mod trust;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::capabilities::http::address::SystemResolver;

/// Long enough for anything that is answered.
const AMPLE: Duration = Duration::from_secs(30);

/// A grant of mail to a relay, changed by a test.
fn granted(relay: &str, change: impl FnOnce(&mut Value)) -> MailGrant {
    let mut mail = json!({
        "relay": relay,
        "tls": "none",
        "senders": ["ops@example.com"],
        "recipients": ["*@example.com", "boss@example.net"],
        "step_ms": 5_000
    });
    change(&mut mail);
    let grants: sentinel_trust::Grants = serde_json::from_value(json!({"mail": mail})).unwrap();
    assert_eq!(grants.problems(), Vec::<String>::new());
    grants.mail.unwrap()
}

/// Secrets `password`, `empty`, `lines`, `ended`.
fn secrets() -> Arc<dyn SecretSource> {
    let all = [("password", "s3cret"), ("empty", ""), ("lines", "a\nb"), ("ended", "s3cret\r\n")];
    let all = all.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()));
    Arc::new(BTreeMap::from(all))
}

fn gate(grant: &MailGrant) -> MailGate {
    MailGate::new(grant, "pager", secrets(), Arc::new(SystemResolver))
}

fn mailbox(name: &str, address: &str) -> Mailbox {
    Mailbox { name: name.into(), address: address.into() }
}

fn message() -> Message {
    Message {
        sender: mailbox("Sentinel", "ops@example.com"),
        to: vec![mailbox("", "on-call@example.com")],
        cc: Vec::new(),
        reply_to: None,
        subject: "It is hot".into(),
        text: "Machine 2 is hot.\n".into(),
        html: None,
        idempotency_key: "n-1".into(),
        in_reply_to: None,
        timeout_ms: 0,
    }
}
