//! What a server's processor does for a batch: TLS, HTTP/2, verify, look up, publish to JetStream.
//!
//! A real server before a real NATS and PostgreSQL. Agents with a connection each push batches of 300 samples, one a push, as
//! agents do whose server keeps up; the batches are signed before, and only the server's own time counts. What its stages
//! cost is measured by themselves, by the same code in this process; TLS is what a server without it does not need.

use crate::alerts::quantile_ms;
use crate::cpu;
use crate::deployed::{Deployed, Enrolled, Installation, connections};
use crate::row::{Better, Row};
use crate::scrape::{Host, SERIES};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use prost::Message as _;
use sentinel_bus::jetstream::{JetStreamBus, JetStreamOptions};
use sentinel_bus::{Bus, Message, MessageId};
use sentinel_model::codec;
use sentinel_model::ids::{Epoch, Position};
use sentinel_store::Store;
use sentinel_store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use sentinel_wire::envelope::{Content, Record, open, seal};
use sentinel_wire::v1::ingest_client::IngestClient;
use sentinel_wire::v1::{PushRequest, Refusal};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;

/// Agents, each with a connection and one push under way.
const AGENTS: usize = 64;
/// Batches of each that are counted, and before those.
const BATCHES: usize = 512;
const WARM: usize = 32;
/// Batches of a push of an agent that was away.
const BACKLOG: usize = 16;
/// What an operator of agents that push so often writes.
const LIMITS: &str = "limits:
  agent_batches: {per_second: 100000, burst: 1000000}
  batches: {per_second: 1000000, burst: 10000000}
  enrolments: {per_second: 10000, burst: 10000}
";
/// The least batches for a second of the server's processor.
const LEAST: f64 = 5_000.0;

fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// Some scrapes of a host, encoded.
fn payloads() -> Result<Vec<Bytes>> {
    let mut host = Host::new();
    let mut encoded = Vec::new();
    for _ in 0..8 {
        let batch = host.scrapes(1)?;
        ensure!(batch.len() == SERIES, "a scrape has {} series", batch.len());
        encoded.push(Bytes::from(codec::encode(&batch)));
    }
    Ok(encoded)
}

/// What each agent pushes: so many batches, so many a push, signed.
fn pushes(
    agents: &[Enrolled],
    run: u8,
    (count, a_push): (usize, usize),
) -> Result<Vec<Vec<PushRequest>>> {
    let (payloads, sent_at) = (payloads()?, now()?);
    let of_one = |(number, agent): (usize, &Enrolled)| {
        let sealed = |seq: usize| {
            let record = Record {
                agent: agent.id.clone(),
                position: Position { epoch: Epoch([run; 16]), seq: seq as u64 },
                attempt: 1,
                content: Content::Batch(payloads[(seq + number) % payloads.len()].clone()),
            };
            let nonce = u128::from(run) << 96 | (number as u128) << 64 | seq as u128;
            seal(&record, &agent.key, sent_at, nonce.to_le_bytes())
        };
        let push =
            |first: usize| PushRequest { envelopes: (first..first + a_push).map(sealed).collect() };
        (1..=count).step_by(a_push).map(push).collect()
    };
    Ok(agents.iter().enumerate().map(of_one).collect())
}

