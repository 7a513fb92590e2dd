//! A real nats-server, and who uses it.

use std::time::Duration;

use async_nats::jetstream as js;
use sentinel_bus::jetstream::{JetStreamBus, JetStreamOptions};
use sentinel_bus::{Bus, Incarnation};
use sentinel_test_services::{Nats, Services};

use crate::contract::message;

/// No test waits longer for anything; NATS hands out again what got lost long before.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A nats-server of its own.
pub struct Rig {
    pub nats: Nats,
    _folder: tempfile::TempDir,
}

impl Rig {
    pub fn start() -> Rig {
        Rig::with("", "")
    }

    pub fn with(top: &str, jetstream: &str) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let nats =
            Nats::with(&Services::here().unwrap(), &folder.path().join("nats"), top, jetstream)
                .unwrap();
        Rig { nats, _folder: folder }
    }

    pub fn options(&self) -> JetStreamOptions {
        options(&self.nats.url())
    }

    pub async fn bus(&self) -> JetStreamBus {
        JetStreamBus::connect(self.options()).await.unwrap()
    }

    /// A client of its own, for what an operator does.
    pub async fn operator(&self) -> js::Context {
        js::new(async_nats::connect(self.nats.url()).await.unwrap())
    }
}

/// A small stream at an address.
pub fn options(url: &str) -> JetStreamOptions {
    let mut options = JetStreamOptions::new(url.parse().unwrap());
    options.stream.partitions = 4;
    options.stream.max_bytes = 64 << 20;
    options
}

/// Waits until something is so.
pub async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"));
}

pub async fn until_another_incarnation(bus: &JetStreamBus, before: Incarnation) -> Incarnation {
    until("another incarnation", async || bus.incarnation() != before).await;
    bus.incarnation()
}

/// Publishes as agents do: again until it is taken.
pub async fn publish_in_the_end(
    bus: &JetStreamBus,
    agent: &str,
    seqs: std::ops::RangeInclusive<u64>,
) {
    for seq in seqs {
        until("it is published", async || bus.publish(message(agent, seq)).await.is_ok()).await;
    }
}
