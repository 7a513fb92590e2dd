use sentinel_sdk::config as json;
use sentinel_sdk::testing::{Host, Installed};
use sentinel_test_notifiers::discord as fake;
use sentinel_test_notifiers::notifications::{NOW, alert, notification, over};
use sentinel_test_notifiers::suite::Chat;
use sentinel_test_notifiers::{Shared, answering};

use super::*;

const CONFIG: &str = r#"{"url": "https://discord.com/api/webhooks/1234/{{secret:discord-token}}"}"#;

type Channel = Shared<fake::Discord>;

fn plugin() -> Discord {
    json::parse(CONFIG).and_then(Discord::configure).unwrap()
}

fn channel() -> (Channel, Installed) {
    let channel = Shared::new(fake::Discord::default());
    let host = Host::new().at(NOW).server(answering(&channel)).install();
    (channel, host)
}

#[test]
fn a_message_is_the_documented_one() {
    let mut told = notification("ntf_1", vec![alert("a", "disk-full"), over(alert("b", "load"))]);
    told.may_be_repeat = true;
    insta::assert_snapshot!(serde_json::to_string_pretty(&message::message(&told)).unwrap());
}

#[test]
fn the_message_that_was_made_is_told_and_refusals_are_for_good() {
    let (channel, _host) = channel();
    let receipt = plugin().notify(notification("n", vec![alert("a", "disk")])).unwrap();
    assert_eq!(receipt.reference.as_deref(), Some("991"));
    channel.look(|fake| assert_eq!(fake.messages.len(), 1));
    let gone = r#"{"url": "https://discord.com/api/webhooks/4321/{{secret:discord-token}}"}"#;
    let mut gone = json::parse(gone).and_then(Discord::configure).unwrap();
    let refused = gone.notify(notification("n", vec![alert("a", "disk")]));
    let Err(DeliveryError::Permanent(said)) = refused else { panic!("{refused:?}") };
    assert!(said.contains("Unknown Webhook") && said.contains("check the path"), "{said}");
}

#[test]
fn configs_are_checked_all_at_once() {
    for (config, expect) in [
        (CONFIG, ""),
        (r#"{"url": "https://h/x?thread_id=1", "timeout": "2s"}"#, ""),
        (r#"{"url": "h"}"#, "/url: is no http"),
        (r#"{"url": "https://h", "timeout": "2"}"#, "/timeout: \"2\""),
        ("{}", "missing field `url`"),
    ] {
        let made = json::parse(config).and_then(Discord::configure);
        let said = made.err().map(|found| found[0].to_string()).unwrap_or_default();
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
    }
    let wrong = r#"{"url": "x", "timeout": "x"}"#;
    assert_eq!(json::parse(wrong).and_then(Discord::configure).unwrap_err().len(), 2);
}

/// The plugin and its fake, as the suite of all chats takes them.
struct Case;

impl Chat for Case {
    type Fake = fake::Discord;
    type Plugin = Discord;
    const WISH_MS: u64 = 1_250;

    fn plugin() -> Discord {
        plugin()
    }

    fn messages(fake: &fake::Discord) -> Vec<String> {
        fake.messages.iter().map(ToString::to_string).collect()
    }

    fn refused(fake: &fake::Discord) -> Vec<String> {
        fake.refused.clone()
    }
}

sentinel_test_notifiers::suite!(Case);
