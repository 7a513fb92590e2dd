//! Delivering notifications: the journal in the store is the queue, this is its working set.
//!
//! Each notifier slot has a lane with a task of its own, so that a target that is slow or down
//! delays no other. An attempt is stored as begun before the notifier is called, and its
//! outcome is stored before the next step: after a crash the journal says which notifications
//! may have arrived, and they are sent again with the same id.
//!
//! A lane holds at most [`MAX_QUEUED`] deliveries. What is beyond stays in the journal, with all
//! that is decided after it, and is read from there when there is room.

mod lane;
mod queue;
mod record;

pub use queue::MAX_QUEUED;

use crate::clock::Clock;
use crate::kv::SlotStates;
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::stages::{Attempt, Stages};
use crate::term::Term;
use arc_swap::ArcSwap;
use lane::run;
use parking_lot::Mutex;
use queue::{Queue, Ticket};
use record::{made, said};
use sentinel_alerting::circuit::{Answer, Circuit};
use sentinel_alerting::delivery::{self, Input, OnUnknown};
use sentinel_model::alert::{Delivery, DeliveryState};
use sentinel_model::attention::Attempt as Made;
use sentinel_model::ids::SlotName;
use sentinel_runtime::KvWrite;
use sentinel_store::Store;
use sentinel_store::alerting::{AlertingChange, NotificationFilter, SlotWrite};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

/// Attempts that one notifier makes at once.
pub const SENDS_AT_ONCE: usize = 4;
/// The longest sleep of a lane: a clock may be set meanwhile.
const MAX_SLEEP_MS: i64 = 60_000;

/// What delivering works with.
#[derive(Clone)]
pub struct NotifyParts {
    /// The journal.
    pub store: Arc<dyn Store>,
    /// The notifiers.
    pub stages: Arc<ArcSwap<Stages>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted.
    pub metrics: Metrics,
    /// The most deliveries of one notifier that are held in memory; [`MAX_QUEUED`] as a rule.
    pub queued: usize,
    /// What notifiers remember.
    pub states: Arc<SlotStates>,
    /// How long this goes on: every write says that it is of this term.
    pub term: Term,
}

/// What a lane says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaneStatus {
    /// The notifier slot.
    pub notifier: SlotName,
    /// Deliveries that wait or are being sent.
    pub open: usize,
    /// When the oldest of those that wait was decided, unix milliseconds.
    pub oldest: Option<i64>,
    /// What the last attempt that failed said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Whether it is taken for down: one attempt at a time, and long waits between them.
    pub is_down: bool,
}

struct LaneState {
    queue: Queue,
    /// The journal has more than fits. Until all of it is here, what is new stays there too: it
    /// must not pass what tells of the same alert and came before.
    overflown: bool,
    /// Something new stayed in the journal since it was last read.
    left: bool,
    last_failure: Option<String>,
    circuit: Circuit,
}

struct Lane {
    slot: SlotName,
    state: Mutex<LaneState>,
    wake: Notify,
}

/// A lane and its task.
type RunningLane = (Arc<Lane>, JoinHandle<()>);

struct Shared {
    parts: NotifyParts,
    patience: Patience,
    lanes: Mutex<BTreeMap<SlotName, RunningLane>>,
    stop: watch::Receiver<bool>,
}

/// Takes notifications that were decided and stored, and delivers them. Cheap to clone.
#[derive(Clone)]
pub struct Notifications(Arc<Shared>);

impl Notifications {
    /// Starts with all that the journal says is open; waits for the store. When `stop` becomes
    /// true no further attempt is begun.
    pub async fn start(parts: NotifyParts, stop: watch::Receiver<bool>) -> Self {
        let patience =
            Patience::new("the journal of notifications is stuck", parts.metrics.clone());
        let shared = Shared { parts, patience, lanes: Mutex::default(), stop };
        let notifications = Self(Arc::new(shared));
        let store = &notifications.0.parts.store;
        for slot in notifications.0.patience.until(|| store.open_notifiers()).await {
            let (open, more) = notifications.0.journal(&slot).await;
            let recovered = open.iter().filter(|d| d.state == DeliveryState::Sending).count();
            tracing::info!(
                notifier = slot.as_str(),
                open = open.len(),
                recovered,
                more,
                "going on with the notifications that were open"
            );
            notifications.enqueue(notifications.0.recover(open).await);
            let lane = notifications.lane(&slot);
            lane.state.lock().overflown |= more;
            lane.wake.notify_one();
        }
        notifications
    }

