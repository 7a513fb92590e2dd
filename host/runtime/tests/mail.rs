//! Mail through a real SMTP server, by the gate and by a plugin.

mod plugins;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plugins::{Host, plugin, plugin_with, spec};
use sentinel_model::alert::{Notification, NotificationStatus};
use sentinel_model::series::Labels;
use sentinel_runtime::capabilities::http::address::SystemResolver;
use sentinel_runtime::capabilities::mail::{MailError, MailGate, Mailbox, Message, Receipt};
use sentinel_runtime::notifier::NotifyError;
use sentinel_runtime::{Services as Lent, Slot};
use sentinel_test_services::{Services, SmtpServer, SmtpTls};
use sentinel_trust::Grants;
use serde_json::{Value, json};

sentinel_runtime::compile_child_hook!();

const USER: (&str, &str) = ("sentinel", "correct horse");

/// A server and the folder it lives in.
struct Server {
    server: SmtpServer,
    tls: SmtpTls,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(tls: SmtpTls, user: Option<(&str, &str)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server =
            SmtpServer::start(&Services::here().unwrap(), folder.path(), tls, user).unwrap();
        Self { server, tls, _folder: folder }
    }

    /// A grant that fits it, changed by a test.
    fn grant(&self, change: impl FnOnce(&mut Value)) -> Value {
        let scheme = if self.tls == SmtpTls::Tls { "smtps" } else { "smtp" };
        let mut grant = json!({
            "relay": format!("{scheme}://127.0.0.1:{}", self.server.port()),
            "senders": ["ops@example.com"],
            "recipients": ["*@example.com"],
            "ca_file": self.server.ca_file(),
            "user": "sentinel",
            "password": "mail-password"
        });
        if self.tls == SmtpTls::None {
            grant["tls"] = json!("none");
        }
        change(&mut grant);
        grant
    }

    async fn send(
        &self,
        change: impl FnOnce(&mut Value),
        message: Message,
    ) -> Result<Receipt, MailError> {
        let grants: Grants = serde_json::from_value(json!({"mail": self.grant(change)})).unwrap();
        assert_eq!(grants.problems(), Vec::<String>::new());
        let resolver = Arc::new(SystemResolver);
        let gate = MailGate::new(grants.mail.as_ref().unwrap(), "pager", secrets(), resolver);
        gate.send(message, 1_760_000_000_000, Duration::from_secs(60)).await
    }
}

fn secrets() -> Arc<BTreeMap<String, Vec<u8>>> {
    let all = [("mail-password", USER.1), ("wrong", "wrong")];
    Arc::new(all.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).into())
}

fn to(addresses: &[&str]) -> Vec<Mailbox> {
    let one = |address: &&str| Mailbox { name: String::new(), address: (*address).to_owned() };
    addresses.iter().map(one).collect()
}

