use proptest::prelude::*;
use sentinel_sdk::config as json;
use sentinel_sdk::testing::{Host, Installed};
use sentinel_test_notifiers::notifications::{NOW, alert, label, notification, over, wild};
use sentinel_test_notifiers::slack as fake;
use sentinel_test_notifiers::{Fault, Faulty, Shared, answering, deliver};

use super::*;

const BOT: &str = r##"{"token": "slack-token", "channel": "#alerts"}"##;
const HOOK: &str = r#"{"webhook": "https://hooks.slack.com/services/{{secret:slack-hook}}"}"#;

type Channel = Shared<Faulty<fake::Slack>>;

fn plugin(config: &str) -> Slack {
    json::parse(config).and_then(Slack::configure).unwrap()
}

fn channel(faults: &[Fault]) -> (Channel, Installed) {
    let channel = Shared::new(Faulty::first(fake::Slack::default(), faults));
    let host = Host::new().at(NOW).server(answering(&channel)).install();
    (channel, host)
}

fn header(message: &fake::Message) -> String {
    message.body["blocks"][0]["text"]["text"].as_str().unwrap().to_owned()
}

#[test]
fn a_message_says_what_is_wrong_since_when_where_and_what_to_do() {
    let mut told = notification("ntf_1", vec![alert("a", "disk-full"), over(alert("b", "load"))]);
    told.may_be_repeat = true;
    let (text, blocks) = message::message(&told, Some(3));
    let shown = serde_json::to_string_pretty(&json!({"text": text, "blocks": blocks})).unwrap();
    insta::assert_snapshot!(shown);
}

#[test]
fn a_group_has_one_message_that_is_kept_up_to_date_and_a_thread() {
    let (channel, host) = channel(&[]);
    let mut slack = plugin(BOT);
    let (a, b) = (alert("a", "disk-full"), alert("b", "disk-full"));
    let steps = [
        (vec![a.clone()], "🔥 [FIRING:1]", 1),
        (vec![a.clone(), b.clone()], "🔥 [FIRING:2]", 2),
        (vec![over(a)], "🔥 [PARTLY RESOLVED:1]", 3),
        (vec![over(b.clone())], "✅ [RESOLVED:1]", 4),
        (vec![b], "🔥 [FIRING:1]", 5),
    ];
    for (at, (alerts, head, messages)) in steps.into_iter().enumerate() {
        let delivered = deliver(&host, &mut slack, &notification(&format!("n{at}"), alerts));
        assert!(delivered.last.is_ok(), "{delivered:?}");
        channel.look(|faulty| {
            let service = &faulty.service;
            assert_eq!(service.messages.len(), messages);
            let top = service.tops().last().unwrap();
            assert!(header(top).starts_with(head), "{at}: {}", header(top));
        });
    }
    channel.look(|faulty| {
        let tops: Vec<_> = faulty.service.tops().collect();
        assert_eq!(tops.len(), 2, "what fires again begins a new message");
        assert_eq!(faulty.service.replies(&tops[0].ts).count(), 3);
        assert_eq!((tops[0].updates, tops[1].updates), (3, 0));
    });
}

#[test]
fn groups_do_not_share_a_message_and_the_order_of_labels_means_nothing() {
    let (channel, host) = channel(&[]);
    let mut slack = plugin(BOT);
    let mut tell = |group: &[(&str, &str)]| {
        let mut told = notification("n", vec![alert("a", "disk")]);
        told.group = group.iter().map(|(key, value)| label(key, value)).collect();
        deliver(&host, &mut slack, &told).last.unwrap();
    };
    tell(&[("a", "1"), ("b", "2")]);
    tell(&[("b", "2"), ("a", "1")]);
    tell(&[("a", "1b"), ("", "2")]);
    tell(&[]);
    channel.look(|faulty| assert_eq!(faulty.service.tops().count(), 3));
}