    /// Takes deliveries that are in the journal.
    pub fn enqueue(&self, deliveries: Vec<Delivery>) {
        for delivery in deliveries {
            let lane = self.lane(&delivery.notification.notifier);
            let mut state = lane.state.lock();
            let before = state.queue.len();
            if state.overflown || !state.queue.push(delivery) {
                (state.overflown, state.left) = (true, true);
            }
            let added = state.queue.len() - before;
            drop(state);
            self.0.parts.metrics.notifications_open.add(added as i64);
            lane.wake.notify_one();
        }
    }

    /// Tells the lanes that there may be other notifiers: none is taken for down any more.
    pub fn notifiers_changed(&self) {
        for (lane, _) in self.0.lanes.lock().values() {
            lane.state.lock().circuit = Circuit::default();
            lane.wake.notify_one();
        }
    }

    /// Has the lanes read the journal again, to which somebody else added: dead letters that are
    /// to be sent again, tests.
    pub async fn look_into_the_journal(&self) {
        let store = &self.0.parts.store;
        for slot in self.0.patience.until(|| store.open_notifiers()).await {
            let lane = self.lane(&slot);
            {
                let mut state = lane.state.lock();
                (state.overflown, state.left) = (true, true);
            }
            lane.wake.notify_one();
        }
    }

    /// What the lanes say of themselves.
    #[must_use]
    pub fn status(&self) -> Vec<LaneStatus> {
        let lanes = self.0.lanes.lock();
        let status = |(lane, _): &RunningLane| {
            let state = lane.state.lock();
            LaneStatus {
                notifier: lane.slot.clone(),
                open: state.queue.len(),
                oldest: state.queue.oldest(),
                last_failure: state.last_failure.clone(),
                is_down: state.circuit.is_open(),
            }
        };
        lanes.values().map(status).collect()
    }

    /// Waits, after stop, for the attempts under way.
    pub async fn drained(&self) {
        let lanes: Vec<_> = std::mem::take(&mut *self.0.lanes.lock()).into_values().collect();
        for (lane, task) in lanes {
            lane.wake.notify_one();
            if let Err(error) = task.await {
                tracing::error!(notifier = %lane.slot, %error, "delivering ended in a panic");
            }
        }
    }

    fn lane(&self, slot: &SlotName) -> Arc<Lane> {
        let mut lanes = self.0.lanes.lock();
        if let Some((lane, _)) = lanes.get(slot) {
            return Arc::clone(lane);
        }
        let state = LaneState {
            queue: Queue::new(self.0.parts.queued),
            overflown: false,
            left: false,
            last_failure: None,
            circuit: Circuit::default(),
        };
        let state = Mutex::new(state);
        let lane = Arc::new(Lane { slot: slot.clone(), state, wake: Notify::new() });
        let task = tokio::spawn(run(Arc::clone(&self.0), Arc::clone(&lane)));
        lanes.insert(slot.clone(), (Arc::clone(&lane), task));
        lane
    }
}

impl Shared {
    /// As many of a notifier's open deliveries as its lane holds, in the order in which they
    /// were decided, and whether the journal has more.
    async fn journal(&self, slot: &SlotName) -> (Vec<Delivery>, bool) {
        let (store, queued) = (&self.parts.store, self.parts.queued);
        let page = u32::try_from(queued).unwrap_or(u32::MAX).saturating_add(1);
        let read = || store.notifications(NotificationFilter::OpenOf(slot.clone()), page);
        let mut open = self.patience.until(read).await;
        let more = open.len() > queued;
        open.truncate(queued);
        (open, more)
    }

