//! What was decided becomes durable, and only then counts.

use super::Evaluation;
use super::alerts::Decision;
use sentinel_alerting::routing::People;
use sentinel_model::ids::SlotName;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// After so many times its length the time to settle is over though the bus is not empty.
const SETTLE_FACTOR: i64 = 10;
/// How long the store is left alone after it refused what time alone made due, in milliseconds.
const AGAIN_MS: i64 = 1_000;

impl Evaluation {
    /// Whether all samples that are to be expected after the start are there.
    pub(super) fn is_settled(&self) -> bool {
        let since = self.parts.clock.now().saturating_sub(self.started);
        let settle = self.parts.settle.as_millis() as i64;
        since >= settle.saturating_mul(SETTLE_FACTOR)
            || since >= settle && self.parts.caught_up.load(Ordering::Relaxed)
    }

    /// Stores decisions, puts them in force and has them told. Where the store refuses,
    /// nothing was decided.
    pub(super) async fn commit(&mut self, decisions: Vec<Decision>) {
        for decision in decisions.iter().filter(|d| d.effects.ignored > 0) {
            let (rule, ignored) = (&decision.rule, decision.effects.ignored);
            let why = format!(
                "{ignored} of its instances were ignored: they have the same labels as another, or there are too many"
            );
            self.errors.insert(rule.clone(), why);
        }
        let everybody: Vec<SlotName> = self.parts.stages.load().notifiers.keys().cloned().collect();
        let now = self.parts.clock.now();
        let (mut change, told) = self.alerts.transaction(&decisions, everybody, now);
        let decided = change.decided.clone();
        let saved = match change.is_empty() {
            true => Ok(()),
            false => {
                change.evaluations = self.journal.take();
                self.parts.store.save_alerting(self.parts.term.sign(change)).await
            }
        };
        self.parts.term.heed(&saved);
        if let Err(error) = saved {
            self.parts.metrics.store_failures.inc();
            tracing::error!(%error, "alerts could not be stored; nobody is told, the next evaluation decides again");
            self.store_trouble = Some(error.to_string());
            self.is_stale = true;
            self.tell_again_at = now.saturating_add(AGAIN_MS);
            return;
        }
        self.store_trouble = None;
        self.tell_again_at = i64::MIN;
        self.alerts.accept(&decisions, told);
        self.parts.notifications.enqueue(decided);
    }

    /// Whether what is here is what is stored. Where a write failed nobody knows whether it was
    /// kept: then all of it is read again before anything more is decided, and the journal too.
    pub(super) async fn is_current(&mut self) -> bool {
        if !self.is_stale {
            return true;
        }
        let store = Arc::clone(&self.parts.store);
        let (alerts, groups) = match (store.alerts(0).await, store.alert_groups().await) {
            (Ok(alerts), Ok(groups)) => (alerts, groups),
            (Err(error), _) | (_, Err(error)) => {
                self.store_trouble = Some(error.to_string());
                return false;
            }
        };
        self.alerts.reload(self.parts.clock.now(), alerts, groups);
        self.parts.notifications.look_into_the_journal().await;
        self.is_stale = false;
        true
    }

    /// Tells what time alone made due: groups that waited, repeats, escalations.
    pub(super) async fn tell_what_is_due(&mut self) {
        let now = self.parts.clock.now();
        let is_due = self.is_active && now >= self.tell_again_at && self.alerts.is_due(now);
        if is_due && self.is_current().await {
            self.commit(Vec::new()).await;
        }
    }

    /// Takes what people decided since it was last read, and other routes.
    pub(super) async fn look_for_decisions(&mut self) {
        let now = self.parts.clock.now();
        let routing = self.parts.routing.load_full();
        if self.is_active && !self.is_stale && !self.alerts.is_routed_by(&routing) {
            tracing::info!("other routes are in force");
            self.alerts.set_routing(now, Arc::clone(&routing));
        }
        match self.parts.store.decisions(self.decisions).await {
            Ok(None) => {}
            Ok(Some(found)) => {
                // At the start the journal has just been read.
                let is_news = self.decisions.replace(found.revision).is_some();
                self.alerts.heed(now, People::new(found.silences, found.acknowledgements));
                if is_news {
                    self.parts.notifications.look_into_the_journal().await;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "silences and acknowledgements cannot be read; those known stay in force");
            }
        }
    }
}
