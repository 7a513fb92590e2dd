//! What is kept of each attempt at a notification.

use sentinel_alerting::delivery::{self, Input, Outcome};
use sentinel_model::alert::Delivery;
use sentinel_model::attention::Attempt as Made;

/// How an attempt ended, in the words of its record.
pub(super) fn said(input: &Input) -> (&'static str, String) {
    let (outcome, message) = match input {
        Input::NotSent { message } => ("not-sent", message.clone()),
        Input::Answered(Outcome::Delivered { message }) => ("delivered", message.clone()),
        Input::Answered(Outcome::Retry { message, .. }) => ("retry", message.clone()),
        Input::Answered(Outcome::Unknown { message }) => ("unknown", message.clone()),
        Input::Answered(Outcome::Permanent { message }) => ("permanent", message.clone()),
        Input::Begin | Input::Recovered => {
            ("unknown", "the worker stopped during the attempt".to_owned())
        }
    };
    (outcome, delivery::cut(&message))
}

/// The record of an attempt that ended.
pub(super) fn made(
    after: &Delivery,
    may_be_repeat: bool,
    began: i64,
    ended: i64,
    (outcome, message): (&'static str, String),
) -> Made {
    Made {
        number: after.attempts,
        at: began,
        took_ms: ended.saturating_sub(began).max(0).unsigned_abs(),
        outcome: outcome.to_owned(),
        message,
        may_be_repeat,
    }
}
