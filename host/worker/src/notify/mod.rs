//! Delivering notifications: the journal in the store is the queue, this is its working set.
//!
//! Each notifier slot has a lane with a task of its own, so that a target that is slow or down
//! delays no other. An attempt is stored as begun before the notifier is called, and its
//! outcome is stored before the next step: after a crash the journal says which notifications
//! may have arrived, and they are sent again with the same id.
//!
//! A lane holds at most [`MAX_QUEUED`] deliveries. What is beyond stays in the journal, with all
//! that is decided after it, and is read from there when there is room.

mod queue;

pub use queue::MAX_QUEUED;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::patience::Patience;
use crate::stages::{Attempt, Stages};
use arc_swap::ArcSwap;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use queue::{Queue, Ticket};
use sentinel_alerting::delivery::{self, Input, OnUnknown};
use sentinel_model::alert::{Delivery, DeliveryState};
use sentinel_model::ids::SlotName;
use sentinel_store::Store;
use sentinel_store::alerting::{AlertingChange, NotificationFilter};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
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
}

struct LaneState {
    queue: Queue,
    /// The journal has more than fits. Until all of it is here, what is new stays there too: it
    /// must not pass what tells of the same alert and came before.
    overflown: bool,
    /// Something new stayed in the journal since it was last read.
    left: bool,
    last_failure: Option<String>,
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

    /// Tells the lanes that there may be other notifiers.
    pub fn notifiers_changed(&self) {
        self.0.lanes.lock().values().for_each(|(lane, _)| lane.wake.notify_one());
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
                self.save(recovered).await;
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

    async fn save(&self, delivery: &Delivery) {
        let change =
            || AlertingChange { delivered: vec![delivery.clone()], ..AlertingChange::default() };
        self.patience.until(|| self.parts.store.save_alerting(change())).await;
    }

    /// Makes one attempt and stores what came of it.
    async fn attempt(&self, before: Delivery) -> Delivery {
        let slot = &before.notification.notifier;
        let stage = self.parts.stages.load().notifiers.get(slot).cloned();
        let now = || self.parts.clock.now();
        let Some(stage) = stage else {
            let message = format!("there is no notifier slot {:?}; configure it", slot.as_str());
            return self.step(before, now(), Input::NotSent { message }, OnUnknown::Retry).await;
        };
        let sending = self.step(before, now(), Input::Begin, stage.on_unknown).await;
        let (notification, repeat) = (&sending.notification, sending.may_be_repeat);
        let input = match stage.notifier.notify(notification, sending.attempts, repeat).await {
            Attempt::NotMade(message) => Input::NotSent { message },
            Attempt::Made(outcome) => Input::Answered(outcome),
        };
        self.step(sending, now(), input, stage.on_unknown).await
    }

    async fn step(&self, before: Delivery, now: i64, input: Input, policy: OnUnknown) -> Delivery {
        match delivery::step(&before, now, input, policy, rand::random()) {
            Some(after) => {
                self.save(&after).await;
                after
            }
            None => before,
        }
    }

    fn settle(&self, lane: &Lane, ticket: Ticket, after: Delivery) {
        let slot = lane.slot.as_str();
        let count = |outcome| {
            self.parts.metrics.notifications.with_label_values(&[slot, outcome]).inc();
        };
        let (id, message) = (&after.notification.id, &after.message);
        let mut state = lane.state.lock();
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

/// Delivers what is in a lane until stop, then waits for the attempts under way.
async fn run(shared: Arc<Shared>, lane: Arc<Lane>) {
    let mut stop = shared.stop.clone();
    let mut in_flight = FuturesUnordered::new();
    let mut sleep_from_now = MAX_SLEEP_MS;
    loop {
        let stopping = *stop.borrow();
        if stopping && in_flight.is_empty() {
            return;
        }
        if !stopping {
            let now = shared.parts.clock.now();
            let mut state = lane.state.lock();
            while in_flight.len() < SENDS_AT_ONCE
                && let Some((ticket, delivery)) = state.queue.take(now)
            {
                let shared = &shared;
                in_flight.push(async move { (ticket, shared.attempt(delivery).await) });
            }
            sleep_from_now = state.queue.next_due(now).unwrap_or(MAX_SLEEP_MS);
        }
        let room = in_flight.len() < SENDS_AT_ONCE && !stopping;
        let sleep = Duration::from_millis(sleep_from_now.clamp(1, MAX_SLEEP_MS) as u64);
        tokio::select! {
            Some((ticket, after)) = in_flight.next() => shared.settle(&lane, ticket, after),
            _ = stop.changed(), if !stopping => {}
            () = lane.wake.notified() => {}
            () = tokio::time::sleep(sleep), if room => {}
        }
        if !stopping {
            refill(&shared, &lane).await;
        }
    }
}

/// Reads from the journal what did not fit, once there is room. Only while nothing of this lane
/// is being sent: then nobody changes its part of the journal.
async fn refill(shared: &Shared, lane: &Lane) {
    let is_due = |state: &LaneState| {
        state.overflown && !state.queue.is_sending() && state.queue.len() <= shared.parts.queued / 2
    };
    {
        let mut state = lane.state.lock();
        if !is_due(&state) {
            return;
        }
        // Before reading: what is left in the journal from now on may not be read.
        state.left = false;
    }
    let (open, more) = shared.journal(&lane.slot).await;
    let open = shared.recover(open).await;
    let mut state = lane.state.lock();
    state.overflown = more || state.left;
    let before = state.queue.len();
    for delivery in open {
        if !state.queue.push(delivery) {
            state.overflown = true;
        }
    }
    shared.parts.metrics.notifications_open.add((state.queue.len() - before) as i64);
}
