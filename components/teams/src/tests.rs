use sentinel_sdk::config as json;
use sentinel_sdk::testing::{Host, Installed};
use sentinel_test_notifiers::notifications::{NOW, alert, notification, over};
use sentinel_test_notifiers::suite::Chat;
use sentinel_test_notifiers::teams as fake;
use sentinel_test_notifiers::{Shared, answering};

use super::*;

const CONFIG: &str =
    r#"{"url": "https://prod.logic.azure.com/workflows/1/invoke?sp=x&sig={{secret:teams-sig}}"}"#;

type Channel = Shared<fake::Teams>;

fn plugin() -> Teams {
    json::parse(CONFIG).and_then(Teams::configure).unwrap()
}

fn channel() -> (Channel, Installed) {
    let channel = Shared::new(fake::Teams::default());
    let host = Host::new().at(NOW).server(answering(&channel)).install();
    (channel, host)
}

#[test]
fn a_message_is_the_documented_one() {
    let mut told = notification("ntf_1", vec![alert("a", "disk-full"), over(alert("b", "load"))]);
    told.may_be_repeat = true;
    insta::assert_snapshot!(serde_json::to_string_pretty(&card::message(&told)).unwrap());
}

#[test]
fn a_connector_that_says_ok_and_means_no_is_understood() {
    let tell = |words| {
        let (channel, _host) = channel();
        channel.look(|fake| fake.connector = Some(words));
        plugin().notify(notification("n", vec![alert("a", "disk")]))
    };
    let failed = "Webhook message delivery failed with error: Microsoft Teams endpoint returned \
                  HTTP error 429 with ContextId tcid=0";
    assert!(matches!(tell(failed), Err(DeliveryError::Retry(_))));
    let large = "Webhook message delivery failed with error: Microsoft Teams endpoint returned \
                 HTTP error 413 with ContextId tcid=0";
    assert!(matches!(tell(large), Err(DeliveryError::Permanent(_))));
    assert!(tell("1").is_ok());
}

#[test]
fn configs_are_checked_all_at_once() {
    for (config, expect) in [
        (CONFIG, ""),
        (r#"{"url": "h"}"#, "/url: is no http"),
        (r#"{"url": "https://h", "timeout": "2"}"#, "/timeout: \"2\""),
        ("{}", "missing field `url`"),
    ] {
        let made = json::parse(config).and_then(Teams::configure);
        let said = made.err().map(|found| found[0].to_string()).unwrap_or_default();
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
    }
}

/// The plugin and its fake, as the suite of all chats takes them.
struct Case;

impl Chat for Case {
    type Fake = fake::Teams;
    type Plugin = Teams;
    const WISH_MS: u64 = 2_000;

    fn plugin() -> Teams {
        plugin()
    }

    fn messages(fake: &fake::Teams) -> Vec<String> {
        fake.cards.iter().map(ToString::to_string).collect()
    }

    fn refused(fake: &fake::Teams) -> Vec<String> {
        fake.refused.clone()
    }
}

sentinel_test_notifiers::suite!(Case);
