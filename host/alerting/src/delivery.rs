//! The delivery of one notification, from the decision to the receiver or the dead letters.
//!
//! | before | [`Begin`](Input::Begin) | [`NotSent`](Input::NotSent) | [`Answered`](Input::Answered) | [`Recovered`](Input::Recovered) |
//! |---|---|---|---|---|
//! | pending | sending, one attempt more | pending after a backoff, one attempt more | – | pending |
//! | sending | – | pending after a backoff | delivered: delivered; retry: pending after a backoff; permanent: dead; unknown: by policy | as unknown |
//! | delivered, dead, dropped | – | – | – | – |
//!
//! `–` changes nothing. *Pending after a backoff* is dead instead where the budget is used up:
//! [`MAX_ATTEMPTS`] attempts, or [`MAX_AGE_MS`] since it was opened. *By policy* is pending
//! after a backoff, marked as a possible repeat ([`OnUnknown::Retry`]), or dead
//! ([`OnUnknown::Hold`]), where a person decides.
//!
//! A person takes it from the dead letters: [`replay`] makes it pending with a budget of its own,
//! [`put_away`] makes it dropped. Whether it may be a repeat stays as it was.
//!
//! `sending` is stored before the notification leaves, so after a crash it is known which may
//! have arrived. Its id is the same at every attempt: a receiver that honours it sees it once.

use schemars::JsonSchema;
use sentinel_model::alert::{Delivery, DeliveryState, Notification};
use serde::{Deserialize, Serialize};

/// The most attempts at one notification.
pub const MAX_ATTEMPTS: u32 = 100;
/// How long after the decision it is tried again. The first attempt is made at any age.
pub const MAX_AGE_MS: i64 = 86_400_000;
/// The wait after the first failure; each further one doubles it.
pub const FIRST_BACKOFF_MS: i64 = 1_000;
/// The longest wait that backoff comes to.
pub const MAX_BACKOFF_MS: i64 = 600_000;
/// The longest wait that a receiver is granted with its Retry-After.
pub const MAX_RETRY_AFTER_MS: i64 = 3_600_000;
/// The most bytes of a message that are kept.
pub const MAX_MESSAGE: usize = 1024;

/// What is done when nobody knows whether the receiver took a notification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnUnknown {
    /// Send it again, marked as a possible repeat: better twice than never, and once where the
    /// receiver honours the id.
    #[default]
    Retry,
    /// Put it to the dead letters, for a person to decide.
    Hold,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took it.
    Delivered {
        /// What the receiver said.
        message: String,
    },
    /// Surely not taken.
    Retry {
        /// Why.
        message: String,
        /// The receiver's own wish.
        after_ms: Option<u64>,
    },
    /// It may have been taken.
    Unknown {
        /// Why it is not known.
        message: String,
    },
    /// It never will be taken.
    Permanent {
        /// Why.
        message: String,
    },
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An attempt begins: the result is stored before anything is sent.
    Begin,
    /// No attempt could be made: surely nothing left the house.
    NotSent {
        /// Why.
        message: String,
    },
    /// An attempt came to an end.
    Answered(Outcome),
    /// The worker starts again and finds the delivery as it is.
    Recovered,
}

/// A notification that was just decided.
#[must_use]
pub fn open(notification: Notification) -> Delivery {
    Delivery {
        next_attempt: notification.time,
        opened_at: notification.time,
        notification,
        state: DeliveryState::Pending,
        attempts: 0,
        may_be_repeat: false,
        message: String::new(),
    }
}

/// A dead letter to be sent again from `now`, with a whole new budget; `None` where it is none.
#[must_use]
pub fn replay(before: &Delivery, now: i64) -> Option<Delivery> {
    let again = || Delivery {
        state: DeliveryState::Pending,
        attempts: 0,
        next_attempt: now,
        opened_at: now,
        ..before.clone()
    };
    (before.state == DeliveryState::Dead).then(again)
}

/// A dead letter that is never to be sent, with who says so; `None` where it is none.
#[must_use]
pub fn put_away(before: &Delivery, by: &str) -> Option<Delivery> {
    let message = format!("dropped by {by}: {}", before.message);
    (before.state == DeliveryState::Dead).then(|| end(before, DeliveryState::Dropped, &message))
}

