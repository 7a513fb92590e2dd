//! The evaluators of a server that has no worker beside it: they say what conditions of rules
//! mean, and evaluate nothing.

use super::apart::Apart;
use anyhow::Result;
use arc_swap::ArcSwap;
use async_trait::async_trait;
use parking_lot::RwLock;
use sentinel_agent::secrets::SecretStore;
use sentinel_model::ids::SlotName;
use sentinel_runtime::Services;
use sentinel_server::{RuleChecker, RuleVerdict};
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::kv::SlotStates;
use sentinel_worker::slots::{SlotParts, Slots};
use sentinel_worker::stages::Stages;
use sentinel_worker::windows::Windows;
use sentinel_worker::windows::source::WindowSource;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The evaluators in their slots.
pub(super) struct Evaluators {
    slots: Mutex<Slots>,
    stages: ArcSwap<Stages>,
}

impl Evaluators {
    /// Starts those of the configuration; what cannot be loaded is logged, and tried again with
    /// each [`Evaluators::apply`].
    pub(super) async fn start(apart: &Apart) -> Result<Arc<Self>> {
        let states = Arc::new(SlotStates::new(Arc::clone(&apart.store)));
        let slots = Slots::new(SlotParts {
            runtime: Arc::clone(&apart.runtime),
            services: Services {
                secrets: Arc::new(SecretStore::open(apart.data.path())?),
                kv: Arc::clone(&states) as Arc<_>,
                series: Arc::new(WindowSource(Arc::new(RwLock::new(Windows::default())))),
                forbidden_paths: vec![apart.data.path().to_owned()],
                outside: None,
            },
            plugins: Arc::clone(&apart.plugins) as Arc<_>,
            states,
            link: String::new(),
        });
        let (slots, stages) = (Mutex::new(slots), ArcSwap::default());
        let evaluators = Arc::new(Self { slots, stages });
        evaluators.apply(&apart.config.config.worker).await;
        Ok(evaluators)
    }

    /// Makes them what a configuration says.
    pub(super) async fn apply(&self, config: &WorkerConfig) {
        let alone =
            WorkerConfig { evaluators: config.evaluators.clone(), ..WorkerConfig::default() };
        let mut slots = self.slots.lock().await;
        self.stages.store(Arc::new(slots.apply(&alone).await));
        slots.stop_retired().await;
    }

    /// Ends them.
    pub(super) async fn stop(&self) {
        self.slots.lock().await.stop().await;
    }
}

/// What the server knows of rules.
pub(super) struct Checks(pub(super) Arc<Evaluators>);

#[async_trait]
impl RuleChecker for Checks {
    async fn check(
        &self,
        evaluator: &SlotName,
        condition: &serde_json::Value,
    ) -> Result<RuleVerdict, String> {
        let stages = self.0.stages.load_full();
        let stage = stages.evaluators.get(evaluator).ok_or_else(|| {
            format!("there is no evaluator in a slot named {evaluator}; see `worker.evaluators` in the server's configuration")
        })?;
        let found = stage.evaluator.diagnose(&condition.to_string()).await?;
        Ok(super::connect::verdict(found))
    }

    /// Workers elsewhere find out by themselves.
    fn applied(&self) {}
}
