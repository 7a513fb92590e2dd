//! Running one collector at its interval: no overlap, spread over time, kept in the log.

use crate::enrol::Identity;
use crate::metrics::Metrics;
use crate::parts::{Parts, parts};
use crate::record::LogRecord;
use crate::state::SlotStates;
use rand::RngExt;
use sentinel_model::codec;
use sentinel_model::ids::{Epoch, SlotName};
use sentinel_runtime::{Collected, Slot};
use sentinel_wal::{Log, LogState, Position};
use sentinel_wire::envelope::{WAY, batch_id, trace_id};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

/// How often a collector that is to stop, but waits for the log, asks whether that is to be expected.
const GIVE_UP_CHECK: Duration = Duration::from_millis(100);

/// What every collector of an agent shares.
pub(crate) struct Shared {
    pub(crate) log: Arc<Log>,
    pub(crate) states: Arc<SlotStates>,
    pub(crate) metrics: Arc<Metrics>,
    /// Held alone while the parts of one collection are appended, so that they follow each
    /// other without anything in between; shared by collections of one record.
    pub(crate) order: tokio::sync::RwLock<()>,
    /// Who it is, once it is enrolled.
    pub(crate) enrolled: watch::Receiver<Option<Identity>>,
}

impl Shared {
    fn agent_id(&self) -> Option<String> {
        self.enrolled.borrow().as_ref().map(|identity| identity.id.to_string())
    }
}

/// What a collector's task follows; changed while it runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) interval: Duration,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Runs until told to stop. The first collection is at once, the later ones at a phase of
/// the interval that is drawn by lot, so that slots and machines spread.
pub(crate) async fn run(
    slot: Slot,
    shared: Arc<Shared>,
    mut plan: watch::Receiver<Plan>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let current = plan.borrow_and_update().clone();
        collect_once(&slot, &shared, &current.labels, &mut stop).await;
        let phase = current.interval.mul_f64(rand::rng().random_range(0.5..1.0));
        let mut ticks = tokio::time::interval_at(Instant::now() + phase, current.interval);
        // After a slow collection the next is at the next tick: none is made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = ended(&mut stop) => return,
                changed = plan.changed() => {
                    if changed.is_err() { return }
                    break;
                }
                at = ticks.tick() => {
                    let late = at.elapsed().as_secs_f64() / current.interval.as_secs_f64();
                    if late >= 1.0 {
                        let missed = shared.metrics.overrun.with_label_values(&[slot.name().as_str()]);
                        missed.inc_by(late as u64);
                    }
                    collect_once(&slot, &shared, &current.labels, &mut stop).await;
                }
            }
        }
    }
}