/// Whether a pending delivery is to be tried at `now`. A time that no wait can lead to comes
/// from a clock that was wrong: such a delivery is due.
#[must_use]
pub fn is_due(delivery: &Delivery, now: i64) -> bool {
    delivery.state == DeliveryState::Pending && wait(delivery, now) == 0
}

/// How long until a pending delivery is due, in milliseconds.
#[must_use]
pub fn wait(delivery: &Delivery, now: i64) -> i64 {
    let wait = delivery.next_attempt.saturating_sub(now);
    if wait > MAX_RETRY_AFTER_MS { 0 } else { wait.max(0) }
}

/// One step of a delivery at `now` (unix milliseconds). `jitter` is any number from 0 to 1: it
/// spreads the waits of many deliveries over half of each wait. `None` where nothing changes.
#[must_use]
pub fn step(
    before: &Delivery,
    now: i64,
    input: Input,
    on_unknown: OnUnknown,
    jitter: f64,
) -> Option<Delivery> {
    let again = |attempts, message: String, after_ms, may_be_repeat| {
        let retry = Retry { attempts, message, after_ms, may_be_repeat, jitter };
        Some(postpone(before, now, retry))
    };
    let unknown = |message: String| match on_unknown {
        OnUnknown::Retry => again(before.attempts, message, None, true),
        OnUnknown::Hold => {
            let message = format!("held, it may have been taken: {message}");
            Some(Delivery { may_be_repeat: true, ..end(before, DeliveryState::Dead, &message) })
        }
    };
    match (before.state, input) {
        (DeliveryState::Pending, Input::Begin) => Some(Delivery {
            state: DeliveryState::Sending,
            attempts: before.attempts.saturating_add(1),
            ..before.clone()
        }),
        (DeliveryState::Pending, Input::NotSent { message }) => {
            again(before.attempts.saturating_add(1), message, None, before.may_be_repeat)
        }
        (DeliveryState::Sending, Input::NotSent { message }) => {
            again(before.attempts, message, None, before.may_be_repeat)
        }
        (DeliveryState::Sending, Input::Answered(outcome)) => match outcome {
            Outcome::Delivered { message } => Some(end(before, DeliveryState::Delivered, &message)),
            Outcome::Retry { message, after_ms } => {
                again(before.attempts, message, after_ms, before.may_be_repeat)
            }
            Outcome::Permanent { message } => Some(end(before, DeliveryState::Dead, &message)),
            Outcome::Unknown { message } => unknown(message),
        },
        (DeliveryState::Sending, Input::Recovered) => {
            unknown("the worker stopped during the attempt".to_owned())
        }
        (DeliveryState::Pending, Input::Answered(_) | Input::Recovered)
        | (DeliveryState::Sending, Input::Begin)
        | (
            DeliveryState::Delivered | DeliveryState::Dead | DeliveryState::Dropped,
            Input::Begin | Input::NotSent { .. } | Input::Answered(_) | Input::Recovered,
        ) => None,
    }
}

