//! Alerts, whole: sample → rule (WASM) → alert → route → notifier (WASM) → a receiver on loopback.
//!
//! Everything is the production path over SQLite with `synchronous=FULL` and the real clock; what is
//! told is taken from the requests that the receiver got.

use crate::COMPILE_CHILD;
use crate::built::Built;
use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use bytes::Bytes;
use prometheus::Registry;
use prost::Message as _;
use sentinel_bus::{Bus, EmbeddedBus, EmbeddedOptions, Message, MessageId};
use sentinel_model::batch::{Batch, BatchBuilder};
use sentinel_model::codec;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sentinel_runtime::{CompilerCommand, Runtime, RuntimeOptions};
use sentinel_store::sqlite::{SqliteStore, StoreOptions};
use sentinel_store::{Store, StoreError};
use sentinel_wire::envelope::{Content, Record, seal};
use sentinel_wire::key::AgentKey;
use sentinel_worker::clock::{Clock as _, SystemClock};
use sentinel_worker::config::WorkerConfig;
use sentinel_worker::ingest::AgentKeys;
use sentinel_worker::{Worker, WorkerOptions, WorkerParts};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Most bytes of a request that the receiver reads.
const MAX_REQUEST: usize = 1 << 20;
const EPOCH: Epoch = Epoch([1; 16]);

struct Keys(AgentKey);

#[async_trait]
impl AgentKeys for Keys {
    async fn keys(&self, _: &AgentId) -> Result<Vec<AgentKey>, StoreError> {
        Ok(vec![self.0.clone()])
    }
}

/// One alert that a request told of.
pub(crate) struct Told {
    pub(crate) at: Instant,
    /// Which request, counted over all receivers' paths.
    pub(crate) request: usize,
    pub(crate) rule: String,
    pub(crate) fingerprint: u64,
    pub(crate) fires: bool,
}

/// What came, in order.
#[derive(Default)]
pub(crate) struct Came {
    pub(crate) requests: usize,
    pub(crate) told: Vec<Told>,
    trouble: Option<String>,
}

/// A receiver of webhooks on loopback.
#[derive(Clone)]
pub(crate) struct Receiver {
    pub(crate) origin: String,
    came: Arc<Mutex<Came>>,
}

