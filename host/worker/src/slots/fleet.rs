//! Slots of the fleet, beside those of the configuration: changed as a whole, kept each for
//! itself.
//!
//! Transforms of the fleet come after those of the configuration, in the set's order. One whose
//! plugin is not to be had holds up ingest as one of the configuration does; one that an
//! operator disabled does not. A slot that is gone takes no more work once the new stages are in
//! use, and ends when what is under way is done ([`Slots::stop_retired`]).

use super::{Live, Slots, Wanted as Asked};
use crate::config::WorkerConfig;
use crate::stages::{EvaluatorStage, NotifierStage, Stages, TransformStage};
use sentinel_alerting::delivery::OnUnknown;
use sentinel_fleet::{Keeping, MAX_HOST_SLOTS, Wanted};
use sentinel_model::ids::SlotName;
use sentinel_runtime::{Change, Committed, MAX_SET, SlotSpec};
use sentinel_trust::fleet::{NotifyOnUnknown, Wish};
use sentinel_trust::{Kind, VerifiedComponent};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::health::given_up;
use super::stage::{Missing, SlotEvaluator, SlotNotifier, SlotTransform};

const _: () = assert!(MAX_HOST_SLOTS <= MAX_SET, "a set is changed in one piece");

/// Why a slot of the fleet is empty although nothing failed.
pub(super) const DISABLED: &str = "an operator of the fleet disabled it";

/// One slot of the set that runs, in the set's order.
struct Place {
    name: SlotName,
    kind: Kind,
    on_unknown: OnUnknown,
    disabled: bool,
    /// Why its plugin is not to be had, while there is none.
    waits: Option<String>,
}

impl Place {
    fn of(name: SlotName, wish: &Wish) -> Self {
        let on_unknown = match wish.on_unknown {
            Some(NotifyOnUnknown::Retry) => OnUnknown::Retry,
            Some(NotifyOnUnknown::Hold) => OnUnknown::Hold,
            None => OnUnknown::default(),
        };
        Self { name, kind: wish.kind, on_unknown, disabled: wish.disabled, waits: None }
    }
}

/// What a worker runs for its fleet.
#[derive(Default)]
pub(super) struct FleetSlots {
    pub(super) live: BTreeMap<SlotName, Live>,
    places: Vec<Place>,
}

/// A wish that this worker understands.
struct Ready {
    name: SlotName,
    wish: Wish,
    component: Option<Arc<VerifiedComponent>>,
}

fn ready(wanted: Wanted, taken: &BTreeSet<SlotName>) -> Result<Ready, String> {
    let Wanted { wish, component } = wanted;
    let about = |why: String| format!("slot `{}`: {why}", wish.slot);
    let name = SlotName::new(&wish.slot).map_err(|error| about(error.to_string()))?;
    if taken.contains(&name) {
        return Err(about("this worker's configuration has a slot of that name".to_owned()));
    }
    Ok(Ready { name, wish, component })
}

impl Slots {
    /// Makes the fleet's slots exactly these, or changes nothing. The stages are to be taken
    /// anew afterwards, and then [`Slots::stop_retired`].
    ///
    /// # Errors
    /// Why nothing was changed, in words.
    pub async fn apply_fleet(
        &mut self,
        set: Vec<Wanted>,
        config: &WorkerConfig,
    ) -> Result<(), String> {
        // What was fetched for this set may be of somebody who is trusted since then.
        self.enforce().await;
        let taken = config.slot_names();
        let set: Vec<Ready> =
            set.into_iter().map(|one| ready(one, &taken)).collect::<Result<_, _>>()?;
        let (mut changed, mut changes) = (Vec::new(), Vec::new());
        for one in &set {
            if let Some(change) = self.change(one, true).await? {
                changed.push(&one.name);
                changes.push(change);
            }
        }
        let applied = self.parts.runtime.apply(changes).await;
        let applied = applied.map_err(|error| error.to_string())?;
        let mut committed: BTreeMap<&SlotName, Committed> =
            changed.into_iter().zip(applied).collect();
        for one in &set {
            self.runs(one, committed.remove(&one.name));
        }
        let places = set.iter().map(|one| Place::of(one.name.clone(), &one.wish)).collect();
        self.place(places);
        Ok(())
    }

    /// Makes the fleet's slots these as far as they can be; those that are not, and why. As
    /// after [`Slots::apply_fleet`], the stages are to be taken anew.
    pub async fn keep_fleet(
        &mut self,
        set: Vec<Keeping>,
        config: &WorkerConfig,
    ) -> BTreeMap<String, String> {
        self.enforce().await;
        let taken = config.slot_names();
        let (mut missing, mut places) = (BTreeMap::new(), Vec::new());
        for one in set {
            match one {
                Keeping::Waiting { wish, why } => {
                    if let Ok(name) = SlotName::new(&wish.slot)
                        && !taken.contains(&name)
                    {
                        places.push(Place { waits: Some(why.clone()), ..Place::of(name, &wish) });
                    }
                    missing.insert(wish.slot, why);
                }
                Keeping::Ready(wanted) => {
                    let slot = wanted.wish.slot.clone();
                    match ready(wanted, &taken) {
                        Err(why) => drop(missing.insert(slot, why)),
                        Ok(one) => {
                            let waits = self.keep_one(&one).await.err();
                            missing.extend(waits.clone().map(|why| (slot, why)));
                            places.push(Place { waits, ..Place::of(one.name, &one.wish) });
                        }
                    }
                }
            }
        }
        self.place(places);
        missing
    }

