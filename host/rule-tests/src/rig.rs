//! What is dear to make and used by many plays: plugins in their slots, conditions that were
//! checked.

use crate::world::World;
use sentinel_alerting::delivery::OnUnknown;
use sentinel_model::ids::SlotName;
use sentinel_model::rule::Rule;
use sentinel_registry_client::PluginSource;
use sentinel_runtime::evaluator::{CheckError, Condition, Plan};
use sentinel_runtime::{Diagnostic, LoadError, Runtime, Services, Severity, Slot, SlotSpec};
use sentinel_trust::Kind;
use sentinel_worker::config::{SlotConfig, WorkerConfig};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The most conditions whose plans are remembered.
const MAX_PLANS: usize = 100_000;
/// The plugin of an evaluator slot that nothing is said of.
const EVALUATOR: &str = "sentinel/alert-dsl";
/// Name of that slot.
const EVALUATOR_SLOT: &str = "alert-dsl";

/// What a condition reads, or everything that is wrong with it.
pub type Verdict = Result<Plan, Vec<Diagnostic>>;

/// Why rules cannot be tried out.
#[derive(Debug, thiserror::Error)]
pub enum RigError {
    /// A plugin's name is none.
    #[error("slot {slot}: {why}")]
    Name {
        /// The slot.
        slot: SlotName,
        /// What is wrong with it.
        why: String,
    },
    /// A plugin is not to be had.
    #[error("slot {slot}: {plugin} is not to be had: {why}")]
    Plugin {
        /// The slot.
        slot: SlotName,
        /// The plugin.
        plugin: String,
        /// Why.
        why: String,
    },
    /// A plugin is of another kind.
    #[error("slot {slot}: {plugin} is of the kind {found}, and this slot is for a {wanted}")]
    Kind {
        /// The slot.
        slot: SlotName,
        /// The plugin.
        plugin: String,
        /// What it is.
        found: Kind,
        /// What is needed.
        wanted: Kind,
    },
    /// A plugin cannot be loaded with this config and these grants.
    #[error(transparent)]
    Load(#[from] Box<LoadError>),
    /// A rule names an evaluator that is not there.
    #[error("rule {rule}: there is no evaluator slot {slot}")]
    NoEvaluator {
        /// The rule.
        rule: String,
        /// The slot.
        slot: SlotName,
    },
    /// An evaluator failed, or refused what it had accepted.
    #[error("evaluator {slot}: {why}")]
    Evaluator {
        /// The slot.
        slot: SlotName,
        /// What it said.
        why: String,
    },
}

/// Slots of one worker's configuration, and the world they are in. One play at a time.
pub struct Rig {
    runtime: Arc<Runtime>,
    plugins: Arc<dyn PluginSource>,
    pub(crate) world: Arc<World>,
    /// By what makes them what they are.
    slots: HashMap<String, Slot>,
    evaluators: BTreeMap<SlotName, Slot>,
    evaluator_configs: Vec<SlotConfig>,
    pub(crate) notifiers: BTreeMap<SlotName, Slot>,
    /// What is done where nobody knows whether a notification was taken.
    pub(crate) on_unknown: BTreeMap<SlotName, OnUnknown>,
    plans: HashMap<(SlotName, String), Verdict>,
}

impl Rig {
    /// Nothing is loaded yet.
    #[must_use]
    pub fn new(runtime: Arc<Runtime>, plugins: Arc<dyn PluginSource>) -> Self {
        Self {
            runtime,
            plugins,
            world: Arc::default(),
            slots: HashMap::new(),
            evaluators: BTreeMap::new(),
            evaluator_configs: Vec::new(),
            notifiers: BTreeMap::new(),
            on_unknown: BTreeMap::new(),
            plans: HashMap::new(),
        }
    }

    /// Loads the evaluators and notifiers of a worker's configuration; what is loaded already
    /// stays. Where it names no evaluator there is `sentinel/alert-dsl` in the slot `alert-dsl`.
    ///
    /// # Errors
    /// The first slot that cannot be as it is configured.
    pub async fn set_up(&mut self, config: &WorkerConfig) -> Result<(), RigError> {
        let mut evaluators = config.evaluators.clone();
        if evaluators.is_empty() {
            evaluators.push(SlotConfig {
                slot: SlotName::new(EVALUATOR_SLOT).expect("a valid name"),
                plugin: EVALUATOR.to_owned(),
                config: serde_json::json!({}),
                grants: serde_json::from_value(serde_json::json!({ "series": true }))
                    .expect("valid grants"),
            });
        }
        let mut loaded = BTreeMap::new();
        for slot in &evaluators {
            loaded.insert(slot.slot.clone(), self.slot(slot, Kind::Evaluator).await?);
        }
        // Another evaluator of the same name reads other conditions.
        if self.evaluator_configs != evaluators {
            self.plans.clear();
            self.evaluator_configs = evaluators;
        }
        self.evaluators = loaded;
        let mut loaded = BTreeMap::new();
        for notifier in &config.notifiers {
            let slot = self.slot(&notifier.slot_config(), Kind::Notifier).await?;
            loaded.insert(notifier.slot.clone(), slot);
        }
        self.notifiers = loaded;
        let policies = config.notifiers.iter().map(|one| (one.slot.clone(), one.on_unknown));
        self.on_unknown = policies.collect();
        Ok(())
    }