impl Receiver {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let origin = format!("http://{}", listener.local_addr()?);
        let receiver = Self { origin, came: Arc::default() };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move {
                    if let Err(error) = serving.converse(stream).await {
                        serving.look(|came| came.trouble = Some(format!("{error:#}")));
                    }
                });
            }
        });
        Ok(receiver)
    }

    /// Looks at what came.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&mut Came) -> R) -> R {
        look(&mut self.came.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn converse(&self, mut stream: TcpStream) -> Result<()> {
        let mut read = Vec::new();
        loop {
            let Some(body) = request(&mut stream, &mut read).await? else { return Ok(()) };
            let at = Instant::now();
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await?;
            self.take(at, &serde_json::from_slice(&body)?)?;
        }
    }

    fn take(&self, at: Instant, body: &Value) -> Result<()> {
        let alerts = body["data"]["alerts"].as_array().context("no alerts in a webhook")?;
        anyhow::ensure!(body["data"]["truncated_alerts"] == 0, "a webhook was cut short");
        self.look(|came| {
            came.requests += 1;
            for alert in alerts {
                let text = |key: &str| alert[key].as_str().unwrap_or_default();
                came.told.push(Told {
                    at,
                    request: came.requests,
                    rule: text("rule").to_owned(),
                    fingerprint: u64::from_str_radix(text("fingerprint"), 16)?,
                    fires: text("status") == "firing",
                });
            }
            Ok(())
        })
    }

    /// Waits until what came is enough.
    pub(crate) async fn until(
        &self,
        what: &str,
        within: Duration,
        mut is_enough: impl FnMut(&Came) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            let (enough, trouble, requests) =
                self.look(|came| (is_enough(came), came.trouble.clone(), came.requests));
            if let Some(trouble) = trouble {
                bail!("the receiver cannot read what came: {trouble}");
            }
            if enough {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{what}: not within {within:?}; {requests} requests came");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The body of the next request of a connection; `None` where it was closed.
async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let mut wanted = None;
    loop {
        if wanted.is_none()
            && let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n")
        {
            let head = std::str::from_utf8(&read[..end])?.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length: usize = length.context("no content-length")?.trim().parse()?;
            anyhow::ensure!(length <= MAX_REQUEST, "a body of {length} bytes");
            wanted = Some((end + 4, end + 4 + length));
        }
        if let Some((from, to)) = wanted
            && read.len() >= to
        {
            let body = read[from..to].to_vec();
            read.drain(..to);
            return Ok(Some(body));
        }
        let mut part = vec![0; 16 << 10];
        match stream.read(&mut part).await? {
            0 if read.is_empty() => return Ok(None),
            0 => bail!("a request broke off"),
            length => read.extend_from_slice(&part[..length]),
        }
    }
}

/// A worker that evaluates rules and tells a receiver.
pub(crate) struct Alerting {
    bus: Arc<EmbeddedBus>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) worker: Worker,
    pub(crate) receiver: Receiver,
    key: AgentKey,
    _dir: tempfile::TempDir,
}

impl Alerting {
    /// Starts it with these rules; `routes` may name the notifiers, all of which post to the
    /// receiver.
    pub(crate) async fn start(
        notifiers: &[&str],
        routes: Value,
        rules: Vec<Value>,
    ) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let registry = Registry::new();
        let path = dir.path().join("bench.db");
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&path, StoreOptions::default()).await?);
        let bus_folder = dir.path().join("bus");
        std::fs::create_dir(&bus_folder)?;
        let bus = Arc::new(EmbeddedBus::open(&bus_folder, EmbeddedOptions::default())?);
        let compiler = CompilerCommand::this_program([COMPILE_CHILD])?;
        let runtime = Runtime::start(RuntimeOptions::new(dir.path(), compiler, registry.clone()))?;
        let receiver = Receiver::start().await?;
        let notifier = |name: &&str| {
            json!({
                "slot": name, "plugin": "sentinel/webhook",
                "config": {"url": format!("{}/{name}", receiver.origin), "secret": "hook"},
                "grants": {
                    "http": {"origins": [receiver.origin], "methods": ["POST"]},
                    "mac": {"keys": ["hook"]},
                },
            })
        };
        let config: WorkerConfig = serde_json::from_value(json!({
            "settle": "0s",
            "evaluators": [{
                "slot": "alert-dsl", "plugin": "sentinel/alert-dsl", "grants": {"series": true},
            }],
            "notifiers": notifiers.iter().map(notifier).collect::<Vec<_>>(),
            "routes": routes,
        }))?;
        let rules = json!({"version": 1, "applied_at": 0, "rules": rules});
        store.save_rules(&serde_json::from_value(rules)?).await?;
        let key = AgentKey::random(1);
        let parts = WorkerParts {
            store: Arc::clone(&store),
            bus: Arc::clone(&bus) as Arc<_>,
            runtime,
            plugins: Arc::new(Built::open()?),
            keys: Arc::new(Keys(key.clone())),
            secrets: Arc::new(BTreeMap::from([("hook".to_owned(), b"key".to_vec())])),
            clock: Arc::new(SystemClock),
            metrics: registry,
        };
        let worker = Worker::start(WorkerOptions::new("bench", config), parts).await?;
        let status = worker.status().await;
        anyhow::ensure!(status.problems.is_empty(), "{:?}", status.problems);
        Ok(Self { bus, store, worker, receiver, key, _dir: dir })
    }

    /// Publishes an agent's next batch.
    pub(crate) async fn publish(&self, agent: &AgentId, seq: u64, batch: &Batch) -> Result<()> {
        let record = Record {
            agent: agent.clone(),
            position: Position { epoch: EPOCH, seq },
            attempt: 1,
            content: Content::Batch(Bytes::from(codec::encode(batch))),
        };
        let envelope = seal(&record, &self.key, SystemClock.now(), [0; 16]);
        let id = MessageId { agent: agent.clone(), epoch: EPOCH, seq, attempt: 1 };
        self.bus.publish(Message { id, payload: Bytes::from(envelope.encode_to_vec()) }).await?;
        Ok(())
    }

    /// Waits until an agent's batch is in the database.
    pub(crate) async fn committed(&self, agent: &AgentId, seq: u64) -> Result<()> {
        while self.store.stream_state(agent, EPOCH).await?.committed < seq {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }

    /// Waits until all rules are in force.
    pub(crate) async fn in_force(&self, rules: usize) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.worker.status().await.rules;
            if status.evaluated == rules {
                return Ok(());
            }
            anyhow::ensure!(Instant::now() < deadline, "not in force: {status:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A batch of gauges of now: name, the value of the label `n`, and the value.
pub(crate) fn gauges<'a>(rows: impl IntoIterator<Item = (&'a str, String, f64)>) -> Result<Batch> {
    let now = SystemClock.now();
    let mut builder = BatchBuilder::new();
    for (name, n, value) in rows {
        builder.push(name, [("n", n.as_str())], Kind::Gauge, value, now);
    }
    Ok(builder.build()?)
}

/// A rule that fires for each series of a metric that is above one half, with no wait.
pub(crate) fn rule(name: &str, metric: &str, labels: Value) -> Value {
    json!({
        "name": name, "interval": "15s", "labels": labels,
        "condition": {"metric": metric, "fn": "last", "window": "5m", "above": 0.5},
    })
}

/// A quantile of sorted times, in milliseconds.
pub(crate) fn quantile_ms(sorted: &[Duration], quantile: f64) -> f64 {
    let at = (sorted.len() as f64 * quantile).ceil() as usize;
    sorted.get(at.clamp(1, sorted.len()) - 1).map_or(f64::NAN, |took| took.as_secs_f64() * 1000.0)
}