fn message() -> Message {
    Message {
        sender: Mailbox { name: "Sentinel, für alle".into(), address: "ops@example.com".into() },
        to: to(&["on-call@example.com"]),
        cc: to(&["boss@example.com"]),
        reply_to: None,
        subject: format!("Maschine 2 ist heiß: {}", "sehr ".repeat(40)),
        text: format!("Größe 70 °C\n.\n..\n{}\nEnde\n", "lang ".repeat(400)),
        html: Some("<p>Größe <b>70</b> °C</p>\n.\n".into()),
        idempotency_key: "n-1".into(),
        in_reply_to: None,
        timeout_ms: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_arrives_as_it_was_written_over_starttls_and_over_tls() {
    for tls in [SmtpTls::Starttls, SmtpTls::Tls] {
        let server = Server::start(tls, Some(USER));
        let receipt = server.send(|_| (), message()).await.unwrap();
        assert_eq!((receipt.text.as_str(), receipt.refused.len()), ("2.0.0 queued as 1", 0));
        let mails = server.server.messages().unwrap();
        let [mail] = &mails[..] else { panic!("{mails:?}") };
        assert_eq!((mail.user.as_deref(), mail.tls), (Some(USER.0), true), "{tls:?}");
        assert_eq!(mail.sender, "ops@example.com");
        assert_eq!(mail.recipients, ["on-call@example.com", "boss@example.com"]);
        let sent = message();
        for (name, value) in [
            ("Subject", sent.subject.trim_end()),
            ("From", "\"Sentinel, für alle\" <ops@example.com>"),
            ("To", "on-call@example.com"),
            ("Cc", "boss@example.com"),
            ("Auto-Submitted", "auto-generated"),
            ("Message-ID", &format!("<{}>", receipt.message_id)),
            ("Date", "Thu, 09 Oct 2025 08:53:20 +0000"),
        ] {
            assert_eq!(mail.header(name).map(str::trim_end), Some(value), "{name}");
        }
        assert_eq!(mail.text.trim_end(), sent.text.trim_end());
        assert_eq!(
            mail.html.as_deref().map(str::trim_end),
            sent.html.as_deref().map(str::trim_end)
        );
        assert!(!mail.content().unwrap().contains(USER.1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_is_not_trusted_gets_neither_password_nor_message() {
    let stranger = Server::start(SmtpTls::None, None);
    for tls in [SmtpTls::Starttls, SmtpTls::Tls] {
        let server = Server::start(tls, Some(USER));
        for ca_file in [json!(null), json!(stranger.server.ca_file())] {
            let result = server.send(|grant| grant["ca_file"] = ca_file.clone(), message()).await;
            assert!(matches!(result, Err(MailError::Tls(_))), "{tls:?} {ca_file}: {result:?}");
        }
        assert_eq!(server.server.messages().unwrap(), []);
    }
    // A server that speaks no TLS where the grant wants it.
    for tls in ["starttls", "tls"] {
        let result = stranger.send(|grant| grant["tls"] = json!(tls), message()).await;
        assert!(matches!(result, Err(MailError::Tls(_))), "{tls}: {result:?}");
    }
    assert_eq!(stranger.server.messages().unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_apart_and_refusals_are_told_by_recipient() {
    let server = Server::start(SmtpTls::Starttls, Some(USER));
    let result = server.send(|grant| grant["password"] = json!("wrong"), message()).await;
    assert!(matches!(&result, Err(MailError::Auth(why)) if why.contains("535")), "{result:?}");
    let only = |who: &[&str]| Message { to: to(who), cc: Vec::new(), ..message() };
    let refused = server.send(|_| (), only(&["refused@example.com"])).await;
    assert!(matches!(&refused, Err(MailError::Rejected(r)) if r.code == 550), "{refused:?}");
    let later = server.send(|_| (), only(&["refused@example.com", "later@example.com"])).await;
    assert!(matches!(&later, Err(MailError::Temporary(r)) if r.code == 450), "{later:?}");
    assert_eq!(server.server.messages().unwrap(), []);
    let some = server.send(|_| (), only(&["refused@example.com", "on-call@example.com"])).await;
    assert_eq!(some.unwrap().refused[0].0, "refused@example.com");
    assert_eq!(server.server.messages().unwrap()[0].recipients, ["on-call@example.com"]);
}

fn notification() -> Notification {
    Notification {
        id: "n-1".into(),
        notifier: "pager".parse().unwrap(),
        time: 1_760_000_000_000,
        status: NotificationStatus::Firing,
        group: Labels::default(),
        alerts: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_sends_mail_through_its_grant_and_through_nothing_else() {
    let host = Host::new();
    let server = Server::start(SmtpTls::Starttls, Some(USER));
    let lent = Lent { secrets: secrets(), ..Lent::none() };
    let told = async |to: &str, grant: Value| {
        let config = json!({"sender": "ops@example.com", "to": to});
        let courier = spec("pager", plugin("courier"), config, json!({"mail": grant}));
        let slot = host.slot_with(courier, lent.clone()).await;
        let told = slot.notify(&notification(), 1, false, "").await;
        assert_eq!(slot.status().failures, [].into());
        told
    };
    told("on-call@example.com", server.grant(|_| ())).await.unwrap();
    let denied = told("on-call@example.net", server.grant(|_| ())).await.unwrap_err();
    assert!(
        matches!(&denied, NotifyError::Permanent(why) if why.contains("mail.recipients")),
        "{denied}"
    );
    let retry = told("later@example.com", server.grant(|_| ())).await.unwrap_err();
    assert!(matches!(&retry, NotifyError::Retry { .. }), "{retry}");
    assert_eq!(server.server.messages().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mail_is_a_permission_that_is_asked_for_and_granted() {
    let host = Host::new();
    let config = json!({"sender": "ops@example.com", "to": "on-call@example.com"});
    let start = async |component, grants| {
        let spec = spec("pager", component, config.clone(), grants);
        let started = Slot::start(&host.runtime, spec, Lent::none()).await;
        started.err().map(|error| error.to_string()).unwrap_or_default()
    };
    let missing = start(plugin("courier"), json!({})).await;
    assert!(missing.contains("name the relay"), "{missing}");
    let http = json!({"http": {"origins": ["https://a.example"], "methods": ["GET"]}});
    let wrong = start(plugin("courier"), http).await;
    assert!(wrong.contains("name the relay"), "{wrong}");
    let grant = json!({"mail": {
        "relay": "smtp://mail.example.com", "senders": ["ops@example.com"], "recipients": ["*"],
        "tls": "none"
    }});
    let open = start(plugin("courier"), grant).await;
    assert!(open.contains("mail.tls"), "{open}");
    let other = plugin_with("webhook", |manifest| manifest.requests.mail = true);
    let unused = start(other, json!({})).await;
    assert!(unused.contains("name the relay"), "{unused}");
}