    async fn slot(&mut self, config: &SlotConfig, kind: Kind) -> Result<Slot, RigError> {
        let key = serde_json::to_string(config).unwrap_or_default();
        if let Some(slot) = self.slots.get(&key) {
            return Ok(slot.clone());
        }
        let (slot, plugin) = (config.slot.clone(), config.plugin.clone());
        let wanted = plugin
            .parse()
            .map_err(|error| RigError::Name { slot: slot.clone(), why: format!("{error}") })?;
        let component = self.plugins.resolve(&wanted).await.map_err(|error| {
            let (slot, plugin) = (slot.clone(), plugin.clone());
            RigError::Plugin { slot, plugin, why: error.to_string() }
        })?;
        let found = component.manifest().kind;
        if found != kind {
            return Err(RigError::Kind { slot, plugin, found, wanted: kind });
        }
        let services = Services {
            secrets: Arc::clone(&self.world) as Arc<_>,
            kv: Arc::clone(&self.world) as Arc<_>,
            series: Arc::clone(&self.world) as Arc<_>,
            outside: Some(Arc::clone(&self.world) as Arc<_>),
            ..Services::none()
        };
        let spec = SlotSpec {
            name: slot,
            component,
            config: config.config.clone(),
            grants: config.grants.clone(),
        };
        let started = Slot::start(&self.runtime, spec, services).await.map_err(Box::new)?;
        self.slots.insert(key, started.clone());
        Ok(started)
    }

    /// What a rule's condition reads, or everything that is wrong with it.
    ///
    /// # Errors
    /// There is no such evaluator, or it failed.
    pub async fn check(&mut self, rule: &Rule) -> Result<Verdict, RigError> {
        self.condition(&rule.evaluator, &rule.condition).await?.ok_or_else(|| {
            let (rule, slot) = (rule.name.clone(), rule.evaluator.clone());
            RigError::NoEvaluator { rule, slot }
        })
    }

    /// What a condition reads, or everything that is wrong with it; nothing where there is no such
    /// evaluator.
    ///
    /// # Errors
    /// The evaluator failed.
    pub async fn condition(
        &mut self,
        evaluator: &SlotName,
        condition: &serde_json::Value,
    ) -> Result<Option<Verdict>, RigError> {
        let key = (evaluator.clone(), condition.to_string());
        if let Some(known) = self.plans.get(&key) {
            return Ok(Some(known.clone()));
        }
        let Some(evaluator) = self.evaluators.get(evaluator) else { return Ok(None) };
        let plan = match evaluator.check(&key.1).await {
            Ok(plan) => Ok(plan),
            Err(CheckError::Refused(said)) => Err(said),
            Err(CheckError::Call(error)) => {
                return Err(RigError::Evaluator { slot: key.0, why: error.to_string() });
            }
        };
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        self.plans.insert(key, plan.clone());
        Ok(Some(plan))
    }

    /// Loads the conditions of rules that were checked: the rules of each evaluator, by their
    /// index in `rules`, in the order in which they are loaded.
    pub(crate) async fn load(
        &self,
        rules: &[Arc<Rule>],
    ) -> Result<Vec<(SlotName, Slot, Vec<usize>)>, RigError> {
        let mut chapters: BTreeMap<&SlotName, Vec<usize>> = BTreeMap::new();
        for (at, rule) in rules.iter().enumerate() {
            chapters.entry(&rule.evaluator).or_default().push(at);
        }
        let mut out = Vec::with_capacity(chapters.len());
        for (name, members) in chapters {
            let Some(slot) = self.evaluators.get(name) else {
                let rule = rules[members[0]].name.clone();
                return Err(RigError::NoEvaluator { rule, slot: name.clone() });
            };
            let condition = |&at: &usize| Condition {
                rule: rules[at].name.clone(),
                text: rules[at].condition.to_string(),
            };
            let loaded = slot.load_conditions(members.iter().map(condition).collect()).await;
            loaded.map_err(|error| RigError::Evaluator {
                slot: name.clone(),
                why: error.to_string(),
            })?;
            out.push((name.clone(), slot.clone(), members));
        }
        Ok(out)
    }
}

/// What refuses a condition, out of what was said of it.
pub(crate) fn refusals(said: &[Diagnostic]) -> impl Iterator<Item = &Diagnostic> {
    said.iter().filter(|one| one.severity == Severity::Error)
}
