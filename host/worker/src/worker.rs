//! The worker put together.

use crate::checker::ConditionChecker;
use crate::clock::Clock;
use crate::config::WorkerConfig;
use crate::fleet;
use crate::ingest::{Ingest, IngestParts, consume};
use crate::keeper::Keeper;
use crate::kv::SlotStates;
use crate::metrics::Metrics;
use crate::parts::{WorkerError, WorkerOptions, WorkerParts};
use crate::slots::{SlotParts, Slots, Watched};
use crate::stages::Stages;
use crate::status::{IngestStatus, STATUS_PREFIX, WindowsStatus, WorkerStatus};
use crate::term::Term;
use crate::upkeep;
use crate::windows::Windows;
use crate::windows::source::WindowSource;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use sentinel_alerting::routing::Routing;
use sentinel_bus::{Bus, Depth};
use sentinel_fleet::{Follower, Handle};
use sentinel_model::ids::SlotName;
use sentinel_runtime::Services;
use sentinel_runtime::confine::confined;
use sentinel_store::Store;
use sentinel_trust::Digest;
use sentinel_trust::fleet::HostReport;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long shutdown waits for what is under way.
const DRAIN: Duration = Duration::from_secs(15);
/// The outcomes of records that the status lists.
const OUTCOMES: [&str; 7] =
    ["committed", "skipped", "dead", "duplicate", "contradiction", "gap", "refused"];

fn routing(config: &WorkerConfig) -> Result<Routing, WorkerError> {
    config.routing().map_err(WorkerError::Config)
}

pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) slots: tokio::sync::Mutex<Slots>,
    /// Those of the fleet, for whoever cannot wait.
    pub(crate) watched: Arc<Watched>,
    bus: Arc<dyn Bus>,
    pub(crate) options: WorkerOptions,
    pub(crate) config: Mutex<WorkerConfig>,
    stages: Arc<ArcSwap<Stages>>,
    windows: Arc<RwLock<Windows>>,
    keeper: Arc<Keeper>,
    routing: Arc<ArcSwap<Routing>>,
    metrics: Metrics,
    ingest_trouble: Arc<RwLock<Option<String>>>,
    /// Told when there may be other rules or evaluators.
    changed: watch::Sender<u64>,
    started_at: i64,
    pub(crate) fleet_report: OnceLock<watch::Receiver<HostReport>>,
}

