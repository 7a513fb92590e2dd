//! Notifiers through the whole of Sentinel: the real host, real plugins, receivers that listen.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sentinel_e2e::machine::{apply, configuration, keep_secret};
use sentinel_e2e::sentinel::Home;
use sentinel_e2e::{eventually, given};
use sentinel_test_notifiers::{Fault, Faulty, Server, pagerduty, slack};
use sentinel_test_services::Process;
use serde_json::Value;
use std::fs::read_to_string;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// What the foreign receiver wrote down for one path.
fn noted(log: &Path, path: &str) -> Result<Vec<Value>> {
    let text = read_to_string(log).unwrap_or_default();
    // A line that is being written has no end yet.
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let lines = whole.lines().map(|line| Ok(serde_json::from_str::<Value>(line)?));
    let lines = lines.collect::<Result<Vec<_>>>()?;
    Ok(lines.into_iter().filter(|line| line["path"] == path).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_verify_and_read_with_libraries_that_were_not_written_here() -> Result<()> {
    let key = b"thirty-two bytes that nobody knows";
    let home = Home::new()?;
    let (port, log) = (home.path().join("port"), home.path().join("webhooks.jsonl"));
    let mut command = Command::new(given("SENTINEL_RECEIVERS", "services/receivers/bin/python"));
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/receivers/webhook.py"))
        .args([&port, &log])
        .arg(format!("whsec_{}", STANDARD.encode(key)));
    let _receiver = Process::start(&mut command, &home.path().join("receiver.log"))?;
    sentinel_test_services::wait("the foreign receiver", || port.exists())?;
    let origin = format!("http://127.0.0.1:{}", read_to_string(&port)?);
    let slot = |name: &str, more: &str| {
        format!(
            "    - slot: {name}
      plugin: sentinel/webhook
      config: {{url: \"{origin}/{name}\", secret: webhook-key{more}}}
      grants:
        http: {{origins: [\"{origin}\"], methods: [POST]}}
        mac: {{keys: [webhook-key]}}
"
        )
    };
    let alertmanager = slot("alertmanager", ", format: alertmanager, receiver: pager");
    home.configure(&configuration(&(slot("own", "") + &alertmanager)))?;
    let up = home.up().await?;
    keep_secret(&home, "webhook-key", key)?;
    apply(&home, true)?;
    // The first request is refused: the alert comes with the second attempt, under its key.
    let heard = |path: &'static str, number: usize| {
        let log = log.clone();
        async move {
            let lines = noted(&log, path)?;
            Ok((lines.len() >= number).then_some(lines))
        }
    };
    for path in ["/own", "/alertmanager"] {
        let lines = eventually("the alert is told", SOON, || heard(path, 2)).await?;
        assert!(lines.iter().all(|line| line["verified"] == true), "{lines:?}");
        assert_eq!((&lines[0]["answered"], &lines[1]["answered"]), (&429.into(), &200.into()));
        assert_eq!(lines[0]["id"], lines[1]["id"], "a retry bears the same id");
    }
    let told = &noted(&log, "/alertmanager")?[1];
    assert_eq!((&told["version"], &told["receiver"]), (&"4".into(), &"pager".into()));
    assert_eq!((&told["status"], &told["names"][0]), (&"firing".into(), &"machine-is-up".into()));
    assert_eq!((&told["statuses"][0], &told["ends"][0]), (&"firing".into(), &1.into()));

    apply(&home, false)?;
    for path in ["/own", "/alertmanager"] {
        let lines = eventually("its end is told", SOON, || heard(path, 3)).await?;
        let end = &lines[2];
        assert_eq!((&end["verified"], &end["status"]), (&true.into(), &"resolved".into()));
        assert_ne!(end["id"], lines[1]["id"]);
    }
    let told = &noted(&log, "/alertmanager")?[2];
    assert!(told["ends"][0].as_i64() > Some(2000), "{told}");
    assert!(up.stop().await?.success());
    Ok(())
}

/// A token that the host alone knows.
const TOKEN: &str = "xoxb-7f0e-the-token-of-a-bot";
/// An integration key that the host alone knows.
const ROUTING_KEY: &str = "e93facc04764012d7bfb002500d5d1a6";

#[tokio::test(flavor = "multi_thread")]
async fn slack_has_one_message_a_group_its_thread_and_no_silent_repeat() -> Result<()> {
    let service = slack::Slack { authorization: format!("Bearer {TOKEN}"), ..Default::default() };
    // Refused for now, then posted without an answer that anybody could read.
    let faults = [Fault::Limited, Fault::TakenAndHalf];
    let server = Server::start(Faulty::first(service, &faults))?;
    let home = Home::new()?;
    let notifier = format!(
        "    - slot: slack
      plugin: sentinel/slack
      config: {{token: slack-token, channel: \"#alerts\", api: \"{origin}/api\", timeout: 5s}}
      grants:
        http:
          origins: [\"{origin}\"]
          methods: [POST]
          secrets: [{{name: slack-token, origin: \"{origin}\", place: {{header: authorization}}}}]
        kv: {{max_bytes: 1048576}}
",
        origin = server.origin()
    );
    home.configure(&configuration(&notifier))?;
    let up = home.up().await?;
    keep_secret(&home, "slack-token", TOKEN.as_bytes())?;
    apply(&home, true)?;
    let messages = |number: usize| {
        let messages = server.service.look(|faulty| faulty.service.messages.clone());
        async move { Ok((messages.len() >= number).then_some(messages)) }
    };
    let told = eventually("the alert is told", SOON, || messages(2)).await?;
    assert!(!told[0].body.to_string().contains("Possible repeat"), "{told:?}");
    assert!(told[1].body.to_string().contains("Possible repeat"), "{told:?}");
    assert!(told[1].body.to_string().contains("It runs &amp; runs."), "{told:?}");
    server.service.look(|faulty| assert_eq!(faulty.met, faults));

    apply(&home, false)?;
    let told = eventually("its end is told", SOON, || messages(3)).await?;
    assert_eq!(told[2].thread_ts.as_ref(), Some(&told[1].ts), "in the thread of the message");
    for message in &told[1..] {
        assert!(message.body.to_string().contains("[RESOLVED:1]"), "{message:?}");
    }
    assert_eq!((told[1].updates, told.len()), (1, 3));
    assert!(!home.log().contains(TOKEN), "no secret is logged");
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn pagerduty_calls_once_whatever_becomes_of_the_attempts() -> Result<()> {
    let service =
        pagerduty::PagerDuty { routing_key: ROUTING_KEY.to_owned(), ..Default::default() };
    let faults = [Fault::Limited, Fault::TakenAndClosed, Fault::TakenAndSilent];
    let server = Server::start(Faulty::first(service, &faults))?;
    let home = Home::new()?;
    let notifier = format!(
        "    - slot: pagerduty
      plugin: sentinel/pagerduty
      config: {{routing_key: pagerduty-key, api: \"{origin}\", timeout: 5s}}
      grants:
        http:
          origins: [\"{origin}\"]
          methods: [POST]
          secrets: [{{name: pagerduty-key, origin: \"{origin}\", place: {{json: routing_key}}}}]
",
        origin = server.origin()
    );
    home.configure(&configuration(&notifier))?;
    let up = home.up().await?;
    keep_secret(&home, "pagerduty-key", ROUTING_KEY.as_bytes())?;
    apply(&home, true)?;
    let events = |number: usize| {
        let (events, met) = server.service.look(|one| (one.service.events, one.met.clone()));
        async move { Ok((events >= number).then_some(met)) }
    };
    let met = eventually("the alert is told", SOON, || events(3)).await?;
    assert_eq!(met, faults);
    apply(&home, false)?;
    eventually("its end is told", SOON, || events(4)).await?;
    server.service.look(|faulty| {
        let told = &faulty.service;
        assert_eq!((told.calls.len(), told.open.len()), (1, 0), "one call, and it is over");
        assert_eq!(told.resolved, told.calls);
        assert!(told.refused.is_empty(), "{:?}", told.refused);
    });
    assert!(!home.log().contains(ROUTING_KEY), "no secret is logged");
    assert!(up.stop().await?.success());
    Ok(())
}
