//! A notifier replaced while it delivers, with the plugin that is shipped.

mod support;

use async_trait::async_trait;
use parking_lot::Mutex;
use prometheus::Registry;
use sentinel_model::alert::{Delivery, DeliveryState};
use sentinel_registry_client::{PluginSource, SourceError};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use sentinel_store::Store as _;
use sentinel_store::alerting::{AlertingChange, NotificationFilter};
use sentinel_trust::repository::PluginRange;
use sentinel_trust::{
    Digest, PluginName, PublisherKey, TrustPolicy, Unverified, VerifiedComponent, embed, sign,
    verify,
};
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::notify::SENDS_AT_ONCE;
use sentinel_worker::{Worker, WorkerOptions, WorkerParts};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use support::{Rig, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

sentinel_runtime::compile_child_hook!();

/// More than are sent at once, before and after the swap.
const NOTIFICATIONS: u64 = 3 * SENDS_AT_ONCE as u64;
/// What the lane holds in the tests.
const QUEUED: usize = 2 * NOTIFICATIONS as usize;
/// More than that: the rest waits in the journal.
const MANY: u64 = 4 * QUEUED as u64;
/// How often the notifier is replaced while they are sent.
const SWAPS: u64 = 2;

/// The built webhook, as a release with this patch number.
fn webhook(patch: u64) -> Arc<VerifiedComponent> {
    let folder = std::env::var_os("SENTINEL_PLUGINS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins"),
        PathBuf::from,
    );
    let path = folder.join("webhook.wasm");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; build the plugins with `cargo xtask components`", path.display())
    });
    let mut manifest = Unverified::read(&bytes).unwrap().manifest().clone();
    manifest.version.patch = patch;
    let bytes = embed(&bytes, &manifest).unwrap();
    let signatures = sign(&bytes, &key(), None).unwrap();
    let policy = TrustPolicy::trusting("sentinel".parse().unwrap(), key().public());
    Arc::new(verify(bytes.into(), signatures.to_json().as_bytes(), &policy).unwrap())
}

/// What is installed now.
struct Installed(Mutex<Arc<VerifiedComponent>>);

#[async_trait]
impl PluginSource for Installed {
    async fn resolve(&self, _: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        Ok(Arc::clone(&self.0.lock()))
    }

