//! The connection to NATS.

use std::time::Duration;

use async_nats::jetstream::{Context, ContextBuilder};
use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::mpsc;

use super::message::MAX_OVERHEAD_BYTES;
use super::options::JetStreamOptions;
use super::{ANSWER, MAX_PUBLISHING, MAX_RECONNECT_WAIT, failed, whole};
use crate::{BusError, MAX_PAYLOAD_BYTES};

/// How long NATS may take to let this process in.
const CONNECT: Duration = Duration::from_secs(5);
/// How often the connection is tried; one that does not answer twice is given up.
const PING: Duration = Duration::from_secs(5);
/// The wait before the second attempt to reach NATS; doubled with each further one.
const FIRST_RECONNECT_WAIT: Duration = Duration::from_millis(50);

/// Connects, once. From then on the connection is made again whenever it is lost; `events` hears of each time.
pub(super) async fn connect(
    options: &JetStreamOptions,
    events: mpsc::Sender<()>,
) -> Result<(Client, Context), BusError> {
    let address = &options.address;
    let cannot = |cause: String| failed("connect to NATS", format!("{address}: {cause}"));
    let mut connection = ConnectOptions::new()
        .name("sentinel")
        .connection_timeout(CONNECT)
        .ping_interval(PING)
        .request_timeout(Some(ANSWER))
        .require_tls(address.requires_tls() || options.ca.is_some())
        .reconnect_delay_callback(reconnect_wait)
        .event_callback(move |event| {
            let events = events.clone();
            async move { heard(&event, &events) }
        });
    if let Some(login) = address.login() {
        connection = connection.user_and_password(login.user.clone(), login.password.clone());
    }
    if let Some(ca) = &options.ca {
        connection = connection.add_root_certificates(ca.clone());
    }
    if let Some(file) = &options.credentials {
        let read = connection.credentials_file(file).await;
        connection = read.map_err(|e| cannot(format!("credentials {}: {e}", file.display())))?;
    }
    let client = connection.connect(address.servers().to_vec()).await;
    let client = client.map_err(|error| cannot(whole(&error)))?;
    if !client.is_server_compatible(2, 10, 0) {
        let version = client.server_info().version;
        return Err(cannot(format!("it is version {version}; Sentinel needs 2.10 or newer")));
    }
    let (max, needed) = (client.server_info().max_payload, MAX_PAYLOAD_BYTES + MAX_OVERHEAD_BYTES);
    if max < needed {
        return Err(cannot(format!(
            "it takes messages up to {max} bytes, and Sentinel's have up to {needed}: set max_payload: 8MB in its configuration"
        )));
    }
    let context = ContextBuilder::new()
        .timeout(ANSWER)
        .max_ack_inflight(MAX_PUBLISHING)
        .backpressure_on_inflight(false)
        .build(client.clone());
    Ok((client, context))
}

fn reconnect_wait(attempts: usize) -> Duration {
    let doubled = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(10);
    (FIRST_RECONNECT_WAIT * 2_u32.pow(doubled)).min(MAX_RECONNECT_WAIT)
}

fn heard(event: &Event, events: &mpsc::Sender<()>) {
    match event {
        Event::Connected => {
            tracing::info!("connected to NATS");
            // One that waits already tells the same.
            let _ = events.try_send(());
        }
        Event::Disconnected => {
            tracing::warn!(
                "the connection to NATS is lost; it is made again as soon as NATS answers"
            );
        }
        // Each attempt to connect again that fails is one; the loss was said.
        Event::ClientError(error) => tracing::debug!(%error, "NATS"),
        other => tracing::info!(event = %other, "NATS"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_between_attempts_grow_up_to_a_bound() {
        let waits = [0, 1, 2, 3, 6, 7, 1000].map(|n| reconnect_wait(n).as_millis());
        assert_eq!(waits, [50, 50, 100, 200, 1600, 2000, 2000]);
    }
}
