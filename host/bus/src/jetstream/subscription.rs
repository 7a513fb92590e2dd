//! What NATS handed out: kept in memory until it is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::keeper::Life;
use super::share::Share;
use super::{ACK_WAIT, Shared, failed, whole};
use crate::ledger::{Index, Ledger};
use crate::{Answer, BusError, Delivery, Message, REDELIVERY_DELAY, Subscription};

/// What NATS is told of a message that is being worked at.
const IN_PROGRESS: &[u8] = b"+WPI";

/// Where a message lies in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    pub(super) partition: u16,
    pub(super) sequence: u64,
}

/// What was handed out by NATS and is not answered.
#[derive(Default)]
pub(super) struct Inbox {
    held: Mutex<Held>,
    /// Something came, or was answered.
    changed: Notify,
}

#[derive(Default)]
struct Held {
    ledger: Ledger<(Place, Subject)>,
    open: HashMap<Place, Index>,
}

impl Inbox {
    /// A message came, which NATS had handed out so often before. One that is here already is not entered again.
    pub(super) fn enter(&self, place: Place, reply: Subject, message: Message, before: u32) {
        let mut held = self.held.lock();
        if !held.open.contains_key(&place) {
            let index = held.ledger.add((place, reply), message, before, Instant::now());
            held.open.insert(place, index);
        }
        drop(held);
        self.changed.notify_waiters();
    }

    /// Whether a message is here and not answered.
    pub(super) fn has(&self, place: Place) -> bool {
        self.held.lock().open.contains_key(&place)
    }

    /// Waits until a message is answered.
    pub(super) async fn answered(&self, place: Place) {
        self.until(|held| !held.open.contains_key(&place)).await;
    }

    /// Waits until there is room for more.
    pub(super) async fn room(&self) {
        self.until(|held| !held.ledger.full()).await;
    }

