use sentinel_sdk::config as json;
use sentinel_sdk::testing::{Host, Installed};
use sentinel_test_notifiers::notifications::{NOW, alert, notification, over};
use sentinel_test_notifiers::suite::Chat;
use sentinel_test_notifiers::telegram as fake;
use sentinel_test_notifiers::{Shared, answering};

use super::*;

const CONFIG: &str = r#"{"token": "telegram-token", "chat_id": "-1001"}"#;

type Channel = Shared<fake::Telegram>;

fn plugin() -> Telegram {
    json::parse(CONFIG).and_then(Telegram::configure).unwrap()
}

fn channel() -> (Channel, Installed) {
    let channel = Shared::new(fake::Telegram::default());
    let host = Host::new().at(NOW).server(answering(&channel)).install();
    (channel, host)
}

#[test]
fn a_message_is_the_documented_one() {
    let mut told = notification("ntf_1", vec![alert("a", "disk-full"), over(alert("b", "load"))]);
    told.may_be_repeat = true;
    insta::assert_snapshot!(message::text(&told));
}

#[test]
fn what_telegram_refuses_is_said_with_its_reason_and_what_to_do() {
    let (channel, host) = channel();
    plugin().notify(notification("n", vec![alert("a", "disk")])).unwrap();
    assert_eq!(
        host.requests()[0].url,
        "https://api.telegram.org/bot{{secret:telegram-token}}/sendMessage"
    );
    channel.look(|fake| fake.migrated = true);
    let refused = plugin().notify(notification("n", vec![alert("a", "disk")]));
    let Err(DeliveryError::Permanent(said)) = refused else { panic!("{refused:?}") };
    assert!(said.contains("set `chat_id` to \"-1002\""), "{said}");
    let other = r#"{"token": "t", "chat_id": "@other", "message_thread_id": 7}"#;
    let refused = json::parse(other)
        .and_then(Telegram::configure)
        .unwrap()
        .notify(notification("n", vec![alert("a", "disk")]));
    let Err(DeliveryError::Permanent(said)) = refused else { panic!("{refused:?}") };
    assert!(said.contains("chat not found"), "{said}");
}

#[test]
fn configs_are_checked_all_at_once() {
    for (config, expect) in [
        (CONFIG, ""),
        (r#"{"token": "t", "chat_id": "@alerts", "message_thread_id": 5}"#, ""),
        (r#"{"token": "1:A", "chat_id": "1"}"#, "/token: is a token itself"),
        (r#"{"token": "", "chat_id": "1"}"#, "/token: names no secret"),
        (r#"{"token": "t", "chat_id": "alerts"}"#, "/chat_id: is no chat"),
        (r#"{"token": "t", "chat_id": "1", "api": "h"}"#, "/api: is no http"),
        (r#"{"token": "t", "chat_id": "1", "timeout": "2"}"#, "/timeout: \"2\""),
        ("{}", "missing field `token`"),
    ] {
        let made = json::parse(config).and_then(Telegram::configure);
        let said = made.err().map(|found| found[0].to_string()).unwrap_or_default();
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
    }
    let wrong = r#"{"token": "", "chat_id": "", "api": "x", "timeout": "x"}"#;
    assert_eq!(json::parse(wrong).and_then(Telegram::configure).unwrap_err().len(), 4);
}

/// The plugin and its fake, as the suite of all chats takes them.
struct Case;

impl Chat for Case {
    type Fake = fake::Telegram;
    type Plugin = Telegram;
    const WISH_MS: u64 = 2_000;

    fn plugin() -> Telegram {
        plugin()
    }

    fn messages(fake: &fake::Telegram) -> Vec<String> {
        fake.messages.clone()
    }

    fn refused(fake: &fake::Telegram) -> Vec<String> {
        fake.refused.clone()
    }
}

sentinel_test_notifiers::suite!(Case);