/// The part of a message that is kept: at most [`MAX_MESSAGE`] bytes.
#[must_use]
pub fn cut(message: &str) -> String {
    let mut end = message.len().min(MAX_MESSAGE);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

fn end(before: &Delivery, state: DeliveryState, message: &str) -> Delivery {
    Delivery { state, message: cut(message), ..before.clone() }
}

struct Retry {
    attempts: u32,
    message: String,
    after_ms: Option<u64>,
    may_be_repeat: bool,
    jitter: f64,
}

fn postpone(before: &Delivery, now: i64, retry: Retry) -> Delivery {
    let age = now.saturating_sub(before.opened_at);
    let (attempts, may_be_repeat) = (retry.attempts, retry.may_be_repeat);
    if attempts >= MAX_ATTEMPTS || age >= MAX_AGE_MS {
        let hours = MAX_AGE_MS / 3_600_000;
        let message = format!(
            "given up after {attempts} attempts (the bounds are {MAX_ATTEMPTS} and {hours} h): {}",
            retry.message
        );
        let dead = end(before, DeliveryState::Dead, &message);
        return Delivery { attempts, may_be_repeat, ..dead };
    }
    let wish = retry.after_ms.map_or(0, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
    let wait = backoff(attempts, retry.jitter).max(wish.min(MAX_RETRY_AFTER_MS));
    Delivery {
        state: DeliveryState::Pending,
        attempts,
        may_be_repeat,
        next_attempt: now.saturating_add(wait),
        message: cut(&retry.message),
        ..before.clone()
    }
}

/// The wait after the `attempts`-th failure: between half of the doubling backoff and all of it.
fn backoff(attempts: u32, jitter: f64) -> i64 {
    let doublings = attempts.saturating_sub(1).min(20);
    let full = (FIRST_BACKOFF_MS << doublings).min(MAX_BACKOFF_MS);
    let jitter = if jitter.is_nan() { 1.0 } else { jitter.clamp(0.0, 1.0) };
    full / 2 + ((full - full / 2) as f64 * jitter) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_model::alert::NotificationStatus;
    use sentinel_model::ids::SlotName;
    use sentinel_model::series::Labels;

    fn delivery(state: DeliveryState, attempts: u32) -> Delivery {
        let notification = Notification {
            id: "ntf_1".into(),
            notifier: SlotName::new("pager").unwrap(),
            time: 1_000,
            status: NotificationStatus::Firing,
            group: Labels::default(),
            alerts: Vec::new(),
        };
        Delivery { state, attempts, ..open(notification) }
    }

    fn answered(outcome: Outcome) -> Input {
        Input::Answered(outcome)
    }

    #[test]
    fn the_table_of_the_module_is_what_happens() {
        use DeliveryState::{Dead, Delivered, Pending, Sending};
        let text = || "x".to_owned();
        let not_sent = || Input::NotSent { message: text() };
        let ok = || answered(Outcome::Delivered { message: text() });
        let retry = |after_ms| answered(Outcome::Retry { message: text(), after_ms });
        let unknown = || answered(Outcome::Unknown { message: text() });
        let permanent = || answered(Outcome::Permanent { message: text() });
        type Row =
            (DeliveryState, u32, i64, Input, OnUnknown, Option<(DeliveryState, u32, bool, i64)>);
        let (again, hold) = (OnUnknown::Retry, OnUnknown::Hold);
        let last = MAX_ATTEMPTS;
        let table: Vec<Row> = vec![
            (Pending, 0, 2_000, Input::Begin, again, Some((Sending, 1, false, 1_000))),
            (Pending, 0, 2_000, not_sent(), again, Some((Pending, 1, false, 3_000))),
            (Pending, last - 1, 2_000, not_sent(), again, Some((Dead, last, false, 1_000))),
            (Pending, 0, 2_000, ok(), again, None),
            (Pending, 0, 2_000, Input::Recovered, again, None),
            (Sending, 1, 2_000, Input::Begin, again, None),
            (Sending, 1, 2_000, not_sent(), again, Some((Pending, 1, false, 3_000))),
            (Sending, 1, 2_000, ok(), again, Some((Delivered, 1, false, 1_000))),
            (Sending, 1, 2_000, retry(None), again, Some((Pending, 1, false, 3_000))),
            (Sending, 3, 2_000, retry(None), again, Some((Pending, 3, false, 6_000))),
            (Sending, 1, 2_000, retry(Some(9_000)), again, Some((Pending, 1, false, 11_000))),
            (Sending, 1, 0, retry(Some(u64::MAX)), again, Some((Pending, 1, false, 3_600_000))),
            (Sending, last, 2_000, retry(None), again, Some((Dead, last, false, 1_000))),
            (Sending, 1, 1_000 + MAX_AGE_MS, retry(None), again, Some((Dead, 1, false, 1_000))),
            (Sending, 1, 2_000, permanent(), again, Some((Dead, 1, false, 1_000))),
            (Sending, 1, 2_000, unknown(), again, Some((Pending, 1, true, 3_000))),
            (Sending, 1, 2_000, unknown(), hold, Some((Dead, 1, true, 1_000))),
            (Sending, 1, 2_000, Input::Recovered, again, Some((Pending, 1, true, 3_000))),
            (Sending, 1, 2_000, Input::Recovered, hold, Some((Dead, 1, true, 1_000))),
            (Delivered, 1, 2_000, Input::Begin, again, None),
            (Delivered, 1, 2_000, Input::Recovered, again, None),
            (Dead, 1, 2_000, not_sent(), again, None),
            (Dead, 1, 2_000, ok(), again, None),
        ];
        for (i, (state, attempts, now, input, policy, expected)) in table.into_iter().enumerate() {
            let after = step(&delivery(state, attempts), now, input, policy, 1.0);
            let after = after.map(|d| (d.state, d.attempts, d.may_be_repeat, d.next_attempt));
            assert_eq!(after, expected, "row {i}");
        }
    }

    #[test]
    fn a_possible_repeat_stays_one() {
        let unknown = answered(Outcome::Unknown { message: String::new() });
        let sending = delivery(DeliveryState::Sending, 1);
        let pending = step(&sending, 0, unknown, OnUnknown::Retry, 0.5).unwrap();
        let sending = step(&pending, 9_000, Input::Begin, OnUnknown::Retry, 0.5).unwrap();
        let retry = answered(Outcome::Retry { message: String::new(), after_ms: None });
        let pending = step(&sending, 9_001, retry, OnUnknown::Retry, 0.5).unwrap();
        assert!(pending.may_be_repeat);
        assert_eq!(pending.notification.id, "ntf_1");
    }

    #[test]
    fn waits_double_with_jitter_up_to_a_bound() {
        for (attempts, shortest, longest) in
            [(1, 500, 1_000), (2, 1_000, 2_000), (5, 8_000, 16_000), (99, 300_000, MAX_BACKOFF_MS)]
        {
            assert_eq!((backoff(attempts, 0.0), backoff(attempts, 1.0)), (shortest, longest));
            assert_eq!(backoff(attempts, f64::NAN), longest);
            assert!((shortest..=longest).contains(&backoff(attempts, 0.3)));
        }
    }

    #[test]
    fn a_delivery_put_off_by_a_wrong_clock_is_due() {
        let mut one = delivery(DeliveryState::Pending, 1);
        one.next_attempt = 5_000;
        assert!(!is_due(&one, 4_999) && is_due(&one, 5_000) && is_due(&one, 6_000));
        assert!(is_due(&one, 5_000 - MAX_RETRY_AFTER_MS - 1));
        one.state = DeliveryState::Dead;
        assert!(!is_due(&one, 6_000));
    }

    #[test]
    fn a_dead_letter_is_sent_again_with_a_new_budget_or_put_away() {
        let now = 1_000 + 2 * MAX_AGE_MS;
        let held = Delivery { may_be_repeat: true, ..delivery(DeliveryState::Dead, MAX_ATTEMPTS) };
        let again = replay(&held, now).unwrap();
        assert!(is_due(&again, now) && again.may_be_repeat);
        assert_eq!((again.attempts, again.notification.id.as_str()), (0, "ntf_1"));
        let sending = step(&again, now, Input::Begin, OnUnknown::Retry, 0.0).unwrap();
        let retry = answered(Outcome::Retry { message: String::new(), after_ms: None });
        let pending = step(&sending, now, retry, OnUnknown::Retry, 0.0).unwrap();
        assert_eq!(pending.state, DeliveryState::Pending, "its age counts from the replay");
        let away = put_away(&held, "ann").unwrap();
        assert_eq!(
            (away.state, away.message.as_str()),
            (DeliveryState::Dropped, "dropped by ann: ")
        );
        for state in [DeliveryState::Pending, DeliveryState::Sending, DeliveryState::Delivered] {
            let other = delivery(state, 1);
            assert_eq!((replay(&other, now), put_away(&other, "ann")), (None, None));
        }
        assert_eq!(replay(&away, now), None, "what was dropped stays dropped");
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let message = "é".repeat(MAX_MESSAGE);
        let permanent = answered(Outcome::Permanent { message });
        let sending = delivery(DeliveryState::Sending, 1);
        let dead = step(&sending, 0, permanent, OnUnknown::Retry, 0.0).unwrap();
        assert_eq!(dead.message.len(), MAX_MESSAGE);
    }
}