/// Ends when it is time to stop; a sender that is gone means the same.
pub(crate) async fn ended(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Ends when it is time to stop and the log's syncs fail, which may be for long.
async fn given_up(stop: &mut watch::Receiver<bool>, log: &Log) {
    ended(stop).await;
    while !matches!(log.state(), LogState::SyncFailing { .. }) {
        tokio::time::sleep(GIVE_UP_CHECK).await;
    }
}

/// One collection: call, compose, append, sync. A failure is counted and said; the slot's
/// own backoff and quarantine decide when the plugin is called again.
async fn collect_once(
    slot: &Slot,
    shared: &Shared,
    labels: &BTreeMap<String, String>,
    stop: &mut watch::Receiver<bool>,
) {
    let name = slot.name().clone();
    let failed = || shared.metrics.failed.with_label_values(&[name.as_str()]).inc();
    let collected = match slot.collect().await {
        Ok(collected) => collected,
        Err(error) => {
            failed();
            if error.was_called() {
                tracing::warn!(slot = %name, %error, "collection failed");
            }
            return;
        }
    };
    if let Err(error) = keep(&name, collected, shared, labels, stop).await {
        failed();
        tracing::error!(slot = %name, error = %format!("{error:#}"), "collection not kept");
    }
}

/// Appends what was collected, all of it or nothing: what is cut short in between counts as
/// not collected, here and after a crash.
async fn keep(
    name: &SlotName,
    collected: Collected,
    shared: &Shared,
    labels: &BTreeMap<String, String>,
    stop: &mut watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let Parts { records, left_out } = parts(name, collected.batches, collected.kv, labels)?;
    if let Some((rows, error)) = left_out {
        shared.metrics.left_out.with_label_values(&[name.as_str()]).inc_by(rows);
        tracing::error!(slot = %name, rows, %error, "rows left out; the first for this reason");
    }
    if records.is_empty() {
        return Ok(());
    }
    // What is appended from here on is not let go before its state is known.
    let _under_way = shared.states.appending(&shared.log);
    let position = tokio::select! {
        biased;
        position = append(&records, shared) => position?,
        () = given_up(stop, &shared.log) => anyhow::bail!("stopped while the log cannot sync"),
    };
    let rows: Vec<usize> = records.iter().map(|r| codec::rows(&r.batch).unwrap_or(0)).collect();
    let writes = records.into_iter().flat_map(|record| record.writes).collect();
    say_synced(name, &rows, position, shared);
    shared.states.synced(name, Epoch(position.epoch.0), position.seq, writes);
    shared
        .metrics
        .samples
        .with_label_values(&[name.as_str()])
        .inc_by(rows.iter().sum::<usize>() as u64);
    Ok(())
}

/// Each record of a collection, of which the last is here: they follow each other.
fn say_synced(name: &SlotName, rows: &[usize], last: Position, shared: &Shared) {
    for (rows, before) in rows.iter().zip((0..rows.len() as u64).rev()) {
        let (epoch, seq) = (Epoch(last.epoch.0), last.seq.saturating_sub(before));
        let at = sentinel_model::ids::Position { epoch, seq };
        // Nobody has named an agent that is not enrolled yet.
        tracing::debug!(target: WAY, agent_id = shared.agent_id().as_deref(), slot = %name, rows, batch_id = %batch_id(at), trace_id = %trace_id(at), "synced");
    }
}

/// Appends the records of one collection; where the last of them is, synced.
async fn append(records: &[LogRecord], shared: &Shared) -> sentinel_wal::Result<Position> {
    let Some((last, before)) = records.split_last() else {
        return Err(sentinel_wal::Error::Closed);
    };
    if before.is_empty() {
        let _alongside = shared.order.read().await;
        return shared.log.append_synced(&last.encode()).await;
    }
    let _alone = shared.order.write().await;
    for record in before {
        shared.log.append_written(&record.encode()).await?;
    }
    shared.log.append_synced(&last.encode()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use sentinel_wal::Options;
    use sentinel_wal::simulation::Simulation;

    #[tokio::test]
    async fn a_collector_that_is_to_stop_waits_for_its_log_unless_syncs_fail() {
        let disk = Simulation::new();
        let log = Log::open_on(Arc::new(disk.clone()), Options::default()).unwrap().0;
        let (tell, mut stop) = watch::channel(false);
        let log = Arc::new(log);
        let waiting = Arc::clone(&log);
        disk.fail_syncs(u64::MAX);
        let append = tokio::spawn(async move { waiting.append_synced(b"record").await });
        while log.state() == LogState::Working {
            tokio::task::yield_now().await;
        }
        let early = at_once(given_up(&mut stop, &log)).await;
        assert!(early.is_none(), "nobody said stop");
        tell.send_replace(true);
        given_up(&mut stop, &log).await;
        disk.fail_syncs(0);
        append.await.unwrap().unwrap();
        let early = at_once(given_up(&mut stop, &log)).await;
        assert!(early.is_none(), "the log works: what is appended is worth waiting for");
    }

    #[tokio::test]
    async fn a_collection_is_synced_when_it_is_appended() {
        use sentinel_model::batch::BatchBuilder;
        use sentinel_model::columns::Kind;
        for count in [1, 3] {
            let options = Options {
                sync: sentinel_wal::SyncPolicy::Interval(std::time::Duration::from_secs(3600)),
                background: false,
                ..Options::default()
            };
            let log = Arc::new(Log::open_on(Arc::new(Simulation::new()), options).unwrap().0);
            let mut batch = BatchBuilder::new();
            batch.push("m", [], Kind::Gauge, 1.0, 1);
            let record = LogRecord {
                slot: SlotName::new("s").unwrap(),
                part: crate::record::Part::WHOLE,
                batch: codec::encode(&batch.build().unwrap()).into(),
                writes: Vec::new(),
            };
            let folder = tempfile::tempdir().unwrap();
            let states = SlotStates::open(&folder.path().join("state.json"), &log).unwrap();
            let shared = Shared {
                log: Arc::clone(&log),
                states: Arc::new(states),
                metrics: Arc::new(Metrics::register(&prometheus::Registry::new()).unwrap()),
                order: tokio::sync::RwLock::default(),
                enrolled: watch::channel(None).1,
            };
            let last = append(&vec![record; count], &shared).await.unwrap();
            assert_eq!((last.seq, log.offsets()[0].synced), (count as u64, count as u64));
        }
    }

    /// What a future has to say without any waiting.
    async fn at_once<F: Future>(future: F) -> Option<F::Output> {
        tokio::select! {
            biased;
            output = future => Some(output),
            () = std::future::ready(()) => None,
        }
    }
}
