//! Alerts in the hands of people: every command of the CLI for it, against a running `up`.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::eventually;
use sentinel_e2e::machine::{apply, configuration, keep_secret};
use sentinel_e2e::receiver::Receiver;
use sentinel_e2e::sentinel::Home;
use sentinel_test_notifiers::{Call, Reply, Server, Service};
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);
const KEY: &[u8] = b"known to the host and the receiver";

/// One receiver that takes everything, one that answers as it is told, and one with whom TLS cannot
/// be spoken.
fn notifiers(pager: &Receiver, broken: &Receiver) -> String {
    let slot = |name: &str, origin: String| {
        format!(
            "    - slot: {name}
      plugin: sentinel/webhook
      config: {{url: \"{origin}/hook\", secret: webhook-key}}
      grants:
        http: {{origins: [\"{origin}\"], methods: [POST]}}
        mac: {{keys: [webhook-key]}}
"
        )
    };
    let untrusted = pager.origin().replace("http:", "https:");
    slot("pager", pager.origin()) + &slot("broken", broken.origin()) + &slot("untrusted", untrusted)
}

/// A command that must succeed, what it printed as a table.
fn text(home: &Home, args: &[&str]) -> Result<String> {
    let said = home.sentinel(args)?;
    ensure!(said.code == 0, "sentinel {args:?} ended with {}: {}", said.code, said.err);
    Ok(said.out)
}

/// Waits until the alert of the machine is in this state; the alert.
async fn alert(home: &Home, state: &str) -> Result<Value> {
    eventually(&format!("the alert is {state}"), SOON, || async {
        let body = home.json(&["alerts"])?;
        let alerts = body["alerts"].as_array().context("alerts")?;
        let is_meant = |a: &&Value| a["rule"] == "machine-is-up" && a["state"] == state;
        Ok(alerts.iter().find(is_meant).cloned())
    })
    .await
}

/// What `alerts` says of who has it in hand.
fn owner(home: &Home) -> Result<Option<String>> {
    let body = home.json(&["alerts"])?;
    Ok(body["acknowledgements"][0]["owner"].as_str().map(str::to_owned))
}

fn silences_and_hands(home: &Home, id: &str) -> Result<()> {
    let by = ["--by", "ann"];
    let preview = ["alerts", "silence", "preview", "severity=critical", "rule!=nothing"];
    let body = home.json(&preview)?;
    ensure!(body["alerts"][0]["fingerprint"] == id, "{body}");
    ensure!(text(home, &preview)?.contains("machine-is-up"), "the preview names what it mutes");
    let nobody = home.json(&["alerts", "silence", "preview", "severity=page"])?;
    ensure!(nobody["alerts"] == serde_json::json!([]), "{nobody}");

    let add = ["alerts", "silence", "add", "severity=critical", "--for", "2h", "--reason", "work"];
    let made = home.json(&[&add[..], &by].concat())?;
    let silence = made["silence"]["id"].as_str().context("id")?.to_owned();
    ensure!(made["silence"]["author"] == "ann" && made["silence"]["reason"] == "work", "{made}");
    ensure!(made["alerts"][0]["fingerprint"] == id, "what it mutes now: {made}");
    ensure!(text(home, &["alerts"])?.contains(&format!("silenced ({silence})")), "alerts say so");
    let listed = text(home, &["alerts", "silence", "list"])?;
    ensure!(listed.contains("active") && listed.contains("work"), "{listed}");
    let expire = ["alerts", "silence", "expire", &silence];
    ensure!(text(home, &[&expire[..], &by].concat())?.contains("ended by ann"));
    let left = home.json(&["alerts", "silence", "list"])?;
    ensure!(left["silences"] == serde_json::json!([]), "{left}");
    let all = home.json(&["alerts", "silence", "list", "--all"])?;
    ensure!(all["silences"][0]["ended_by"] == "ann", "{all}");

    let ack = home.json(&["alerts", "ack", &id[..8], "--note", "I look", "--by", "ann"])?;
    ensure!(ack["acknowledgement"]["owner"] == "ann", "{ack}");
    let over = ["alerts", "ack", "machine-is-up", "--to", "bob", "--for", "8h", "--by", "ann"];
    let over = home.json(&over)?;
    let over = &over["acknowledgement"];
    ensure!(over["owner"] == "bob" && over["before"][0]["from"] == "ann", "{over}");
    ensure!(owner(home)?.as_deref() == Some("bob"));
    ensure!(text(home, &["alerts"])?.contains("bob"), "alerts say who has it in hand");
    home.json(&["alerts", "release", "machine-is-up", "--by", "bob"])?;
    ensure!(owner(home)?.is_none());
    let said = home.sentinel(["alerts", "ack", "no-such-alert", "--by", "ann"])?;
    ensure!(said.code == 1 && said.err.contains("no alert that fires is meant"), "{said:?}");
    Ok(())
}

async fn dead_letters(home: &Home, broken: &Receiver) -> Result<()> {
    let by = ["--by", "ann"];
    let list = || home.json(&["dlq", "list"]);
    let letters = list()?;
    let id = letters["notifications"][0]["notification"]["id"].as_str().context("id")?.to_owned();
    let listed = text(home, &["dlq", "list"])?;
    ensure!(listed.contains(&id) && listed.contains("broken"), "{listed}");
    let shown = home.json(&["dlq", "show", &id])?;
    let alerts = &shown["delivery"]["notification"]["alerts"];
    ensure!(alerts[0]["rule"] == "machine-is-up", "the payload: {shown}");
    let attempt = &shown["attempts"][0];
    ensure!(attempt["number"] == 1 && attempt["outcome"] == "permanent", "the attempt: {shown}");
    let error = attempt["message"].as_str().context("message")?;
    ensure!(error.contains("400"), "the error: {shown}");
    let table = text(home, &["dlq", "show", &id])?;
    for part in [&id, "machine-is-up", "permanent", "400"] {
        ensure!(table.contains(part), "{part} is missing:\n{table}");
    }

    // Refused again, and then taken under the same id.
    broken.answer_next(&[400]);
    for (received, state) in [(2, "dead"), (3, "delivered")] {
        let done = home.json(&[&["dlq", "retry", &id][..], &by].concat())?;
        ensure!(done["notifications"][0]["state"] == "pending", "{done}");
        eventually("it is sent again", SOON, || async {
            let shown = home.json(&["dlq", "show", &id])?;
            let is_over = shown["delivery"]["state"] == state;
            let many = shown["attempts"].as_array().map_or(0, Vec::len);
            Ok((is_over && many == received).then_some(()))
        })
        .await?;
    }
    let came: Vec<_> = broken.received().into_iter().filter(|one| one.id == id).collect();
    ensure!(came.iter().map(|one| one.answered).eq([400, 400, 200]), "{came:?}");
    ensure!(list()?["notifications"] == serde_json::json!([]), "none is left");
    let said = home.sentinel(["dlq", "retry", &id, "--by", "ann"])?;
    ensure!(said.code == 1, "what is delivered is no dead letter: {said:?}");
    Ok(())
}

async fn tests_of_notifiers(home: &Home, pager: &Receiver, broken: &Receiver) -> Result<()> {
    let told = home.json(&["notify", "test", "pager", "--wait", "90", "--by", "ann"])?;
    ensure!(told["delivery"]["state"] == "delivered", "{told}");
    let id = told["delivery"]["notification"]["id"].as_str().context("id")?;
    ensure!(pager.received().iter().any(|one| one.id == id && one.signed), "it came, signed");

    broken.answer_next(&[400]);
    let test = ["notify", "test", "broken", "--wait", "90", "--by", "ann", "--json"];
    let said = home.sentinel(test)?;
    ensure!(said.code == 1 && said.err.contains("400"), "{said:?}");
    let failed: Value = serde_json::from_str(&said.out)?;
    let id = failed["delivery"]["notification"]["id"].as_str().context("id")?.to_owned();
    ensure!(failed["delivery"]["state"] == "dead", "{failed}");
    let all = ["dlq", "drop", "--all", "--by", "ann"];
    let said = home.sentinel(all)?;
    ensure!(said.code == 1 && said.err.contains("--yes"), "all are asked about: {said:?}");
    ensure!(home.json(&["dlq", "list"])?["notifications"][0]["notification"]["id"] == id.as_str());
    let dropped = home.json(&[&all[..], &["--yes"]].concat())?;
    ensure!(dropped["notifications"][0]["state"] == "dropped", "{dropped}");
    ensure!(home.json(&["dlq", "list"])?["notifications"] == serde_json::json!([]));
    let said = home.sentinel(["notify", "test", "nobody", "--by", "ann"])?;
    ensure!(said.code == 1 && said.err.contains("nobody"), "{said:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_look_at_alerts_take_them_in_hand_silence_them_and_look_after_dead_letters()
-> Result<()> {
    let (pager, broken) = (Receiver::start(KEY).await?, Receiver::start(KEY).await?);
    broken.answer_next(&[400]);
    let home = Home::new()?;
    // On by default; only whom it tells is said, so that each answer below has its request.
    let configuration = configuration(&notifiers(&pager, &broken));
    let watched = "  settle: 1s\n  self_watch: {notify: [pager]}\n";
    home.configure(&configuration.replace("  settle: 1s\n", watched))?;
    let up = home.up().await?;
    let nothing = home.sentinel(["alerts"])?;
    ensure!((nothing.code, nothing.out.as_str()) == (0, ""), "{nothing:?}");
    keep_secret(&home, "webhook-key", KEY)?;
    // Before it is taken for down, and left alone longer and longer between attempts.
    eventually("with one of them TLS fails", SOON, || async {
        let said = home.sentinel(["notify", "test", "untrusted", "--by", "ann"])?;
        ensure!(said.code == 1 && said.err.contains("TLS failed"), "{said:?}");
        Ok(Some(()))
    })
    .await?;
    apply(&home, true)?;
    let firing = alert(&home, "firing").await?;
    let id = firing["fingerprint"].as_str().context("fingerprint")?.to_owned();
    ensure!(text(&home, &["alerts"])?.contains(&id[..8]), "the id is shown");
    silences_and_hands(&home, &id)?;

    // Dead letters are an alert of their own, without anybody having asked for it.
    up.until("the dead letter is an alert", "/v1/alerts", SOON, |body| {
        let alerts = body["alerts"].as_array()?;
        let own = |a: &&Value| a["rule"] == "sentinel-dead-letters" && a["state"] == "firing";
        alerts.iter().find(own).map(|a| a["labels"]["notifier"] == "broken")
    })
    .await?;
    dead_letters(&home, &broken).await?;
    tests_of_notifiers(&home, &pager, &broken).await?;

    apply(&home, false)?;
    eventually("it is over", SOON, || async {
        let body = home.json(&["alerts", "history"])?;
        let all = body["transitions"].as_array().context("transitions")?;
        let of = |to: &str| all.iter().any(|one| one["fingerprint"] == id && one["to"] == to);
        Ok((of("firing") && of("resolved")).then_some(()))
    })
    .await?;
    let history = text(&home, &["alerts", "history"])?;
    ensure!(history.contains("resolved") && history.contains(&id), "{history}");
    let told = text(&home, &["alerts", "notifications"])?;
    ensure!(told.contains("pager") && told.contains("delivered"), "{told}");
    assert!(up.stop().await?.success());
    Ok(())
}

/// Counts who asks for it.
#[derive(Default)]
struct Switch(usize);

impl Service for Switch {
    fn take(&mut self, call: &Call) -> Reply {
        self.0 += usize::from((call.method.as_str(), call.path.as_str()) == ("GET", "/ping"));
        Reply::text(200, "")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_heartbeat_is_missed_once_the_process_is_killed_and_comes_again_with_it() -> Result<()>
{
    let switch = Server::start(Switch::default())?;
    let home = Home::new()?;
    let url = format!("{}/ping", switch.origin());
    home.configure(&format!("version: 1\nheartbeat: {{url: \"{url}\", every: 1s}}\n"))?;
    let heard = |more_than: usize| {
        let now = switch.service.look(|switch| switch.0);
        async move { Ok((now > more_than).then_some(now)) }
    };
    let up = home.up().await?;
    eventually("it beats", SOON, || heard(2)).await?;
    up.kill()?;
    // What was on the way still comes.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let last = switch.service.look(|switch| switch.0);
    // What does not come can only be waited for: four times its interval.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(switch.service.look(|switch| switch.0), last, "nobody is there to tell it");
    let up = home.up().await?;
    eventually("it beats again", SOON, || heard(last)).await?;
    assert!(up.stop().await?.success());
    Ok(())
}
