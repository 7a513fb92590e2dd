use proptest::prelude::*;
use sentinel_sdk::config as json;
use sentinel_sdk::testing::{Host, Installed};
use sentinel_test_notifiers::notifications::{NOW, alert, notification, over, wild};
use sentinel_test_notifiers::teams as fake;
use sentinel_test_notifiers::{Fault, Faulty, Shared, answering, deliver};

use super::*;

const CONFIG: &str =
    r#"{"url": "https://prod.logic.azure.com/workflows/1/invoke?sp=x&sig={{secret:teams-sig}}"}"#;

type Channel = Shared<Faulty<fake::Teams>>;

fn plugin() -> Teams {
    json::parse(CONFIG).and_then(Teams::configure).unwrap()
}

fn channel(faults: &[Fault]) -> (Channel, Installed) {
    let channel = Shared::new(Faulty::first(fake::Teams::default(), faults));
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
fn a_long_list_is_counted_beside_its_link() {
    let (channel, host) = channel(&[]);
    let alerts = (0..100).map(|at| alert(&at.to_string(), "disk")).collect();
    deliver(&host, &mut plugin(), &notification("n", alerts)).last.unwrap();
    let told = channel.look(|faulty| faulty.service.cards[0].to_string());
    assert!(told.contains("more alerts") && told.contains("https://sentinel.example/alerts"));
}

#[test]
fn an_attempt_that_failed_is_made_again_after_the_wish_of_the_service() {
    for (fault, wish, in_doubt) in [
        (Fault::Limited, 2_000, false),
        (Fault::Unavailable, 0, false),
        (Fault::Lost, 0, true),
        (Fault::TakenAndHalf, 0, true),
    ] {
        let (channel, host) = channel(&[fault]);
        let delivered = deliver(&host, &mut plugin(), &notification("n", vec![alert("a", "disk")]));
        assert_eq!((delivered.attempts, delivered.in_doubt), (2, in_doubt), "{delivered:?}");
        assert_eq!(delivered.longest_wish, wish, "{fault:?}");
        let last = channel.look(|faulty| faulty.service.cards.last().unwrap().to_string());
        assert_eq!(last.contains("Possible repeat"), in_doubt);
    }
}

#[test]
fn a_connector_that_says_ok_and_means_no_is_understood() {
    let tell = |words| {
        let (channel, _host) = channel(&[]);
        channel.look(|faulty| faulty.service.connector = Some(words));
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_alerts_come_the_message_is_taken(told in wild()) {
        let (channel, host) = channel(&[]);
        let delivered = deliver(&host, &mut plugin(), &told.0);
        let refused = channel.look(|faulty| faulty.service.refused.clone());
        prop_assert!(delivered.last.is_ok(), "{:?} {:?}", delivered, refused);
        channel.look(|faulty| assert_eq!(faulty.service.cards.len(), 1));
    }

    #[test]
    fn whatever_fails_everything_is_told_and_only_repeats_that_say_so_come_twice(
        seed in any::<u64>(),
    ) {
        let channel = Shared::new(Faulty::seeded(fake::Teams::default(), seed, 120));
        let host = Host::new().at(NOW).server(answering(&channel)).install();
        let mut plugin = plugin();
        for at in 0..8 {
            let before = channel.look(|faulty| faulty.service.cards.len());
            let told = notification(&format!("n{at}"), vec![alert("a", "disk")]);
            let delivered = deliver(&host, &mut plugin, &told);
            prop_assert!(delivered.last.is_ok(), "{:?}", delivered);
            channel.look(|faulty| {
                let new = &faulty.service.cards[before..];
                assert!(!new.is_empty(), "{at} was never told");
                let says = |one: &serde_json::Value| one.to_string().contains("Possible repeat");
                assert!(new[1..].iter().all(says), "a silent repeat: {new:?}");
            });
        }
    }
}