    async fn fetch(
        &self,
        _: &PluginName,
        _: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        Ok(Arc::clone(&self.0.lock()))
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        Ok(Arc::new(TrustPolicy::trusting("sentinel".parse().unwrap(), key().public())))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// The key that signs what the test installs.
fn key() -> PublisherKey {
    PublisherKey::from_secret("sentinel".parse().unwrap(), &[7; 32])
}

/// Takes webhooks, and answers each once the gate lets it through.
#[derive(Clone)]
struct Receiver {
    ids: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
}

impl Receiver {
    async fn serve(self, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(self.clone().converse(stream));
        }
    }

    async fn converse(self, mut stream: TcpStream) {
        let mut sent = Vec::new();
        loop {
            let mut part = [0; 4096];
            match stream.read(&mut part).await {
                Ok(length) if length > 0 => sent.extend_from_slice(&part[..length]),
                Ok(_) | Err(_) => return,
            }
            if !sent.ends_with(b"}") {
                continue;
            }
            let text = String::from_utf8(std::mem::take(&mut sent)).unwrap();
            let id = text.lines().find_map(|line| line.strip_prefix("webhook-id: ")).unwrap();
            self.ids.lock().push(id.trim().to_owned());
            self.gate.acquire().await.unwrap().forget();
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

fn decided(number: u64) -> Delivery {
    support::alerts::decided(&format!("n{number:03}"), "hook", number)
}

fn config(origin: &str) -> WorkerConfig {
    serde_json::from_value(serde_json::json!({"notifiers": [{
        "slot": "hook",
        "plugin": "sentinel/webhook",
        // What is under way waits for a release that is compiled, on a machine with other work.
        "config": {"url": format!("{origin}/hook"), "secret": "hook", "timeout": "60s"},
        "grants": {
            "http": {"origins": [origin], "methods": ["POST"]},
            "mac": {"keys": ["hook"]},
        },
    }]}))
    .unwrap()
}

async fn start(
    rig: &Rig,
    config: WorkerConfig,
    installed: &Arc<Installed>,
    metrics: &Registry,
) -> Worker {
    let options =
        RuntimeOptions::new(rig.folder.path(), CompilerCommand::hooked(), metrics.clone());
    let secrets = BTreeMap::from([("hook".to_owned(), b"key".to_vec())]);
    let parts = WorkerParts {
        store: rig.store.clone(),
        bus: rig.bus.clone(),
        runtime: Runtime::start(options).unwrap(),
        plugins: Arc::clone(installed) as Arc<_>,
        keys: rig.keys(),
        secrets: Arc::new(secrets),
        clock: rig.clock.clone(),
        metrics: metrics.clone(),
    };
    let options = WorkerOptions { queued: QUEUED, ..WorkerOptions::new("w1", config) };
    Worker::start(options, parts).await.unwrap()
}

/// Which generation the slot's next call goes to.
fn generation(metrics: &Registry) -> f64 {
    let all = metrics.gather();
    let found = all.iter().find(|family| family.name() == "sentinel_slot_generation");
    found.map_or(0.0, |family| family.get_metric()[0].get_gauge().get_value())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_in_flight_during_a_swap_are_told_once_each() {
    let rig = Rig::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let receiver = Receiver { ids: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
    let served = tokio::spawn(receiver.clone().serve(listener));
    let all: Vec<Delivery> = (1..=NOTIFICATIONS).map(decided).collect();
    let change = AlertingChange { decided: all, ..AlertingChange::default() };
    rig.store.save_alerting(change).await.unwrap();

    let installed = Arc::new(Installed(Mutex::new(webhook(90))));
    let metrics = Registry::new();
    let worker = Arc::new(start(&rig, config(&origin), &installed, &metrics).await);
    until("calls are in flight", async || receiver.ids.lock().len() == SENDS_AT_ONCE).await;
    *installed.0.lock() = webhook(91);
    let swap = {
        let (worker, config) = (Arc::clone(&worker), config(&origin));
        tokio::spawn(async move { worker.reconfigure(config).await.unwrap() })
    };
    until("the next generation has taken its place", async || generation(&metrics) == 2.0).await;
    // The one before still has all its calls; the next is made by the new one.
    assert_eq!(receiver.ids.lock().len(), SENDS_AT_ONCE);
    receiver.gate.add_permits(1);
    until("one more is sent", async || receiver.ids.lock().len() > SENDS_AT_ONCE).await;
    receiver.gate.add_permits(NOTIFICATIONS as usize);
    assert_eq!(swap.await.unwrap(), BTreeMap::new());
    let journal = async || rig.store.notifications(NotificationFilter::All, 1_000).await.unwrap();
    until("all are delivered", async || {
        journal().await.iter().all(|d| d.state == DeliveryState::Delivered)
    })
    .await;
    let mut told = receiver.ids.lock().clone();
    told.sort();
    let expected: Vec<String> = (1..=NOTIFICATIONS).map(|n| format!("n{n:03}")).collect();
    assert_eq!(told, expected, "none lost, none twice");
    assert!(journal().await.iter().all(|d| d.attempts == 1 && !d.may_be_repeat));
    let status = worker.status().await;
    assert_eq!((status.slots[0].version.patch, status.slots[0].generation), (91, 2));
    let worker = Arc::into_inner(worker).expect("the swap has ended");
    worker.shutdown().await;
    served.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notifier_replaced_while_its_queue_is_full_loses_and_doubles_nothing() {
    let rig = Rig::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let receiver = Receiver { ids: Arc::default(), gate: Arc::new(Semaphore::new(0)) };
    let served = tokio::spawn(receiver.clone().serve(listener));
    let all: Vec<Delivery> = (1..=MANY).map(decided).collect();
    let change = AlertingChange { decided: all, ..AlertingChange::default() };
    rig.store.save_alerting(change).await.unwrap();

    let installed = Arc::new(Installed(Mutex::new(webhook(100))));
    let metrics = Registry::new();
    let worker = Arc::new(start(&rig, config(&origin), &installed, &metrics).await);
    until("calls are in flight", async || receiver.ids.lock().len() == SENDS_AT_ONCE).await;
    assert_eq!(worker.status().await.notifications[0].open, QUEUED, "its queue is full");
    for swap in 1..=SWAPS {
        *installed.0.lock() = webhook(100 + swap);
        let replacing = {
            let (worker, config) = (Arc::clone(&worker), config(&origin));
            tokio::spawn(async move { worker.reconfigure(config).await.unwrap() })
        };
        // Some are let through while the next release is compiled; those under way when it takes
        // its place belong to the one before it, and end there.
        receiver.gate.add_permits(SENDS_AT_ONCE);
        let next = 1.0 + swap as f64;
        until("the next generation has its place", async || generation(&metrics) == next).await;
        receiver.gate.add_permits(2 * SENDS_AT_ONCE);
        assert_eq!(replacing.await.unwrap(), BTreeMap::new());
    }
    receiver.gate.add_permits(MANY as usize);
    let journal = async || rig.store.notifications(NotificationFilter::All, 1_000).await.unwrap();
    until("all are delivered", async || {
        journal().await.iter().all(|d| d.state == DeliveryState::Delivered)
    })
    .await;
    let mut told = receiver.ids.lock().clone();
    told.sort();
    let expected: Vec<String> = (1..=MANY).map(|n| format!("n{n:03}")).collect();
    assert_eq!(told, expected, "none lost, none twice");
    assert!(journal().await.iter().all(|d| d.attempts == 1 && !d.may_be_repeat));
    let worker = Arc::into_inner(worker).expect("the swaps have ended");
    worker.shutdown().await;
    served.abort();
}
