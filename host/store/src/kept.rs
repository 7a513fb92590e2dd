//! How alerts, transitions and notifications are kept, in every engine.
//!
//! They are kept as JSON. JSON has no NaN or infinity, and reading a number back may be off in
//! its last bit, so the bits of each value stand beside it.

use crate::StoreError;
use crate::tail::TailPosition;
use crate::windows::{MAX_PART_BYTES, WindowPart};
use sentinel_model::alert::{Alert, DeliveryState, Notification, Transition};
use sentinel_model::ids::SlotName;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Rule sets kept, the one in force included.
pub(crate) const RULE_VERSIONS: i64 = 100;
#[derive(Serialize, Deserialize)]
struct Kept<T> {
    what: T,
    /// The bits of its values, in order.
    bits: Vec<u64>,
}

/// What has values of which every bit matters.
pub(crate) trait Values {
    fn values(&mut self) -> Vec<&mut f64>;
}

impl Values for Alert {
    fn values(&mut self) -> Vec<&mut f64> {
        vec![&mut self.value]
    }
}

impl Values for Transition {
    fn values(&mut self) -> Vec<&mut f64> {
        vec![&mut self.value]
    }
}

impl Values for Notification {
    fn values(&mut self) -> Vec<&mut f64> {
        self.alerts.iter_mut().map(|a| &mut a.value).collect()
    }
}

pub(crate) fn keep<T: Values + Serialize>(mut what: T) -> Result<String, StoreError> {
    let mut bits = Vec::new();
    for value in what.values() {
        bits.push(value.to_bits());
        if !value.is_finite() {
            *value = 0.0;
        }
    }
    Ok(serde_json::to_string(&Kept { what, bits })?)
}

pub(crate) fn kept<T: Values + DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    let Kept { mut what, bits }: Kept<T> = serde_json::from_str(text)?;
    for (value, bits) in what.values().into_iter().zip(bits) {
        *value = f64::from_bits(bits);
    }
    Ok(what)
}

pub(crate) fn state_text(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Sending => "sending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Dead => "dead",
        DeliveryState::Dropped => "dropped",
    }
}

/// What [`state_text`] wrote.
pub(crate) fn state_of(text: &str) -> Result<DeliveryState, StoreError> {
    Ok(match text {
        "pending" => DeliveryState::Pending,
        "sending" => DeliveryState::Sending,
        "delivered" => DeliveryState::Delivered,
        "dead" => DeliveryState::Dead,
        "dropped" => DeliveryState::Dropped,
        other => {
            return Err(StoreError::Damaged { what: format!("a notification is {other:?}") });
        }
    })
}

/// A position of the tail as it was kept.
pub(crate) fn position_of(text: &str) -> Result<TailPosition, StoreError> {
    let what = || StoreError::Damaged { what: format!("{text:?} as a position of the tail") };
    TailPosition::from_text(text).ok_or_else(what)
}

/// A slot's name as it was kept.
pub(crate) fn slot_of(text: &str) -> Result<SlotName, StoreError> {
    SlotName::new(text).map_err(|e| StoreError::Damaged { what: format!("a slot's name: {e}") })
}

/// Whether parts of windows are as small as they have to be.
pub(crate) fn fits(parts: &[WindowPart]) -> Result<(), StoreError> {
    match parts.iter().map(|part| part.data.len()).max() {
        Some(found) if found > MAX_PART_BYTES => Err(StoreError::TooMuch {
            what: "bytes of a part of windows",
            found: found as u64,
            max: MAX_PART_BYTES as u64,
        }),
        Some(_) | None => Ok(()),
    }
}