/// Pushes everything; how long each push took.
async fn push_all(
    server: &(&Installation, &Deployed),
    pushes: Vec<Vec<PushRequest>>,
) -> Result<Vec<Duration>> {
    let channels = connections(&server.0.endpoint(server.1)?, pushes.len()).await?;
    let mut tasks = JoinSet::new();
    for (channel, pushes) in channels.into_iter().zip(pushes) {
        tasks.spawn(async move {
            let mut client = IngestClient::new(channel);
            let mut took = Vec::with_capacity(pushes.len());
            for push in pushes {
                let last = push.envelopes.last().context("a batch")?.seq;
                let began = Instant::now();
                let answer = client.push(push).await?.into_inner();
                took.push(began.elapsed());
                let accepted = answer.epochs.first().map_or(0, |it| it.accepted);
                let taken = answer.refusal() == Refusal::None && accepted == last;
                ensure!(taken, "{accepted} of {last} taken: {}", answer.refusal_text);
            }
            Ok(took)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    all.sort();
    Ok(all)
}

/// What a server needed for so many batches.
struct Used {
    batches: usize,
    seconds: f64,
    took: Vec<Duration>,
}

impl Used {
    /// Microseconds of the processor a batch.
    fn micros(&self) -> f64 {
        self.seconds * 1e6 / self.batches as f64
    }
}

/// Drives a server, its first batches not counted.
async fn drive(
    server: (&Installation, &Deployed),
    agents: &[Enrolled],
    run: u8,
    a_push: usize,
) -> Result<Used> {
    push_all(&server, pushes(agents, run, (WARM, a_push))?).await?;
    let prepared = pushes(agents, run + 1, (BATCHES, a_push))?;
    let before = cpu::process(server.1.pid())?;
    let took = push_all(&server, prepared).await?;
    let seconds = cpu::process(server.1.pid())? - before;
    Ok(Used { batches: agents.len() * BATCHES, seconds, took })
}

/// Microseconds of this process's own time that each of so many took.
async fn own_micros(count: usize, work: impl Future<Output = Result<()>>) -> Result<f64> {
    let before = cpu::own();
    work.await?;
    Ok((cpu::own() - before) * 1e6 / count as f64)
}

/// What the stages cost by themselves, microseconds a batch: decoding, the signature, a look-up, publishing.
async fn stages(place: &Installation, agents: &[Enrolled]) -> Result<[f64; 4]> {
    let prepared = pushes(agents, 100, (BATCHES, 1))?;
    let count = agents.len() * BATCHES;
    let encoded: Vec<Bytes> =
        prepared.iter().flatten().map(|push| Bytes::from(push.encode_to_vec())).collect();
    let decode = own_micros(count, async {
        for push in &encoded {
            ensure!(PushRequest::decode(push.clone())?.envelopes.len() == 1);
        }
        Ok(())
    });
    let decode = decode.await?;
    drop(encoded);
    let verify = own_micros(count, async {
        for (agent, pushes) in agents.iter().zip(&prepared) {
            for push in pushes {
                open(&push.envelopes[0], &agent.key)?;
            }
        }
        Ok(())
    });
    let verify = verify.await?;
    let url = PostgresUrl::new(&place.database)?;
    let store = Arc::new(PostgresStore::open(url, PostgresOptions::default()).await?);
    let look_up = own_micros(
        count,
        each(agents, |agent| {
            let (store, agent) = (Arc::clone(&store), agent.id.clone());
            async move {
                for _ in 0..BATCHES {
                    store.stream_state(&agent, Epoch([1; 16])).await?;
                }
                Ok(())
            }
        }),
    );
    let look_up = look_up.await?;
    store.close().await?;
    let bus = JetStreamBus::connect(JetStreamOptions::new(place.nats.url().parse()?)).await?;
    let bus = Arc::new(bus);
    let mut prepared = prepared.into_iter();
    let publish = own_micros(
        count,
        each(agents, |agent| {
            let (bus, id) = (Arc::clone(&bus), agent.id.clone());
            let pushes = prepared.next().unwrap_or_default();
            async move {
                for sealed in pushes.iter().flat_map(|push| &push.envelopes) {
                    let id = MessageId {
                        agent: id.clone(),
                        epoch: Epoch([100; 16]),
                        seq: sealed.seq,
                        attempt: 1,
                    };
                    bus.publish(Message { id, payload: Bytes::from(sealed.encode_to_vec()) })
                        .await?;
                }
                Ok(())
            }
        }),
    );
    let publish = publish.await?;
    bus.close().await?;
    Ok([decode, verify, look_up, publish])
}

/// Has each agent do something, all at once.
async fn each<W: Future<Output = Result<()>> + Send + 'static>(
    agents: &[Enrolled],
    work: impl FnMut(&Enrolled) -> W,
) -> Result<()> {
    let mut tasks: JoinSet<Result<()>> = agents.iter().map(work).collect();
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    tokio::runtime::Runtime::new()?.block_on(run())
}

async fn run() -> Result<Vec<Row>> {
    let place = Installation::start()?;
    let server = place.server("tls", true, LIMITS)?;
    let agents = place.enrol(&server, AGENTS).await?;
    let single = drive((&place, &server), &agents, 1, 1).await?;
    let backlog = drive((&place, &server), &agents, 3, BACKLOG).await?;
    let peak = cpu::peak_mib(server.pid())?;
    drop(server);
    let server = place.server("plain", false, LIMITS)?;
    let plain = drive((&place, &server), &agents, 5, 1).await?;
    drop(server);
    let [decode, verify, look_up, publish] = stages(&place, &agents).await?;
    let whole = single.micros();
    let tls = (whole - plain.micros()).max(0.0);
    let rest = whole - tls - decode - verify - look_up - publish;
    let share = |micros: f64| (micros / whole * 1000.0).round() / 10.0;
    let a_second = |used: &Used| (1e6 / used.micros()).round();
    let detail = json!({
        "batches": single.batches, "samples_a_batch": SERIES, "connections": AGENTS,
        "cpu_us_a_batch": whole,
        "share_percent": {
            "TLS": share(tls), "decode": share(decode), "signature": share(verify),
            "store look-up": share(look_up), "publish": share(publish),
            "HTTP/2, gRPC, limits, replay window": share(rest),
        },
        "push_ms": { "p50": quantile_ms(&single.took, 0.5), "p99": quantile_ms(&single.took, 0.99) },
        "batches_per_cpu_s": {
            "16 a push": a_second(&backlog), "without TLS": a_second(&plain),
        },
        "server_peak_mib": peak,
    });
    let value = 1e6 / whole;
    Ok(vec![Row::new(
        "server-ingest-batches-per-cpu-s",
        value,
        (Better::Higher, LEAST),
        "batches/s",
        detail,
    )])
}
