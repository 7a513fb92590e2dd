//! The attempts at one notification, as a worker makes them, in the time of a play.

use super::{Attempted, Play, Told};
use sentinel_alerting::delivery::{self, Input, Outcome};
use sentinel_model::alert::Delivery;
use sentinel_runtime::Slot;
use sentinel_runtime::notifier::NotifyError;

impl Play<'_> {
    /// Tells somebody, as often as a worker would try within the play where it is said what the
    /// receiver answers in turn, else once.
    pub(super) async fn tell(&self, delivery: Delivery) -> Told {
        let mut told = Told { delivery, sent: Vec::new(), failure: None, attempts: Vec::new() };
        let Some(slot) = self.rig.notifiers.get(&told.delivery.notification.notifier) else {
            return told;
        };
        let again = self.rig.world.answers_in_turn(slot.name());
        let policy = self.rig.on_unknown.get(slot.name()).copied().unwrap_or_default();
        self.rig.world.turn_to(slot.name());
        let mut now = self.now;
        // The longest waits: a play is the same each time.
        let step = |before: &Delivery, now, input| delivery::step(before, now, input, policy, 1.0);
        while let Some(begun) = step(&told.delivery, now, Input::Begin) {
            let (after, failure) = self.attempt(slot, &begun, now).await;
            let sent = self.rig.world.take_sent();
            told.sent.extend(sent.iter().cloned());
            told.failure.clone_from(&failure);
            told.attempts.push(Attempted { at: now, sent, failure });
            if !again {
                break;
            }
            let Some(after) = step(&begun, now, after) else { break };
            now = after.next_attempt;
            told.delivery = after;
            if now > self.until {
                break;
            }
        }
        self.rig.world.set_now(self.now);
        told
    }

    /// One attempt: what came of it, and why it failed.
    async fn attempt(&self, slot: &Slot, begun: &Delivery, now: i64) -> (Input, Option<String>) {
        self.rig.world.set_now(now);
        let Delivery { notification, attempts, may_be_repeat, .. } = begun;
        let error = match slot.notify(notification, *attempts, *may_be_repeat, "").await {
            Ok(receipt) => {
                self.rig.world.keep(slot.name(), receipt.kv);
                let message = receipt.message;
                return (Input::Answered(Outcome::Delivered { message }), None);
            }
            Err(error) => error,
        };
        let said = error.to_string();
        let message = said.clone();
        match error {
            NotifyError::Retry { after_ms, .. } => {
                let said = format!("to be tried again: {said}");
                (Input::Answered(Outcome::Retry { message, after_ms }), Some(said))
            }
            NotifyError::Permanent(_) => {
                (Input::Answered(Outcome::Permanent { message }), Some(said))
            }
            NotifyError::Call(error) if !error.was_called() => {
                (Input::NotSent { message }, Some(said))
            }
            NotifyError::Unknown(_) | NotifyError::Call(_) => {
                (Input::Answered(Outcome::Unknown { message }), Some(said))
            }
        }
    }
}
