use std::cell::RefCell;
use std::rc::Rc;

use proptest::prelude::*;
use sentinel_sdk::config as json;
use sentinel_sdk::mail::{Receipt as Taken, Refusal, Reply};
use sentinel_sdk::testing::Host;
use sentinel_test_notifiers::deliver;
use sentinel_test_notifiers::notifications::{NOW, alert, label, notification, over, wild};

use super::*;

const CONFIG: &str = r#"{
    "from": "Sentinel <alerts@example.com>", "to": ["ops@example.com"], "cc": ["b@example.com"]
}"#;

fn plugin() -> Smtp {
    json::parse(CONFIG).and_then(Smtp::configure).unwrap()
}

/// What the host refuses of a message, with a grant of 256 KiB.
fn refuse(message: &Message) -> Option<String> {
    let line = |text: &str, most: usize| text.len() <= most && !text.contains(char::is_control);
    let html = message.html.as_deref().unwrap_or_default();
    let bytes = message.text.len() + html.len();
    if bytes > 256 << 10 || message.text.is_empty() || html.is_empty() {
        return Some(format!("a message of {bytes} bytes"));
    }
    if !line(&message.subject, mail::MAX_SUBJECT_BYTES) || message.subject.is_empty() {
        return Some(format!("the subject {:?}", message.subject));
    }
    for key in [Some(&message.idempotency_key), message.in_reply_to.as_ref()].into_iter().flatten()
    {
        if key.is_empty() || !line(key, 200) {
            return Some(format!("the key {key:?}"));
        }
    }
    // Nothing but our own tags: what an alert holds is a text.
    let own =
        ["!DOCTYPE", "html", "body", "h2", "div", "b", "p", "br", "table", "tr", "td", "i", "a"];
    for tag in html.split('<').skip(1) {
        let name = tag.trim_start_matches('/').split([' ', '>']).next().unwrap_or_default();
        if !own.contains(&name) {
            return Some(format!("the tag {name:?}"));
        }
    }
    None
}

/// A relay that takes what the host would, with these outcomes before; what it took.
fn relay(mut before: Vec<Result<(), MailError>>) -> (Host, Rc<RefCell<Vec<Message>>>) {
    before.reverse();
    let taken = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&taken);
    let host = Host::new().at(NOW).relay(move |message| {
        if let Some(why) = refuse(message) {
            return Err(MailError::Invalid(why));
        }
        let outcome = before.pop().unwrap_or(Ok(()));
        if matches!(outcome, Ok(()) | Err(MailError::Unknown(_))) {
            kept.borrow_mut().push(message.clone());
        }
        outcome.map(|()| Taken {
            message_id: format!("{}@example.com", message.idempotency_key),
            text: "2.0.0 Ok: queued as 4FZ".to_owned(),
            refused: Vec::new(),
        })
    });
    (host, taken)
}

#[test]
fn a_mail_is_the_documented_one() {
    let mut told = notification("ntf_1", vec![alert("a", "disk-full"), over(alert("b", "load"))]);
    told.may_be_repeat = true;
    let mail = plugin().message(&told);
    let html = mail.html.unwrap();
    insta::assert_snapshot!(format!("{}\n=====\n{}\n=====\n{html}", mail.subject, mail.text));
    assert_eq!((mail.sender.name.as_str(), mail.cc.len()), ("Sentinel", 1));
}

#[test]
fn mails_of_a_group_stand_in_one_thread_and_each_has_its_key() {
    let mut told = notification("ntf_1", vec![alert("a", "disk-full")]);
    let first = plugin().message(&told);
    told.id = "ntf_2".to_owned();
    let second = plugin().message(&told);
    told.group = vec![label("agent", "web-2")];
    let other = plugin().message(&told);
    assert_eq!((&first.idempotency_key[..], &second.idempotency_key[..]), ("ntf_1", "ntf_2"));
    assert_eq!(first.in_reply_to, second.in_reply_to);
    assert_ne!(first.in_reply_to, other.in_reply_to);
}

#[test]
fn each_outcome_decides_as_the_table_says() {
    let text = || "why".to_owned();
    let reply = |code| Reply { code, text: text() };
    for (error, expect) in [
        (MailError::Throttled(7), "again after Some(7)"),
        (MailError::Unreachable(text()), "again after None"),
        (MailError::Tls(text()), "again after None"),
        (MailError::Temporary(reply(451)), "again after None"),
        (MailError::Unknown(text()), "unknown"),
        (MailError::Denied(text()), "never"),
        (MailError::Invalid(text()), "never"),
        (MailError::Auth(text()), "never"),
        (MailError::Rejected(reply(550)), "never"),
    ] {
        let shown = format!("{error:?}");
        let (host, _) = relay(vec![Err(error)]);
        let _host = host.install();
        let told = notification("n", vec![alert("a", "disk")]);
        let got = match plugin().notify(told).unwrap_err() {
            DeliveryError::Retry(retry) => format!("again after {:?}", retry.after_ms),
            DeliveryError::Unknown(_) => "unknown".to_owned(),
            DeliveryError::Permanent(_) => "never".to_owned(),
        };
        assert_eq!(got, expect, "{shown}");
    }
}