    /// Deliveries of the journal as they are to be gone on with; nobody may be sending them.
    async fn recover(&self, open: Vec<Delivery>) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(open.len());
        for found in open {
            let policy = self.on_unknown(&found.notification.notifier);
            let now = self.parts.clock.now();
            let recovered = delivery::step(&found, now, Input::Recovered, policy, 0.0);
            if let Some(recovered) = &recovered {
                let said = said(&Input::Recovered);
                let made = made(recovered, found.may_be_repeat, now, now, said);
                self.save(recovered, Some(made), Vec::new()).await;
            }
            let delivery = recovered.unwrap_or(found);
            if delivery.state == DeliveryState::Pending {
                deliveries.push(delivery);
            }
        }
        deliveries
    }

    fn on_unknown(&self, slot: &SlotName) -> OnUnknown {
        self.parts.stages.load().notifiers.get(slot).map_or(OnUnknown::Retry, |s| s.on_unknown)
    }

    /// Stores a delivery as it is now, with the attempt that ended, if one did, and what its
    /// notifier remembers.
    async fn save(&self, delivery: &Delivery, made: Option<Made>, remembered: Vec<SlotWrite>) {
        let made = made.map(|made| (delivery.notification.id.clone(), made));
        let change = || AlertingChange {
            delivered: vec![delivery.clone()],
            attempts: made.iter().cloned().collect(),
            remembered: remembered.clone(),
            ..AlertingChange::default()
        };
        let (store, term) = (&self.parts.store, &self.parts.term);
        let save = || async {
            let saved = store.save_alerting(term.sign(change())).await;
            term.heed(&saved);
            saved
        };
        // Whoever waits for this ends with the term.
        self.patience.until(save).await;
    }

    /// Makes one attempt and stores what came of it.
    async fn attempt(&self, before: Delivery) -> (Delivery, Answer) {
        let slot = &before.notification.notifier;
        let stage = self.parts.stages.load().notifiers.get(slot).cloned();
        let now = || self.parts.clock.now();
        let Some(stage) = stage else {
            let message = format!("there is no notifier slot {:?}; configure it", slot.as_str());
            let input = Input::NotSent { message };
            return self.end(before, now(), (input, Vec::new()), OnUnknown::Retry).await;
        };
        let began = now();
        let begun = delivery::step(&before, began, Input::Begin, stage.on_unknown, 0.0);
        let sending = begun.unwrap_or(before);
        self.save(&sending, None, Vec::new()).await;
        let (notification, repeat) = (&sending.notification, sending.may_be_repeat);
        let said = match stage.notifier.notify(notification, sending.attempts, repeat).await {
            Attempt::NotMade(message) => (Input::NotSent { message }, Vec::new()),
            Attempt::Made { sent, remembers } => (Input::Answered(sent), remembers),
        };
        self.end(sending, began, said, stage.on_unknown).await
    }

    /// Stores how an attempt ended that began at `began`, and what its notifier remembers.
    async fn end(
        &self,
        before: Delivery,
        began: i64,
        (input, remembers): (Input, Vec<KvWrite>),
        policy: OnUnknown,
    ) -> (Delivery, Answer) {
        let now = self.parts.clock.now();
        let answer = match &input {
            Input::Answered(outcome) => Answer::from(outcome),
            Input::NotSent { .. } | Input::Begin | Input::Recovered => {
                Answer::Failed { after_ms: None }
            }
        };
        let said = said(&input);
        let Some(after) = delivery::step(&before, now, input, policy, rand::random()) else {
            return (before, answer);
        };
        let made = made(&after, before.may_be_repeat, began, now, said);
        let save = |remembered| self.save(&after, Some(made), remembered);
        self.parts.states.keep(&after.notification.notifier, remembers, save).await;
        (after, answer)
    }

    fn settle(&self, lane: &Lane, ticket: Ticket, (after, answer): (Delivery, Answer)) {
        let slot = lane.slot.as_str();
        let count = |outcome| {
            self.parts.metrics.notifications.with_label_values(&[slot, outcome]).inc();
        };
        let (id, message) = (&after.notification.id, &after.message);
        let mut state = lane.state.lock();
        let was_down = state.circuit.is_open();
        state.circuit = state.circuit.step(self.parts.clock.now(), answer);
        if state.circuit.is_open() != was_down {
            tracing::warn!(
                notifier = slot,
                down = !was_down,
                "a notifier is taken for down, or is well again"
            );
        }
        match after.state {
            DeliveryState::Pending | DeliveryState::Sending => {
                count("retried");
                tracing::warn!(
                    notifier = slot,
                    id,
                    message,
                    attempts = after.attempts,
                    "a notification was not delivered; tried again"
                );
                state.last_failure = Some(after.message.clone());
                state.queue.put_back(ticket, after);
            }
            DeliveryState::Delivered => {
                count("delivered");
                let took = self.parts.clock.now().saturating_sub(after.notification.time);
                self.parts.metrics.notification_seconds.observe(took.max(0) as f64 / 1e3);
                tracing::info!(notifier = slot, id, attempts = after.attempts, "notified");
                state.queue.done(ticket, &after);
                self.parts.metrics.notifications_open.dec();
            }
            DeliveryState::Dead | DeliveryState::Dropped => {
                count("dead");
                tracing::error!(
                    notifier = slot,
                    id,
                    message,
                    attempts = after.attempts,
                    "a notification is given up and kept with the dead letters"
                );
                state.last_failure = Some(after.message.clone());
                state.queue.done(ticket, &after);
                self.parts.metrics.notifications_open.dec();
            }
        }
    }
}
