//! Mail through a real relay before which everything goes wrong: what is told of each attempt is
//! held against what the relay took.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sentinel_runtime::capabilities::http::address::SystemResolver;
use sentinel_runtime::capabilities::mail::{MailError, MailGate, Mailbox, Message, Receipt};
use sentinel_test_services::SmtpFault::{
    Cut, CutAfter, HalfAfter, Late, Refused, Silent, SilentAfter,
};
use sentinel_test_services::{
    FaultySmtp, Services, SmtpFault, SmtpServer, SmtpSession, SmtpStep, SmtpTls,
};
use sentinel_trust::Grants;
use serde_json::json;

/// How long an answer is waited for where one comes.
const AMPLE_STEP: Duration = Duration::from_secs(30);
/// The same where none comes: what is silent costs as much. What is said before that comes sooner,
/// also where the relay serves all lanes on a busy machine.
const STEP: Duration = Duration::from_secs(6);
/// Nothing takes as long as this, or it hangs.
const HANGS: Duration = Duration::from_secs(120);
/// How often one message is tried at most.
const MAX_ATTEMPTS: usize = 20;
/// Refusals for now and for good.
const CODES: [u16; 5] = [421, 451, 452, 550, 554];

/// What is told of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Delivered,
    Temporary(u16),
    Rejected(u16),
    NoTls,
    Unreachable,
    Unknown,
}

impl Told {
    fn of(sent: &Result<Receipt, MailError>) -> Self {
        match sent {
            Ok(_) => Self::Delivered,
            Err(MailError::Temporary(reply)) => Self::Temporary(reply.code),
            Err(MailError::Rejected(reply)) => Self::Rejected(reply.code),
            Err(MailError::Tls(_)) => Self::NoTls,
            Err(MailError::Unreachable(_)) => Self::Unreachable,
            Err(MailError::Unknown(_)) => Self::Unknown,
            Err(other) => panic!("{other}"),
        }
    }

    /// What is to be told where a fault struck.
    fn where_struck(fault: SmtpFault) -> Self {
        match fault {
            Late => Self::Delivered,
            Refused(SmtpStep::Quit, _)
            | Cut(SmtpStep::Quit)
            | CutAfter(SmtpStep::Quit)
            | Silent(SmtpStep::Quit)
            | SilentAfter(SmtpStep::Quit)
            | HalfAfter(SmtpStep::Quit) => Self::Delivered,
            Refused(SmtpStep::Handshake, _) => Self::NoTls,
            Refused(_, code) if code < 500 => Self::Temporary(code),
            Refused(_, code) => Self::Rejected(code),
            Cut(SmtpStep::Content)
            | CutAfter(SmtpStep::Content)
            | Silent(SmtpStep::Content)
            | SilentAfter(SmtpStep::Content)
            | HalfAfter(SmtpStep::Content) => Self::Unknown,
            Cut(SmtpStep::Starttls | SmtpStep::Handshake)
            | CutAfter(SmtpStep::Starttls | SmtpStep::Handshake) => Self::NoTls,
            Cut(_) | CutAfter(_) | Silent(_) | SilentAfter(_) | HalfAfter(_) => Self::Unreachable,
        }
    }
}

fn is_silent(fault: SmtpFault) -> bool {
    matches!(fault, Silent(_) | SilentAfter(_) | HalfAfter(_))
}

fn server(folder: &Path, tls: SmtpTls) -> SmtpServer {
    SmtpServer::start(&Services::here().unwrap(), folder, tls, None).unwrap()
}

/// How a message goes: through TLS with this authority, or without; and with what patience.
#[derive(Debug, Clone)]
struct Way {
    ca_file: Option<PathBuf>,
    step: Duration,
}

async fn send(port: u16, way: &Way, key: &str) -> Result<Receipt, MailError> {
    let mut mail = json!({
        "relay": format!("smtp://127.0.0.1:{port}"),
        "tls": "none",
        "senders": ["ops@example.com"],
        "recipients": ["*@example.com"],
        "step_ms": way.step.as_millis() as u64,
        "timeout_ms": 60_000,
    });
    if let Some(file) = &way.ca_file {
        mail["tls"] = json!("starttls");
        mail["ca_file"] = json!(file);
    }
    let grants: Grants = serde_json::from_value(json!({ "mail": mail })).unwrap();
    assert_eq!(grants.problems(), Vec::<String>::new());
    let secrets = Arc::new(BTreeMap::<String, Vec<u8>>::new());
    let gate =
        MailGate::new(grants.mail.as_ref().unwrap(), "pager", secrets, Arc::new(SystemResolver));
    let mailbox = |address: &str| Mailbox { name: String::new(), address: address.into() };
    let message = Message {
        sender: mailbox("ops@example.com"),
        to: vec![mailbox("on-call@example.com")],
        cc: Vec::new(),
        reply_to: None,
        subject: "It is hot".into(),
        text: format!("{key}: machine 2 is hot.\n"),
        html: None,
        idempotency_key: key.into(),
        in_reply_to: None,
        timeout_ms: 0,
    };
    let sent = gate.send(message, 1_760_000_000_000, HANGS);
    tokio::time::timeout(HANGS, sent).await.unwrap_or_else(|_| panic!("{key}: sending hangs"))
}

/// Holds what is told of an attempt against what came of its session.
fn compare(session: SmtpSession, told: Told, context: &str) {
    match told {
        Told::Delivered => assert!(session.taken && session.answered, "{context}"),
        Told::Unknown => assert!(session.handed, "{context}"),
        Told::Temporary(_) | Told::Rejected(_) | Told::NoTls | Told::Unreachable => {
            assert!(!session.taken, "it says that it was not taken: {context}");
        }
    }
    if session.struck
        && let Some(fault) = session.fault
    {
        assert_eq!(told, Told::where_struck(fault), "{context}");
    }
}