    async fn keep_one(&mut self, one: &Ready) -> Result<(), String> {
        let change = self.change(one, false).await?;
        let applied = self.parts.runtime.apply(change.into_iter().collect()).await;
        let mut applied = applied.map_err(|error| error.to_string())?;
        self.runs(one, applied.pop());
        Ok(())
    }

    /// What is to be changed for a wish; nothing where the slot runs it, or is disabled. What was
    /// given up is tried `again` with a set that an operator decided since.
    async fn change(&self, one: &Ready, again: bool) -> Result<Option<Change>, String> {
        let (Some(component), wish) = (&one.component, &one.wish) else { return Ok(None) };
        let live = self.fleet.live.get(&one.name).filter(|live| live.kind == wish.kind);
        let failed = |live: &Live| again && given_up(&live.slot.status()).is_some();
        let runs =
            |live: &Live| !live.slot.is_empty() && live.wanted == asked(wish) && !failed(live);
        if live.is_some_and(runs) {
            return Ok(None);
        }
        self.parts.states.open(&one.name).await.map_err(|error| error.to_string())?;
        let spec = SlotSpec {
            name: one.name.clone(),
            component: Arc::clone(component),
            config: wish.config.clone(),
            grants: wish.grants.clone(),
        };
        Ok(Some(match live {
            Some(live) => Change::Swap { slot: live.slot.clone(), spec },
            None => Change::Start { spec, services: self.parts.services.clone() },
        }))
    }

    /// Takes note of what runs in a slot now.
    fn runs(&mut self, one: &Ready, committed: Option<Committed>) {
        let (kind, wanted) = (one.wish.kind, asked(&one.wish));
        if one.component.is_none() {
            let live = self.fleet.live.get(&one.name);
            self.disabling.extend(live.map(|live| live.slot.clone()));
            return;
        }
        let Some(Committed { slot, generation }) = committed else { return };
        let (plugin, version) = (&one.wish.plugin, &one.wish.version);
        tracing::info!(slot = %one.name, %plugin, %version, generation, "slot of the fleet runs");
        self.changes += 1;
        self.watched.put(slot.clone(), plugin.clone());
        let live = Live { slot, kind, wanted, generation: self.changes };
        let before = self.fleet.live.insert(one.name.clone(), live);
        // The same slot after a swap; of another kind, another that is over.
        self.retired.extend(before.filter(|it| it.kind != kind).map(|it| it.slot));
    }

    /// The fleet's slots are these, in this order; the others are out of use.
    fn place(&mut self, places: Vec<Place>) {
        let names: BTreeSet<&SlotName> = places.iter().map(|place| &place.name).collect();
        let gone: Vec<SlotName> =
            self.fleet.live.keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in gone {
            tracing::info!(slot = %name, "slot of the fleet removed");
            self.watched.forget(&name);
            self.retired.extend(self.fleet.live.remove(&name).map(|live| live.slot));
        }
        self.fleet.places = places;
    }

    /// The configuration has these names: what the fleet runs under them is out of use.
    pub(super) fn fleet_gives_way(&mut self, taken: &BTreeSet<SlotName>) {
        self.fleet.places.retain(|place| !taken.contains(&place.name));
        for name in taken {
            self.watched.forget(name);
            self.retired.extend(self.fleet.live.remove(name).map(|live| live.slot));
        }
    }

    /// Adds the stages of the fleet.
    pub(super) fn fleet_stages(&self, stages: &mut Stages) {
        for place in self.fleet.places.iter().filter(|place| !place.disabled) {
            let live = self.fleet.live.get(&place.name).filter(|live| live.kind == place.kind);
            let slot = place.name.clone();
            match (place.kind, live) {
                (Kind::Transform, live) => {
                    let transform: Arc<dyn crate::stages::Transform> = match live {
                        Some(live) => Arc::new(SlotTransform(live.slot.clone())),
                        None => Arc::new(Missing(place.waits.clone().unwrap_or_default())),
                    };
                    stages.transforms.push(TransformStage { slot, transform });
                }
                (Kind::Evaluator, Some(live)) => {
                    let evaluator = Arc::new(SlotEvaluator(live.slot.clone()));
                    let stage = EvaluatorStage { generation: live.generation, evaluator };
                    stages.evaluators.insert(slot, stage);
                }
                (Kind::Notifier, Some(live)) => {
                    let link = self.parts.link.clone();
                    let notifier = SlotNotifier { slot: live.slot.clone(), link };
                    let stage = NotifierStage {
                        on_unknown: place.on_unknown,
                        notifier: Arc::new(notifier),
                    };
                    stages.notifiers.insert(slot, stage);
                }
                (Kind::Evaluator | Kind::Notifier, None) | (Kind::Collector, _) => {}
            }
        }
    }
}

fn asked(wish: &Wish) -> Asked {
    let (config, grants) = (wish.config.clone(), wish.grants.clone());
    Asked { digest: wish.digest, config, grants }
}