    async fn until(&self, is: impl Fn(&Held) -> bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if is(&self.held.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// What is not handed out of a partition is not to be; NATS keeps it.
    pub(super) fn forget_waiting(&self, partition: u16) {
        let mut held = self.held.lock();
        for (place, _) in held.ledger.forget_waiting(|(place, _)| place.partition == partition) {
            held.open.remove(&place);
        }
        drop(held);
        self.changed.notify_waiters();
    }

    /// Whether something of a partition is handed out and not answered.
    pub(super) fn has_any(&self, partition: u16) -> bool {
        self.held.lock().open.keys().any(|place| place.partition == partition)
    }

    fn forget_all(&self) {
        let mut held = self.held.lock();
        held.ledger.forget_all();
        held.open.clear();
        drop(held);
        self.changed.notify_waiters();
    }

    /// Done with: where NATS is told, unless it is not to be told any more.
    fn ack(&self, index: Index) -> Option<Subject> {
        let mut held = self.held.lock();
        let (place, reply) = held.ledger.place(index).cloned()?;
        let finished = held.ledger.ack(index).finished;
        held.open.remove(&place);
        drop(held);
        self.changed.notify_waiters();
        finished.map(|_| reply)
    }

    fn nak(&self, index: Index, delivery: u32, delay: Duration) {
        self.held.lock().ledger.nak(index, delivery, Instant::now() + delay);
        self.changed.notify_waiters();
    }

    /// Where NATS is told of what is not answered.
    fn open(&self) -> Vec<Subject> {
        let held = self.held.lock();
        let reply = |index: &Index| held.ledger.place(*index).map(|(_, reply)| reply.clone());
        held.open.values().filter_map(reply).collect()
    }
}

pub(super) struct JetStreamSubscription {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    pulling: AbortHandle,
    progress: AbortHandle,
    _held: OwnedMutexGuard<()>,
}

impl JetStreamSubscription {
    pub(super) fn begin(shared: Arc<Shared>, held: OwnedMutexGuard<()>) -> JetStreamSubscription {
        let inbox = Arc::new(Inbox::default());
        let pulling = tokio::spawn(pull(Arc::clone(&shared), Arc::clone(&inbox))).abort_handle();
        let progress = tokio::spawn(tell(Arc::clone(&shared), Arc::clone(&inbox))).abort_handle();
        JetStreamSubscription { shared, inbox, pulling, progress, _held: held }
    }

    fn ready(&self, max: usize) -> Vec<Delivery> {
        let mut held = self.inbox.held.lock();
        let mut out = Vec::new();
        while out.len() < max {
            let Some((index, message, deliveries)) = held.ledger.take(Instant::now()) else {
                break;
            };
            let (shared, inbox) = (Arc::clone(&self.shared), Arc::clone(&self.inbox));
            let answer = JetStreamAnswer { shared, inbox, index, deliveries, answered: false };
            out.push(Delivery::new(message, deliveries, Box::new(answer)));
        }
        out
    }
}

/// Pulls this subscription's share of the partitions, in each life of the stream anew.
async fn pull(shared: Arc<Shared>, inbox: Arc<Inbox>) {
    // Until whoever pulled before has given back what it had, and given up after all that this one has.
    let _alone = Arc::clone(&shared.pulling).lock_owned().await;
    let mut lives = shared.keeper.lives();
    let mut before: Option<Life> = None;
    let mut share = Share::new(Arc::clone(&shared), Arc::clone(&inbox));
    loop {
        let now = *lives.borrow_and_update();
        if shared.alive().is_err() {
            return;
        }
        let changed = if let Some(life) = now {
            if before.is_some_and(|before| before.mark != life.mark) {
                inbox.forget_all();
            }
            before = now;
            share.begin(life).await;
            tokio::select! {
                changed = lives.changed() => changed,
                () = share.keep(life) => return,
            }
        } else {
            share.pause().await;
            lives.changed().await
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Tells NATS of what is being worked at.
async fn tell(shared: Arc<Shared>, inbox: Arc<Inbox>) {
    loop {
        tokio::time::sleep(ACK_WAIT / 3).await;
        if shared.connected("tell of progress").is_err() {
            continue;
        }
        for reply in inbox.open() {
            // A word that is lost is said again; if none comes through, the message comes again.
            let _ = shared.client.publish(reply, Bytes::from_static(IN_PROGRESS)).await;
        }
    }
}

#[async_trait]
impl Subscription for JetStreamSubscription {
    async fn next_many(&mut self, max: usize) -> Result<Vec<Delivery>, BusError> {
        let mut lives = self.shared.keeper.lives();
        loop {
            let changed = self.inbox.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            lives.mark_unchanged();
            self.shared.alive()?;
            let ready = self.ready(max.max(1));
            if !ready.is_empty() {
                return Ok(ready);
            }
            let due = self.inbox.held.lock().ledger.next_due();
            let timer = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = timer => {}
                _ = lives.changed() => {}
            }
        }
    }
}

impl Drop for JetStreamSubscription {
    fn drop(&mut self) {
        self.pulling.abort();
        self.progress.abort();
    }
}

struct JetStreamAnswer {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    index: Index,
    deliveries: u32,
    answered: bool,
}

#[async_trait]
impl Answer for JetStreamAnswer {
    async fn ack(&mut self) -> Result<(), BusError> {
        self.answered = true;
        let Some(reply) = self.inbox.ack(self.index) else { return self.shared.alive() };
        self.shared.alive()?;
        let told = self.shared.client.publish(reply, Bytes::new()).await;
        told.map_err(|error| failed("acknowledge", whole(&error)))
    }

    async fn nak(&mut self, delay: Duration) -> Result<(), BusError> {
        self.answered = true;
        self.inbox.nak(self.index, self.deliveries, delay);
        self.shared.alive()
    }
}

impl Drop for JetStreamAnswer {
    fn drop(&mut self) {
        if !self.answered {
            self.inbox.nak(self.index, self.deliveries, REDELIVERY_DELAY);
        }
    }
}
