use super::relay::{Act, Relay, usual};
use super::*;

/// What a caller decides by.
#[derive(Debug, PartialEq, Clone, Copy)]
enum Outcome {
    Taken,
    Unreachable,
    Temporary(u16),
    Rejected(u16),
    Unknown,
}

fn outcome(result: &Result<Receipt, MailError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Taken,
        Err(MailError::Unreachable(_)) => Outcome::Unreachable,
        Err(MailError::Temporary(reply)) => Outcome::Temporary(reply.code),
        Err(MailError::Rejected(reply)) => Outcome::Rejected(reply.code),
        Err(MailError::Unknown(_)) => Outcome::Unknown,
        Err(other) => panic!("{other}"),
    }
}

/// A command, what the relay does about it, and what is told.
type Case = (&'static str, fn() -> Act, Outcome);

/// Every way in which a relay can fail at every step, and what may be said about the message.
const TABLE: &[Case] = &[
    ("", || Act::Say("421 4.3.2 busy"), Outcome::Temporary(421)),
    ("", || Act::Say("554 5.3.2 not you"), Outcome::Rejected(554)),
    ("", || Act::Say("hello"), Outcome::Unreachable),
    ("", || Act::Close, Outcome::Unreachable),
    ("", || Act::Wait, Outcome::Unreachable),
    ("EHLO", || Act::Say("421 4.3.2 busy"), Outcome::Temporary(421)),
    ("EHLO", || Act::Wait, Outcome::Unreachable),
    ("MAIL", || Act::Say("451 4.3.0 later"), Outcome::Temporary(451)),
    ("MAIL", || Act::Say("550 5.7.1 never"), Outcome::Rejected(550)),
    ("MAIL", || Act::Say("354 what"), Outcome::Unreachable),
    ("MAIL", || Act::Close, Outcome::Unreachable),
    ("MAIL", || Act::Wait, Outcome::Unreachable),
    ("RCPT", || Act::Say("450 4.2.1 later"), Outcome::Temporary(450)),
    ("RCPT", || Act::Say("550 5.1.1 nobody"), Outcome::Rejected(550)),
    ("RCPT", || Act::Say("421 4.3.2 going"), Outcome::Temporary(421)),
    ("RCPT", || Act::Close, Outcome::Unreachable),
    ("DATA", || Act::Say("451 4.3.0 later"), Outcome::Temporary(451)),
    ("DATA", || Act::Say("554 5.5.1 no"), Outcome::Rejected(554)),
    ("DATA", || Act::Say("250 what"), Outcome::Unreachable),
    ("DATA", || Act::Close, Outcome::Unreachable),
    ("DATA", || Act::Wait, Outcome::Unreachable),
    (".", || Act::Say("250 2.0.0 queued"), Outcome::Taken),
    (".", || Act::Say("452 4.3.1 full"), Outcome::Temporary(452)),
    (".", || Act::Say("554 5.7.1 spam"), Outcome::Rejected(554)),
    (".", || Act::Say("354 what"), Outcome::Unknown),
    (".", || Act::Say("what"), Outcome::Unknown),
    (".", || Act::Close, Outcome::Unknown),
    (".", || Act::Wait, Outcome::Unknown),
    ("QUIT", || Act::Close, Outcome::Taken),
    ("QUIT", || Act::Say("500 no"), Outcome::Taken),
    ("QUIT", || Act::Wait, Outcome::Taken),
];

#[tokio::test]
async fn whatever_fails_the_outcome_is_told_as_it_is() {
    for (at, act, expected) in TABLE {
        let relay = Relay::but(at, *act).await;
        // Only where nothing is said may a step's time run out.
        let step = if matches!(act(), Act::Wait) { 1_000 } else { 30_000 };
        let grant = granted(&relay.url, |mail| mail["step_ms"] = json!(step));
        let result = gate(&grant).send(message(), 0, AMPLE).await;
        assert_eq!(outcome(&result), *expected, "{at:?}: {result:?}");
        let handed = relay.heard().iter().any(|line| line == ".");
        if matches!(expected, Outcome::Taken | Outcome::Unknown) {
            assert!(handed, "{at:?}: nothing was handed over");
        }
        if *expected == Outcome::Unreachable {
            assert!(!handed, "{at:?}: it was handed over, and that is denied");
        }
    }
}

#[tokio::test]
async fn time_that_is_cut_by_message_grant_or_call_ends_in_what_is_known() {
    for (at, known) in [("MAIL", Outcome::Unreachable), (".", Outcome::Unknown)] {
        let relay = Relay::but(at, || Act::Wait).await;
        let short = Duration::from_millis(1_000);
        let usual = gate(&granted(&relay.url, |mail| mail["step_ms"] = json!(30_000)));
        let asked = Message { timeout_ms: 1_000, ..message() };
        let tight = gate(&granted(&relay.url, |mail| {
            (mail["step_ms"], mail["timeout_ms"]) = (json!(30_000), json!(1_000));
        }));
        let begun = std::time::Instant::now();
        for result in [
            usual.send(message(), 0, short).await,
            usual.send(asked, 0, AMPLE).await,
            tight.send(Message { timeout_ms: u32::MAX, ..message() }, 0, AMPLE).await,
        ] {
            assert_eq!(outcome(&result), known, "{result:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(25), "no step's time of its own was waited");
    }
}

#[tokio::test]
async fn a_message_is_taken_with_its_envelope_and_its_content() {
    let relay = Relay::answering(|word, _| usual(word)).await;
    let text = ".\nfirst\n..\r\n.\r\nQUIT\rRSET".to_owned();
    let to = ["on-call", "second", "on-call"].map(|who| mailbox("", &format!("{who}@example.com")));
    let cc = vec![mailbox("Boss", "boss@example.net")];
    let sent = Message { text, to: to.to_vec(), cc, ..message() };
    let receipt = gate(&granted(&relay.url, |_| ())).send(sent, 0, AMPLE).await.unwrap();
    assert_eq!((receipt.text.as_str(), receipt.refused.len()), ("2.0.0 queued as 7", 0));
    assert_eq!(relay.words(), ["EHLO", "MAIL", "RCPT", "RCPT", "RCPT", "DATA", "QUIT"]);
    let heard = relay.heard();
    assert_eq!(
        heard[1..5],
        [
            "MAIL FROM:<ops@example.com>",
            "RCPT TO:<on-call@example.com>",
            "RCPT TO:<second@example.com>",
            "RCPT TO:<boss@example.net>"
        ],
        "everybody once"
    );
    let id = format!("Message-ID: <{}>", receipt.message_id);
    assert!(heard.contains(&id), "no {id} in {heard:?}");
    let body = &heard[heard.iter().position(String::is_empty).unwrap() + 1..];
    let stuffed = ["..", "first", "...", "..", "QUIT", "RSET", "", ".", "QUIT"];
    assert_eq!(body, stuffed, "lines that would end it do not");
}

#[tokio::test]
async fn recipients_that_are_refused_do_not_keep_it_from_the_others() {
    let refuse = |word: &str, line: &str| match word {
        "RCPT" if line.contains("gone") => Act::Say("550 5.1.1 nobody"),
        "RCPT" if line.contains("away") => Act::Say("450-4.2.1 away\r\n450 4.2.1 until noon"),
        word => usual(word),
    };
    let send = async |who: &[&str]| {
        let relay = Relay::answering(refuse).await;
        let to = who.iter().map(|who| mailbox("", &format!("{who}@example.com"))).collect();
        let sent = Message { to, ..message() };
        (gate(&granted(&relay.url, |_| ())).send(sent, 0, AMPLE).await, relay.words())
    };
    let (result, _) = send(&["gone", "here", "away"]).await;
    let refused = result.unwrap().refused;
    let names: Vec<_> = refused.iter().map(|(name, reply)| (name.as_str(), reply.code)).collect();
    assert_eq!(names, [("gone@example.com", 550), ("away@example.com", 450)]);
    for (who, expected) in [
        (&["gone", "away"][..], Outcome::Temporary(450)),
        (&["gone", "gone2"], Outcome::Rejected(550)),
    ] {
        let (result, words) = send(who).await;
        assert_eq!(outcome(&result), expected, "{result:?}");
        assert!(!words.contains(&"DATA".to_owned()), "{words:?}");
    }
}

#[tokio::test]
async fn messages_beyond_the_grants_number_a_minute_wait() {
    let relay = Relay::answering(|word, _| usual(word)).await;
    let gate = gate(&granted(&relay.url, |mail| mail["per_minute"] = json!(1)));
    let wrong = Message { to: Vec::new(), ..message() };
    assert!(matches!(gate.send(wrong, 0, AMPLE).await, Err(MailError::Invalid(_))));
    gate.send(message(), 1_000, AMPLE).await.unwrap();
    assert_eq!(gate.send(message(), 2_000, AMPLE).await, Err(MailError::Throttled(59_000)));
    gate.send(message(), 61_000, AMPLE).await.unwrap();
    assert_eq!(relay.words().iter().filter(|word| *word == "MAIL").count(), 2);
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    // Kept all along, so that nobody else gets it.
    let kept = tokio::net::TcpSocket::new_v4().unwrap();
    kept.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = kept.local_addr().unwrap().port();
    let grant = granted(&format!("smtp://127.0.0.1:{port}"), |_| ());
    let result = gate(&grant).send(message(), 0, AMPLE).await;
    assert_eq!(outcome(&result), Outcome::Unreachable);
}