/// A running worker. Dropping it stops nothing: call [`Worker::shutdown`].
pub struct Worker {
    shared: Arc<Shared>,
    fleet: Option<Handle>,
    stop: watch::Sender<bool>,
    ingest: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Worker {
    /// Starts a worker. Returns once the slots have been tried and, where it is alone, alerts and
    /// open notifications are read from the store; slots that could not be loaded are in the status.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn start(options: WorkerOptions, parts: WorkerParts) -> Result<Self, WorkerError> {
        let problems = options.config.problems();
        if !problems.is_empty() {
            return Err(WorkerError::Config(problems));
        }
        let follower = match &options.fleet {
            Some(fleet) => Some(Follower::open(fleet.file.clone(), &fleet.operators)?),
            None => None,
        };
        let metrics = Metrics::register(&parts.metrics)?;
        let windows = Arc::new(RwLock::new(Windows::default()));
        let (mut slots, states) = slots(&options, &parts, &windows);
        let stages = Arc::new(ArcSwap::from_pointee(slots.apply(&options.config).await));
        metrics.slots_failed.set(slots.problems().len() as i64);
        let (stop, stopping) = watch::channel(false);
        let changed = watch::Sender::new(0);
        let routing = Arc::new(ArcSwap::from_pointee(routing(&options.config)?));
        let caught_up = Arc::new(AtomicBool::new(false));
        let keeper = Arc::new(Keeper {
            store: Arc::clone(&parts.store),
            stages: Arc::clone(&stages),
            windows: Arc::clone(&windows),
            routing: Arc::clone(&routing),
            states,
            watch: options.config.self_watch.clone(),
            clock: Arc::clone(&parts.clock),
            metrics: metrics.clone(),
            settle: options.settle,
            caught_up: Arc::clone(&caught_up),
            changed: changed.clone(),
            maintain: options.maintain,
            queued: options.queued,
            duties: Mutex::default(),
        });
        let ingest = Ingest::new(IngestParts {
            store: Arc::clone(&parts.store),
            keys: Arc::clone(&parts.keys),
            stages: Arc::clone(&stages),
            // Where workers share, whoever keeps alerts looks by itself.
            windows: (!options.shares).then(|| Arc::clone(&windows)),
            clock: Arc::clone(&parts.clock),
            metrics: metrics.clone(),
            transform_wait: options.transform_wait,
        });
        let shared = Arc::new(Shared {
            store: parts.store,
            started_at: parts.clock.now(),
            clock: parts.clock,
            watched: Arc::clone(&slots.watched),
            slots: tokio::sync::Mutex::new(slots),
            bus: Arc::clone(&parts.bus),
            config: Mutex::new(options.config.clone()),
            options,
            stages,
            windows,
            keeper: Arc::clone(&keeper),
            routing,
            metrics: metrics.clone(),
            ingest_trouble: ingest.trouble(),
            changed,
            fleet_report: OnceLock::new(),
        });
        let fleet = match follower {
            Some(follower) => {
                let changes = parts.runtime.changes();
                Some(fleet::follow(follower, &shared, parts.plugins, changes).await)
            }
            None => None,
        };
        let mut others = vec![tokio::spawn(upkeep::attend(Arc::clone(&shared), stopping.clone()))];
        if shared.options.shares {
            let holder = shared.options.name.clone();
            others.push(tokio::spawn(keeper.serve(holder, stopping.clone())));
        } else {
            keeper.begin(&Term::default(), true).await;
        }
        let ingest = tokio::spawn(consume(parts.bus, ingest, metrics, caught_up, stopping));
        Ok(Self { shared, fleet, stop, ingest, others })
    }

    /// Makes the slots what another config says, while everything goes on. Call it with the
    /// same config when plugins were installed or revoked. The answer says which slots are not
    /// as configured; they run what they ran before.
    ///
    /// # Errors
    /// A config that cannot work; then nothing was changed.
    pub async fn reconfigure(
        &self,
        config: WorkerConfig,
    ) -> Result<BTreeMap<SlotName, String>, WorkerError> {
        let problems = config.problems();
        if !problems.is_empty() {
            return Err(WorkerError::Config(problems));
        }
        self.shared.routing.store(Arc::new(routing(&config)?));
        *self.shared.config.lock() = config;
        let problems = self.shared.apply().await;
        if let Some(fleet) = &self.fleet {
            let now = fleet::place(&self.shared.config.lock(), &self.shared.options.name);
            fleet.place(|place| *place = now);
        }
        Ok(problems)
    }

    /// What it may come to run of its fleet, by digest.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Digest> {
        self.fleet.as_ref().map(Handle::needs).unwrap_or_default()
    }

    /// Says that other rules were applied, so that the worker need not find out by itself.
    pub fn rules_changed(&self) {
        self.shared.rules_changed();
    }

    /// Asks its evaluators about conditions.
    #[must_use]
    pub fn checker(&self) -> ConditionChecker {
        ConditionChecker(Arc::clone(&self.shared))
    }

    /// What it says of itself.
    pub async fn status(&self) -> WorkerStatus {
        self.shared.status().await
    }

    /// Stops: takes no more from the bus, commits and acknowledges what it took, ends the
    /// evaluations and attempts under way, and stores its last status. What does not end in
    /// time is dropped: it is found again at the next start.
    pub async fn shutdown(mut self) {
        if let Some(fleet) = self.fleet.take() {
            fleet.stop().await;
        }
        self.stop.send_replace(true);
        let drained = async {
            if !self.shared.options.shares {
                self.shared.keeper.drain().await;
            }
            let _ = (&mut self.ingest).await;
            for task in &mut self.others {
                let _ = task.await;
            }
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!(
                seconds = DRAIN.as_secs(),
                "the worker did not end in time; what is under way is dropped and found again at the next start"
            );
            self.ingest.abort();
            self.others.iter().for_each(JoinHandle::abort);
        }
        self.shared.save_status().await;
        self.shared.slots.lock().await.stop().await;
    }
}

