//! What a host does with a notification, as far as a notifier sees it: again and again under
//! one id, marked as a possible repeat once nobody knows whether it arrived, and what a failed
//! call wrote to `kv` forgotten.

use sentinel_sdk::testing::Installed;
use sentinel_sdk::{DeliveryError, Notification, Notifier, Receipt};

/// Attempts after which a test is told that a notification never arrives.
const MAX_ATTEMPTS: u32 = 200;

/// What came of a notification.
#[derive(Debug)]
pub struct Delivered {
    /// What the last attempt said, or why it was never taken.
    pub last: Result<Receipt, String>,
    /// How many attempts were made.
    pub attempts: u32,
    /// Whether an attempt may have arrived without anybody knowing.
    pub in_doubt: bool,
    /// The longest wish to wait, in milliseconds.
    pub longest_wish: u64,
}

/// Delivers one notification as the host does.
///
/// # Panics
/// Where it is still not delivered after two hundred attempts.
pub fn deliver(
    host: &Installed,
    notifier: &mut impl Notifier,
    notification: &Notification,
) -> Delivered {
    let mut told = notification.clone();
    let mut longest_wish = 0;
    for attempt in 1..=MAX_ATTEMPTS {
        told.attempt = attempt;
        let last = match host.call(|| notifier.notify(told.clone())) {
            Ok(receipt) => Ok(receipt),
            Err(DeliveryError::Permanent(why)) => Err(why),
            Err(DeliveryError::Retry(retry)) => {
                longest_wish = longest_wish.max(retry.after_ms.unwrap_or(0));
                continue;
            }
            Err(DeliveryError::Unknown(_)) => {
                told.may_be_repeat = true;
                continue;
            }
        };
        let in_doubt = told.may_be_repeat;
        return Delivered { last, attempts: attempt, in_doubt, longest_wish };
    }
    panic!("{} was not delivered in {MAX_ATTEMPTS} attempts", notification.id)
}