#[test]
fn a_message_that_is_gone_is_begun_anew() {
    let (channel, host) = channel(&[]);
    let mut slack = plugin(BOT);
    let told = notification("n1", vec![alert("a", "disk")]);
    deliver(&host, &mut slack, &told).last.unwrap();
    channel.look(|faulty| faulty.service.messages.clear());
    deliver(&host, &mut slack, &notification("n2", vec![alert("b", "disk")])).last.unwrap();
    deliver(&host, &mut slack, &notification("n3", vec![alert("c", "disk")])).last.unwrap();
    channel.look(|faulty| {
        let top = faulty.service.tops().next().unwrap();
        assert_eq!(faulty.service.replies(&top.ts).count(), 1);
    });
}

#[test]
fn an_attempt_that_failed_is_made_again_without_a_second_message() {
    for fault in [Fault::Limited, Fault::Unavailable] {
        let (channel, host) = channel(&[fault, fault]);
        let mut slack = plugin(BOT);
        let delivered = deliver(&host, &mut slack, &notification("n", vec![alert("a", "disk")]));
        assert_eq!((delivered.attempts, delivered.in_doubt), (3, false), "{delivered:?}");
        let wish = if fault == Fault::Limited { 2_000 } else { 0 };
        assert_eq!(delivered.longest_wish, wish);
        channel.look(|faulty| assert_eq!(faulty.service.messages.len(), 1));
    }
}

#[test]
fn slacks_own_errors_decide_as_the_table_says() {
    use DeliveryError::{Permanent, Retry, Unknown};
    let token = "store the bot's token";
    for (error, expect, words) in [
        ("ratelimited", "again", "ratelimited"),
        ("service_unavailable", "again", "service_unavailable"),
        ("fatal_error", "unknown", "fatal_error"),
        ("invalid_auth", "never", token),
        ("not_in_channel", "never", "invite the bot"),
        ("msg_too_long", "never", "msg_too_long"),
    ] {
        let (channel, _host) = channel(&[]);
        channel.look(|faulty| faulty.service.errors.push(error));
        let refused = plugin(BOT).notify(notification("n", vec![alert("a", "disk")])).unwrap_err();
        let (got, said) = match refused {
            Retry(retry) => ("again", retry.message),
            Unknown(said) => ("unknown", said),
            Permanent(said) => ("never", said),
        };
        assert_eq!(got, expect, "{error}");
        assert!(said.contains(words) && said.starts_with("https://slack.com "), "{said}");
    }
}

#[test]
fn an_incoming_webhook_takes_each_notification_as_a_message() {
    let (channel, host) = channel(&[Fault::Limited]);
    let mut slack = plugin(HOOK);
    let told = notification("n", vec![alert("a", "disk")]);
    assert_eq!(deliver(&host, &mut slack, &told).attempts, 2);
    deliver(&host, &mut slack, &told).last.unwrap();
    channel.look(|faulty| assert_eq!(faulty.service.tops().count(), 2));
    let request = &host.requests()[0];
    assert!(request.headers.iter().all(|(name, _)| name != "authorization"));
}

#[test]
fn memory_is_bounded_and_the_oldest_groups_go_first() {
    let (channel, host) = channel(&[]);
    let mut slack = plugin(BOT);
    let tell = |slack: &mut Slack, group: usize, time: i64| {
        let mut told = notification("n", vec![alert("a", "disk")]);
        told.group = vec![label("g", &group.to_string())];
        told.time = time;
        deliver(&host, slack, &told).last.unwrap();
    };
    for group in 0..501 {
        tell(&mut slack, group, group as i64);
    }
    let before = channel.look(|faulty| faulty.service.tops().count());
    tell(&mut slack, 500, 1_000);
    tell(&mut slack, 130, 1_000);
    assert_eq!(channel.look(|faulty| faulty.service.tops().count()), before);
    tell(&mut slack, 0, 1_000);
    assert_eq!(channel.look(|faulty| faulty.service.tops().count()), before + 1);
}

#[test]
fn a_state_that_is_not_granted_costs_only_the_thread() {
    let channel = Shared::new(Faulty::first(fake::Slack::default(), &[]));
    let host = Host::new().kv_limit(10).server(answering(&channel)).install();
    let mut slack = plugin(BOT);
    for id in ["n1", "n2"] {
        deliver(&host, &mut slack, &notification(id, vec![alert("a", "disk")])).last.unwrap();
    }
    channel.look(|faulty| assert_eq!(faulty.service.tops().count(), 2));
    assert!(host.logs()[0].1.contains("kv.max_bytes"), "{:?}", host.logs());
}