fn slots(
    options: &WorkerOptions,
    parts: &WorkerParts,
    windows: &Arc<RwLock<Windows>>,
) -> (Slots, Arc<SlotStates>) {
    let states = Arc::new(SlotStates::new(Arc::clone(&parts.store)));
    let slots = Slots::new(SlotParts {
        runtime: Arc::clone(&parts.runtime),
        services: Services {
            secrets: Arc::clone(&parts.secrets),
            kv: Arc::clone(&states) as Arc<_>,
            series: Arc::new(WindowSource(Arc::clone(windows))),
            forbidden_paths: options.forbidden_paths.clone(),
            outside: None,
        },
        plugins: Arc::clone(&parts.plugins),
        states: Arc::clone(&states),
        link: options.link.clone(),
    });
    (slots, states)
}

impl Shared {
    pub(crate) fn stages(&self) -> Arc<Stages> {
        self.stages.load_full()
    }

    pub(crate) fn rules_changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Makes the slots what the config says; says which are not.
    pub(crate) async fn apply(&self) -> BTreeMap<SlotName, String> {
        let mut slots = self.slots.lock().await;
        let config = self.config.lock().clone();
        let stages = slots.apply(&config).await;
        self.goes_over(&mut slots, stages).await;
        self.metrics.slots_failed.set(slots.problems().len() as i64);
        slots.problems().clone()
    }

    /// Makes the stages those that work is done with, and then ends slots that are out of use.
    pub(crate) async fn goes_over(&self, slots: &mut Slots, stages: Stages) {
        self.stages.store(Arc::new(stages));
        self.changed.send_modify(|count| *count += 1);
        self.keeper.notifiers_changed();
        slots.stop_retired().await;
    }

    pub(crate) async fn status(&self) -> WorkerStatus {
        let (slots, problems, fleet) = {
            let slots = self.slots.lock().await;
            let report = self.fleet_report.get().map(|report| report.borrow().clone());
            let fleet = report.map(|report| slots.fleet_report(report));
            (slots.status(), slots.problems().clone(), fleet)
        };
        let (depth, bus_trouble) = match self.bus.depth().await {
            Ok(depth) => (depth, None),
            Err(error) => (Depth::default(), Some(error.to_string())),
        };
        let kept = self.keeper.status();
        let (rules, notifications) = kept.clone().unwrap_or_default();
        // Before the status: what it locks stays locked until the whole of it is made.
        let routing = kept.is_some().then(|| {
            let everybody = self.stages.load().notifiers.keys().cloned().collect();
            self.config.lock().stated_routing(everybody)
        });
        let count = |outcome| (outcome, self.metrics.records.with_label_values(&[outcome]).get());
        WorkerStatus {
            name: self.options.name.clone(),
            version: self.options.version.clone(),
            started_at: self.started_at,
            labels: fleet::labels(&self.config.lock(), &self.options.name),
            fleet,
            sandbox: confined().clone(),
            slots,
            problems,
            ingest: IngestStatus {
                waiting: depth.messages,
                waiting_bytes: depth.bytes,
                bus_trouble,
                records: OUTCOMES.map(count).into_iter().collect(),
                samples: self.metrics.samples.get(),
                store_trouble: self.ingest_trouble.read().clone(),
            },
            windows: WindowsStatus::new(self.windows.read().size()),
            keeps_alerts: kept.is_some(),
            routing,
            rules,
            notifications,
        }
    }

    pub(crate) async fn save_status(&self) {
        let status = self.status().await;
        let json = match serde_json::to_string(&status) {
            Ok(json) => json,
            Err(error) => {
                tracing::error!(%error, "the worker's status has no JSON form");
                return;
            }
        };
        let name = format!("{STATUS_PREFIX}{}", self.options.name);
        if let Err(error) = self.store.save_status(&name, &json, self.clock.now()).await {
            tracing::debug!(%error, "the worker's status could not be stored");
        }
    }
}