#[test]
fn who_does_not_get_it_is_told() {
    let host = Host::new().relay(|_| {
        let reply = Reply { code: 550, text: "no such user".to_owned() };
        let refused = vec![Refusal { address: "b@example.com".to_owned(), reply }];
        Ok(Taken { message_id: "1@h".to_owned(), text: "queued".to_owned(), refused })
    });
    let host = host.install();
    let receipt = plugin().notify(notification("n", vec![alert("a", "disk")])).unwrap();
    assert_eq!(receipt.message, "the relay has it, but not for b@example.com");
    assert_eq!((receipt.reference.as_deref(), host.logs().len()), (Some("1@h"), 1));
}

#[test]
fn a_long_list_is_counted_beside_its_link() {
    let small = CONFIG.replace("\"cc\"", "\"max_bytes\": 8192, \"cc\"");
    let smtp = json::parse(&small).and_then(Smtp::configure).unwrap();
    let alerts = (0..100).map(|at| alert(&at.to_string(), "disk")).collect();
    let mail = smtp.message(&notification("n", alerts));
    for part in [&mail.text, mail.html.as_ref().unwrap()] {
        assert!(part.contains("more alerts") && part.contains("https://sentinel.example/alerts"));
    }
    assert!(mail.text.len() + mail.html.unwrap().len() <= 8_192);
}

#[test]
fn configs_are_checked_all_at_once() {
    for (config, expect) in [
        (CONFIG, ""),
        (r#"{"from": "a@b", "to": ["c@d"], "reply_to": "\"X, Y\" <e@f>"}"#, ""),
        (r#"{"from": "a", "to": ["c@d"]}"#, "/from: is no address"),
        (r#"{"from": "a@b", "to": ["c@d", "e@f\r\nBcc: g@h"]}"#, "/to/1: is no address"),
        (r#"{"from": "a@b", "to": []}"#, "/to: is empty"),
        (r#"{"from": "a\n <a@b>", "to": ["c@d"]}"#, ""),
        (r#"{"from": "a\nb <a@b>", "to": ["c@d"]}"#, "/from: has a name"),
        (r#"{"from": "a@b", "to": ["c@d"], "cc": ["@"]}"#, "/cc/0: is no address"),
        (r#"{"from": "a@b", "to": ["c@d"], "max_bytes": 1}"#, "/max_bytes: 1 is not"),
        (r#"{"from": "a@b", "to": ["c@d"], "timeout": "2m"}"#, "/timeout: \"2m\""),
        ("{}", "missing field `from`"),
    ] {
        let made = json::parse(config).and_then(Smtp::configure);
        let said = made.err().map(|found| found[0].to_string()).unwrap_or_default();
        assert!(said.starts_with(expect) && said.is_empty() == expect.is_empty(), "{said}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_alerts_come_the_mail_is_taken(told in wild()) {
        let (host, taken) = relay(Vec::new());
        let host = host.install();
        let delivered = deliver(&host, &mut plugin(), &told.0);
        prop_assert!(delivered.last.is_ok(), "{:?}", delivered);
        prop_assert_eq!(taken.borrow().len(), 1);
    }

    #[test]
    fn whatever_fails_everything_is_told_and_repeats_bear_one_key_and_say_so(
        outcomes in prop::collection::vec(0u8..5, 0..6),
    ) {
        let outcomes = outcomes.into_iter().map(|one| match one {
            0 => Err(MailError::Throttled(2_000)),
            1 => Err(MailError::Unreachable("half-open".to_owned())),
            2 => Err(MailError::Temporary(Reply { code: 421, text: "later".to_owned() })),
            3 => Err(MailError::Unknown("no answer to DATA".to_owned())),
            _ => Ok(()),
        });
        let (host, taken) = relay(outcomes.collect());
        let host = host.install();
        let mut smtp = plugin();
        for at in 0..4 {
            let before = taken.borrow().len();
            let id = format!("n{at}");
            deliver(&host, &mut smtp, &notification(&id, vec![alert("a", "disk")])).last.unwrap();
            let taken = taken.borrow();
            prop_assert!(taken.len() > before);
            prop_assert!(taken[before..].iter().all(|one| one.idempotency_key == id));
            let says = |one: &Message| one.text.contains("Possible repeat");
            prop_assert!(taken[before + 1..].iter().all(says));
        }
    }
}
