//! The first-party plugin sentinel/webhook: posts notifications as JSON to a URL.
//!
//! ```yaml
//! plugin: sentinel/webhook
//! config:
//!   url: https://example.com/hooks/{{secret:hook-token}}
//!   headers: { Authorization: "Bearer {{secret:hook-bearer}}" }
//!   secret: hook-key
//!   timeout: 10s
//! ```
//!
//! The request is a POST with the headers of [Standard Webhooks](https://www.standardwebhooks.com):
//!
//! * `webhook-id`: the notification's id, the same at every attempt and after every crash. A
//!   receiver that remembers it takes each notification once.
//! * `webhook-timestamp`: seconds since 1970 when this attempt was made.
//! * `webhook-signature`, where `secret` names a key: `v1,` and the base64 of HMAC-SHA256 over
//!   `id.timestamp.body`. The host signs; the plugin never sees the key.
//!
//! **The key.** Standard Webhooks hands secrets out as `whsec_` and base64. The host's key is the
//! bytes that the base64 stands for, so store these:
//! `printf %s "${SECRET#whsec_}" | base64 -d`. The key's name stands in `secret` here and under
//! `mac.keys` in the slot's grants.
//!
//! The body (`payload.schema.json` is its JSON Schema, [`payload_schema`] returns it):
//!
//! ```json
//! {
//!   "type": "sentinel.alerts.firing",
//!   "timestamp": "2026-11-21T00:31:25.042Z",
//!   "data": {
//!     "version": 1, "id": "0193...", "status": "firing",
//!     "group": {"agent": "web-1"},
//!     "alerts": [{
//!       "fingerprint": "9f86d081884c7d65", "rule": "disk-full", "status": "firing",
//!       "labels": {"agent": "web-1", "mountpoint": "/"},
//!       "annotations": {"summary": "..."}, "value": 0.93,
//!       "starts_at": "2026-11-21T00:31:20.000Z", "ends_at": null, "truncated": false
//!     }],
//!     "truncated_alerts": 0, "may_be_repeat": false, "link": "https://..."
//!   }
//! }
//! ```
//!
//! It never passes 256 KiB: a text longer than 2 KiB is cut, alerts beyond are counted in
//! `truncated_alerts`, and the notification goes out.
//!
//! With `format: alertmanager` the body is that of the webhook of Prometheus's Alertmanager,
//! version 4, under the same headers and bounds, so that what receives Alertmanager's receives
//! Sentinel's: `receiver` (what the config says), `groupKey` and `groupLabels` (the labels by
//! which the alerts were grouped), `commonLabels`, `commonAnnotations`, `truncatedAlerts`,
//! `externalURL` and `generatorURL` (the notification's link), and for each alert `labels` with
//! its rule as `alertname`.
//!
//! What each answer means for the delivery stands in the table of [`sentinel_sdk::notify`]'s
//! receivers: 2xx is done; 408, 425, 429 and 5xx are tried again, after `Retry-After`; what is
//! surely not sent too; every other status is for good; what may have arrived is unknown.
//! Messages name the URL's origin only: its path and query may be secrets, and are masked where
//! a receiver repeats them.

mod alertmanager;
mod config;
mod payload;
mod signature;

use sentinel_sdk::http::Request;
use sentinel_sdk::mac::MacError;
use sentinel_sdk::{
    DeliveryError, Diagnostic, Notification, Notifier, Receipt, Retry, clock, export_notifier,
};

use config::Target;
pub use config::{Config, Format};
pub use payload::{Payload, payload_schema};

/// The notifier.
#[derive(Debug)]
pub struct Webhook {
    target: Target,
}

impl Notifier for Webhook {
    type Config = Config;

    fn configure(config: Config) -> Result<Self, Vec<Diagnostic>> {
        Target::of(config).map(|target| Self { target })
    }

    fn notify(&mut self, notification: Notification) -> Result<Receipt, DeliveryError> {
        let target = &self.target;
        let body = match &target.alertmanager {
            None => payload::body(&notification),
            Some(receiver) => alertmanager::body(&notification, receiver),
        };
        let timestamp = clock::now().div_euclid(1_000);
        let signature = match &target.secret {
            None => None,
            Some(key) => Some(
                signature::of(key, &notification.id, timestamp, &body)
                    .map_err(|error| unsigned(key, &error))?,
            ),
        };
        let mut request = Request::post(&target.url, body)
            .header("content-type", "application/json")
            .header("webhook-id", &notification.id)
            .header("webhook-timestamp", timestamp.to_string());
        if let Some(signature) = signature {
            request = request.header("webhook-signature", signature);
        }
        request.headers.extend(target.headers.iter().cloned());
        let response = target.receiver.send(request)?;
        Ok(target.receiver.receipt(&response, None))
    }
}

/// Why nothing was sent: without its signature a receiver would have to refuse it. An operator
/// can mend it while the alert waits, so it is tried again.
fn unsigned(key: &str, error: &MacError) -> DeliveryError {
    let message = match error {
        MacError::Denied => format!(
            "not sent: the key {key:?} is not granted to this slot; name it under `mac.keys` of \
             its grants"
        ),
        MacError::NotFound => format!(
            "not sent: the host has no key {key:?}; store it with `sentinel secret set`, or \
             take `secret` out of the config"
        ),
    };
    DeliveryError::Retry(Retry { message, after_ms: None })
}

export_notifier!(Webhook);

#[cfg(test)]
mod tests;
