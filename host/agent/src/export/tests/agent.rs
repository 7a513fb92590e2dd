//! What of an agent the exporter needs: a real log, and an identity.

use super::server::{Script, key};
use crate::config::AgentConfig;
use crate::enrol::{Enrolment, GivenToken, Identity};
use crate::export::{ExportParts, ExportStatus, Said, run};
use crate::metrics::Metrics;
use crate::record::{LogRecord, Part};
use crate::servers::Servers;
use crate::state::SlotStates;
use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::Registry;
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::duration::Millis;
use sentinel_model::ids::{AgentId, SlotName};
use sentinel_wal::{Log, Options};
use sentinel_wire::v1::EpochState;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub(super) struct TestAgent {
    pub(super) dir: TempDir,
    pub(super) log: Arc<Log>,
    pub(super) states: Arc<SlotStates>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) status: Arc<Mutex<ExportStatus>>,
    pub(super) enrolment: Arc<dyn Enrolment>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

fn open(dir: &Path) -> Arc<Log> {
    // Without threads of its own the log is done when a call returns: time stands still for it.
    let options = Options { background: false, segment_bytes: 4096, ..Options::default() };
    Arc::new(Log::open(&dir.join("log"), options).unwrap().0)
}

impl TestAgent {
    /// Enrolled, and not sending yet.
    pub(super) fn new() -> Self {
        let agent = Self::not_enrolled();
        let identity = Identity { id: AgentId::new("a").unwrap(), key: key(), before: None };
        identity.save(&agent.dir.path().join("identity.json")).unwrap();
        agent
    }

    pub(super) fn not_enrolled() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        let states = Arc::new(SlotStates::open(&dir.path().join("state.json"), &log).unwrap());
        Self {
            log,
            states,
            dir,
            metrics: Arc::new(Metrics::register(&Registry::new()).unwrap()),
            status: Arc::default(),
            enrolment: Arc::new(GivenToken(None)),
            stop: watch::Sender::new(false),
            task: None,
        }
    }

    /// Begins to send; heartbeats every five seconds.
    pub(super) fn start(&mut self, script: &Script) {
        self.start_over(script.link());
    }

    /// The same, to several servers.
    pub(super) fn start_over(&mut self, link: Servers) {
        let config = AgentConfig {
            id: Some(AgentId::new("a").unwrap()),
            heartbeat: Millis(5000),
            ..AgentConfig::default()
        };
        let clock = tokio::time::Instant::now();
        let parts = ExportParts {
            log: Arc::clone(&self.log),
            states: Arc::clone(&self.states),
            metrics: Arc::clone(&self.metrics),
            link,
            identity_file: self.dir.path().join("identity.json"),
            dead: self.dir.path().join("dead"),
            enrolment: Arc::clone(&self.enrolment),
            config: watch::channel(config).1,
            status: Arc::clone(&self.status),
            identity: tokio::sync::watch::Sender::new(None),
            report: Arc::new(|| Said { warnings: vec!["a warning".to_owned()], ..Said::default() }),
            force: mpsc::channel(1).1,
            clock: Arc::new(move || 1_000_000 + clock.elapsed().as_millis() as i64),
        };
        self.task = Some(tokio::spawn(run(parts, self.stop.subscribe())));
    }

    pub(super) async fn stop(&mut self) {
        self.stop.send_replace(true);
        self.task.take().unwrap().await.unwrap();
        self.stop.send_replace(false);
    }

    /// As after a crash or a stop of the process: the log opened anew, in a new epoch.
    pub(super) fn reopen(&mut self) {
        self.log.close().unwrap();
        self.log = open(self.dir.path());
        let file = self.dir.path().join("state.json");
        self.states = Arc::new(SlotStates::open(&file, &self.log).unwrap());
    }

    pub(super) fn append(&self, records: u64) {
        for _ in 0..records {
            self.append_part(Part::WHOLE);
        }
    }

    pub(super) fn append_part(&self, part: Part) {
        let mut builder = BatchBuilder::new();
        builder.push("m", [], Kind::Gauge, 1.0, 1);
        let batch = sentinel_model::codec::encode(&builder.build().unwrap());
        let slot = SlotName::new("s").unwrap();
        let record = LogRecord { slot, part, writes: Vec::new(), batch: Bytes::from(batch) };
        self.log.append_blocking(&record.encode()).unwrap();
    }

    /// What a server says of the current epoch.
    pub(super) fn epoch(&self, accepted: u64, committed: u64, rewind_attempt: u32) -> EpochState {
        EpochState { epoch: self.log.epoch().0.to_vec(), accepted, committed, rewind_attempt }
    }

    /// (accepted, committed) of the current epoch in the log.
    pub(super) fn offsets(&self) -> (u64, u64) {
        let current = self.log.epoch();
        let offsets = self.log.offsets();
        offsets.iter().find(|o| o.epoch == current).map(|o| (o.accepted, o.committed)).unwrap()
    }
}