#[test]
fn configs_are_checked_all_at_once() {
    for (config, expect) in [
        (BOT, ""),
        (HOOK, ""),
        (r#"{"token": "t", "channel": "C1", "threads": false, "api": "http://127.0.0.1:1"}"#, ""),
        ("{}", "/token: is missing"),
        (r#"{"token": "xoxb-1", "channel": "C1"}"#, "/token: is a token itself"),
        (r#"{"token": "t", "channel": ""}"#, "/channel: names no channel"),
        (r#"{"token": "t", "channel": "C1", "api": "x"}"#, "/api: is no http"),
        (r#"{"webhook": "https://h/{{secret:a}}", "channel": "C1"}"#, "/channel: does not go"),
        (r#"{"webhook": "hooks"}"#, "/webhook: is no http"),
        (r#"{"token": "t", "channel": "C1", "timeout": "1h"}"#, "/timeout: \"1h\" is no wait"),
        (r#"{"tokn": "t"}"#, "/tokn: unknown field"),
    ] {
        let made = json::parse(config).and_then(Slack::configure);
        let said = made.err().map(|found| found[0].to_string()).unwrap_or_default();
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
    }
    let wrong = r#"{"api": "x", "timeout": "x"}"#;
    assert_eq!(json::parse(wrong).and_then(Slack::configure).unwrap_err().len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_alerts_come_slack_takes_the_message(first in wild(), second in wild()) {
        let (channel, host) = channel(&[]);
        for config in [BOT, HOOK] {
            let mut slack = plugin(config);
            let then = Notification { group: first.0.group.clone(), ..second.0.clone() };
            for told in [&first.0, &then] {
                let delivered = deliver(&host, &mut slack, told);
                let refused = channel.look(|faulty| faulty.service.refused.clone());
                prop_assert!(delivered.last.is_ok(), "{:?} {:?}", delivered, refused);
            }
        }
    }

    #[test]
    fn whatever_fails_everything_is_told_and_only_repeats_that_say_so_come_twice(
        seed in any::<u64>(),
    ) {
        let channel = Shared::new(Faulty::seeded(fake::Slack::default(), seed, 96));
        let host = Host::new().at(NOW).server(answering(&channel)).install();
        let mut slack = plugin(BOT);
        for at in 0..8 {
            let one = alert(&format!("a{}", at / 2), "disk");
            let one = if at % 2 == 0 { one } else { over(one) };
            let id = format!("id-{at}");
            let delivered = deliver(&host, &mut slack, &notification(&id, vec![one]));
            prop_assert!(delivered.last.is_ok(), "{:?}", delivered);
            channel.look(|faulty| {
                let bears = |message: &&fake::Message| message.body.to_string().contains(&id);
                let own: Vec<_> = faulty.service.messages.iter().filter(bears).collect();
                // A group's message that was brought up to date bears the latest id as well.
                let posted: Vec<_> = own.iter().filter(|one| one.updates == 0).collect();
                assert!(!posted.is_empty(), "{id} was never posted");
                for repeat in &posted[1..] {
                    let said = repeat.body.to_string().contains("Possible repeat");
                    assert!(said && delivered.in_doubt, "a silent repeat: {repeat:?}");
                }
            });
        }
    }
}

/// An incoming webhook, which has neither threads nor updates.
mod hook {
    use super::*;
    use sentinel_test_notifiers::suite::Chat;

    struct Case;

    impl Chat for Case {
        type Fake = fake::Slack;
        type Plugin = Slack;
        const WISH_MS: u64 = 2_000;

        fn plugin() -> Slack {
            plugin(HOOK)
        }

        fn messages(fake: &fake::Slack) -> Vec<String> {
            fake.messages.iter().map(|message| message.body.to_string()).collect()
        }

        fn refused(fake: &fake::Slack) -> Vec<String> {
            fake.refused.clone()
        }
    }

    sentinel_test_notifiers::suite!(Case);
}
