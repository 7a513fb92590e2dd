//! Mail through the whole of Sentinel and a real SMTP server, before which sessions go wrong at
//! steps that a seed says: what the journal tells of each attempt is held against what came of its
//! session, and what was promised of each policy against what the server has.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::machine::{apply, configuration};
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_e2e::{count, eventually, given};
use sentinel_test_services::{
    FaultySmtp, Mail, Services, SmtpFault, SmtpServer, SmtpSession, SmtpStep, SmtpTls,
};
use serde::Deserialize;
use serde_json::Value;
use std::time::Duration;

/// Everything is told within this, or something hangs.
const SETTLED: Duration = Duration::from_secs(180);
/// The relay's patience with each answer, in milliseconds: what is silent costs as much.
const STEP_MS: u64 = 2_000;
/// Fewer than take a notifier for down, which would be left alone for ten seconds.
const FAULTS: usize = 2;
/// Refusals for now: what is refused for good is given up, by every policy.
const CODES: [u16; 3] = [421, 451, 452];

/// One notifier with the relay that it knows.
struct Lane {
    name: String,
    holds: bool,
    faults: Vec<SmtpFault>,
    relay: FaultySmtp,
}

impl Lane {
    async fn new(server: &SmtpServer, policy: &str, seed: u64) -> Result<Self> {
        let faults = SmtpFault::schedule(seed, FAULTS, &CODES);
        let relay = FaultySmtp::before(server.port(), &faults).await?;
        Ok(Self { name: format!("{policy}-{seed}"), holds: policy == "hold", faults, relay })
    }

    fn configuration(&self) -> String {
        let (name, port) = (&self.name, self.relay.port());
        let policy = if self.holds { "hold" } else { "retry" };
        format!(
            "    - slot: {name}
      plugin: sentinel/smtp
      on_unknown: {policy}
      config: {{from: sentinel@example.com, to: [{name}@example.com]}}
      grants:
        mail:
          relay: smtp://127.0.0.1:{port}
          tls: none
          senders: [sentinel@example.com]
          recipients: [{name}@example.com]
          step_ms: {STEP_MS}
"
        )
    }

    fn compare(&self, told: &Told, sessions: &[SmtpSession], mails: &[Mail]) -> Result<()> {
        ensure!(told.attempts.len() == sessions.len(), "an attempt is a session");
        let mut in_doubt = false;
        for (attempt, session) in told.attempts.iter().zip(sessions) {
            ensure!(!attempt.message.is_empty(), "it says nothing: {attempt:?}");
            ensure!(
                attempt.may_be_repeat == in_doubt,
                "{attempt:?} after one in doubt: {in_doubt}"
            );
            match attempt.outcome.as_str() {
                "delivered" => ensure!(session.taken && session.answered, "{session:?}"),
                "unknown" => ensure!(session.handed, "not in doubt before DATA ends: {session:?}"),
                "retry" => ensure!(!session.taken, "it says that it was not taken: {session:?}"),
                other => anyhow::bail!("{other} of {session:?}"),
            }
            ensure!(!session.is_in_doubt() || attempt.outcome == "unknown", "{attempt:?}");
            ensure!(!(self.holds && in_doubt), "held, and sent again");
            in_doubt |= attempt.outcome == "unknown";
        }
        let taken = sessions.iter().zip(&told.attempts).filter(|(session, _)| session.taken);
        let marked: Vec<bool> = taken.map(|(_, attempt)| attempt.may_be_repeat).collect();
        let says = |mail: &Mail| mail.text.contains("Possible repeat");
        ensure!(mails.iter().map(says).eq(marked.iter().copied()), "{marked:?} and {mails:?}");
        ensure!(marked.iter().skip(1).all(|marked| *marked), "a silent repeat: {mails:?}");
        if self.holds {
            ensure!(mails.len() <= 1 && (told.delivery["state"] == "dead") == in_doubt);
        } else {
            ensure!(!mails.is_empty() && told.delivery["state"] == "delivered");
        }
        Ok(())
    }
}

#[derive(Debug, Deserialize)]
struct Told {
    delivery: Value,
    attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
struct Attempt {
    outcome: String,
    may_be_repeat: bool,
    message: String,
}

/// What the journal tells of the one notification of a notifier, once it is sent or given up.
async fn settled(up: &Up<'_>, lane: &Lane) -> Result<Told> {
    eventually(&format!("{} is done", lane.name), SETTLED, || async {
        let all = up.get("/v1/notifications?limit=1000").await?;
        let all = all["notifications"].as_array().context("notifications")?;
        let mut own =
            all.iter().filter(|one| one["notification"]["notifier"] == lane.name.as_str());
        let Some(one) = own.next() else { return Ok(None) };
        ensure!(own.next().is_none(), "there is one alert to tell: {all:?}");
        let is_over = one["state"] == "delivered" || one["state"] == "dead";
        let id = one["notification"]["id"].as_str().context("id")?;
        ensure!(is_over, "{one}");
        Ok(Some(serde_json::from_value(up.get(&format!("/v1/notifications/{id}")).await?)?))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn wherever_a_session_breaks_mail_is_told_and_repeated_or_held_as_its_notifier_says()
-> Result<()> {
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?.with_only(&["rows", "alert-dsl", "system", "smtp"])?;
    let server = SmtpServer::start(&services, &home.path().join("relay"), SmtpTls::None, None)?;
    let mut lanes = Vec::new();
    for seed in 1..=count("SENTINEL_SMTP_SEEDS", 5) as u64 {
        for policy in ["retry", "hold"] {
            lanes.push(Lane::new(&server, policy, seed).await?);
        }
    }
    let leaves_doubt = |fault: &SmtpFault| {
        matches!(
            fault,
            SmtpFault::CutAfter(SmtpStep::Content)
                | SmtpFault::SilentAfter(SmtpStep::Content)
                | SmtpFault::HalfAfter(SmtpStep::Content)
        )
    };
    let doubts = lanes.iter().filter(|lane| lane.faults.iter().any(leaves_doubt)).count();
    ensure!((2..lanes.len()).contains(&doubts), "the seeds must leave doubts, and none");
    let configuration = configuration(&lanes.iter().map(Lane::configuration).collect::<String>());
    // What is held would be an alert of its own, and told by all of them.
    let alone = "  settle: 1s\n  self_watch: {enabled: false}\n";
    home.configure(&configuration.replace("  settle: 1s\n", alone))?;
    let up = home.up().await?;
    apply(&home, true)?;
    for lane in &lanes {
        let told = settled(&up, lane).await.with_context(|| home.log())?;
        let sessions = lane.relay.sessions(told.attempts.len(), SETTLED).await?;
        let to = format!("{}@example.com", lane.name);
        let mut mails = server.messages()?;
        mails.retain(|mail| mail.recipients == [to.clone()]);
        lane.compare(&told, &sessions, &mails).with_context(|| {
            format!("{}, {:?}: {told:#?}, {sessions:#?}", lane.name, lane.faults)
        })?;
    }
    assert!(up.stop().await?.success());
    Ok(())
}