/// Sends one message until the relay has it or never will; how often the relay took it.
async fn deliver(relay: u16, faults: &[SmtpFault], key: &str) -> usize {
    let broken = FaultySmtp::before(relay, faults).await.unwrap();
    let mut taken = 0;
    let mut met = 0;
    for attempt in 1..=MAX_ATTEMPTS {
        // Nothing else may be too late on a busy machine.
        let step = if faults.get(met).copied().is_some_and(is_silent) { STEP } else { AMPLE_STEP };
        let sent = send(broken.port(), &Way { ca_file: None, step }, key).await;
        let told = Told::of(&sent);
        let session = broken.sessions(attempt, HANGS).await.unwrap()[attempt - 1];
        compare(session, told, &format!("{key}, attempt {attempt}: {sent:?}, {session:?}"));
        met += usize::from(session.struck);
        taken += usize::from(session.taken);
        match told {
            Told::Delivered | Told::Rejected(_) => return taken,
            Told::Temporary(_) | Told::NoTls | Told::Unreachable | Told::Unknown => {}
        }
    }
    panic!("{key}: nothing became of it in {MAX_ATTEMPTS} attempts");
}

/// How often a relay has each message, by its text's first word.
fn held(server: &SmtpServer) -> BTreeMap<String, usize> {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    for mail in server.messages().unwrap() {
        let key = mail.text.split_once(':').unwrap().0.to_owned();
        let id = mail.header("Message-ID").unwrap().to_owned();
        assert_eq!(*ids.entry(key.clone()).or_insert(id.clone()), id, "{key} has one id");
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Delivers all at once, and compares what was counted with what the relay has.
async fn deliver_all(lanes: Vec<(String, Vec<SmtpFault>)>) -> BTreeMap<String, usize> {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), SmtpTls::None);
    let relay = server.port();
    let lanes: Vec<_> = lanes
        .into_iter()
        .map(|(key, faults)| {
            tokio::spawn(async move {
                let taken = deliver(relay, &faults, &key).await;
                (key, taken)
            })
        })
        .collect();
    let mut taken = BTreeMap::new();
    for lane in lanes {
        taken.extend([lane.await.unwrap()]);
    }
    let found = held(&server);
    for (key, count) in &taken {
        assert_eq!(found.get(key).copied().unwrap_or_default(), *count, "{key}");
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_at_each_step_leaves_at_the_relay_what_is_told_of_it() {
    let mut lanes = vec![("Late".to_owned(), vec![Late])];
    for step in SmtpStep::PLAIN {
        for fault in [
            Refused(step, 421),
            Refused(step, 451),
            Refused(step, 554),
            Cut(step),
            CutAfter(step),
            Silent(step),
            SilentAfter(step),
            HalfAfter(step),
        ] {
            lanes.push((format!("{fault:?}"), vec![fault]));
        }
    }
    let faults: BTreeMap<_, _> = lanes.iter().cloned().collect();
    for (key, taken) in deliver_all(lanes).await {
        let least = match faults[&key][0] {
            Refused(step, 554) if step != SmtpStep::Quit => 0,
            CutAfter(SmtpStep::Content)
            | SilentAfter(SmtpStep::Content)
            | HalfAfter(SmtpStep::Content) => 2,
            _ => 1,
        };
        assert_eq!(taken, least, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_nothing_is_lost_and_what_is_said_not_to_be_taken_is_not() {
    let count = std::env::var("SENTINEL_SMTP_SEEDS").ok().and_then(|text| text.parse().ok());
    let seeds = 1..=count.unwrap_or(24);
    let lane = |seed| (format!("seed {seed}"), SmtpFault::schedule(seed, 3, &CODES));
    let lanes: Vec<_> = seeds.map(lane).collect();
    let schedules: BTreeMap<_, _> = lanes.iter().cloned().collect();
    for (key, taken) in deliver_all(lanes).await {
        let faults = &schedules[&key];
        let for_good = |fault: &SmtpFault| matches!(Told::where_struck(*fault), Told::Rejected(_));
        assert!(taken >= 1 || faults.iter().any(for_good), "{key} is lost: {faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_whose_tls_breaks_gets_no_message_and_gets_it_once_tls_stands() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), SmtpTls::Starttls);
    let mut faults = Vec::new();
    for step in [SmtpStep::Starttls, SmtpStep::Handshake] {
        faults.extend([Refused(step, 454), Cut(step), CutAfter(step), Silent(step)]);
    }
    for (number, fault) in faults.into_iter().enumerate() {
        let broken = FaultySmtp::before(server.port(), &[fault]).await.unwrap();
        let step = if is_silent(fault) { STEP } else { AMPLE_STEP };
        let broken_way = Way { ca_file: Some(server.ca_file()), step };
        let sent = send(broken.port(), &broken_way, &format!("{fault:?}")).await;
        let session = broken.sessions(1, HANGS).await.unwrap()[0];
        compare(session, Told::of(&sent), &format!("{fault:?}: {sent:?}, {session:?}"));
        assert_eq!(server.messages().unwrap().len(), number, "{fault:?}: {sent:?}");
        let way = Way { step: AMPLE_STEP, ..broken_way };
        send(broken.port(), &way, &format!("{fault:?}")).await.unwrap();
        assert_eq!(server.messages().unwrap().len(), number + 1, "{fault:?}");
    }
}
