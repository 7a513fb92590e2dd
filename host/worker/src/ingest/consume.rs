//! Reading the bus: take what is there, have it committed, acknowledge.

use super::{Incoming, Ingest, MAX_RECORDS};
use crate::metrics::Metrics;
use crate::stop::stopped;
use sentinel_bus::{Bus, BusError, Delivery, Subscription};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior};

/// How often the bus is asked what waits.
const DEPTH_EVERY: Duration = Duration::from_millis(250);

/// The wait before a bus that failed is asked again.
const BUS_WAIT: Duration = Duration::from_secs(1);

/// How long after `stop` what was taken may still be committed.
const GRACE: Duration = Duration::from_secs(5);

/// Consumes until `stop` is true or the bus is closed. What was taken is committed and
/// acknowledged before it returns, if the store takes it in time; otherwise it comes again.
/// `caught_up` is set once nothing waits on the bus.
pub async fn consume(
    bus: Arc<dyn Bus>,
    mut ingest: Ingest,
    metrics: Metrics,
    caught_up: Arc<AtomicBool>,
    mut stop: watch::Receiver<bool>,
) {
    let mut subscription = None;
    let mut asking = tokio::time::interval(DEPTH_EVERY);
    asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if *stop.borrow() {
            return;
        }
        let deliveries = tokio::select! {
            () = stopped(&mut stop) => return,
            () = async { asking.tick().await; look(bus.as_ref(), &metrics, &caught_up).await } => continue,
            deliveries = next(bus.as_ref(), &mut subscription) => deliveries,
        };
        match deliveries {
            Ok(deliveries) => {
                let grace = async {
                    stopped(&mut stop).await;
                    tokio::time::sleep(GRACE).await;
                };
                tokio::select! {
                    () = settle(&mut ingest, deliveries, &metrics) => {}
                    // What waits is of most interest while the store takes nothing.
                    () = keep_looking(bus.as_ref(), &mut asking, &metrics, &caught_up) => {}
                    () = grace => {
                        tracing::warn!("samples could not be stored before the end; they come again at the next start");
                        return;
                    }
                }
            }
            Err(BusError::Closed) => {
                tracing::info!("the bus is closed; nothing more is taken from it");
                return;
            }
            Err(error) => {
                metrics.bus_failures.inc();
                tracing::error!(%error, "the bus does not deliver; tried again");
                subscription = None;
                tokio::select! {
                    () = stopped(&mut stop) => return,
                    () = tokio::time::sleep(BUS_WAIT) => {}
                }
            }
        }
    }
}

/// Finds out what waits, again and again.
async fn keep_looking(
    bus: &dyn Bus,
    asking: &mut Interval,
    metrics: &Metrics,
    caught_up: &AtomicBool,
) {
    loop {
        asking.tick().await;
        look(bus, metrics, caught_up).await;
    }
}

/// Finds out what waits.
async fn look(bus: &dyn Bus, metrics: &Metrics, caught_up: &AtomicBool) {
    match bus.depth().await {
        Ok(depth) => {
            metrics.bus_depth.set(i64::try_from(depth.messages).unwrap_or(i64::MAX));
            if depth.messages == 0 {
                caught_up.store(true, Ordering::Relaxed);
            }
        }
        Err(error) => tracing::debug!(%error, "it is not known what waits on the bus"),
    }
}

async fn next(
    bus: &dyn Bus,
    subscription: &mut Option<Box<dyn Subscription>>,
) -> Result<Vec<Delivery>, BusError> {
    let open = match subscription {
        Some(open) => open,
        None => subscription.insert(bus.subscribe().await?),
    };
    open.next_many(MAX_RECORDS).await
}

async fn settle(ingest: &mut Ingest, deliveries: Vec<Delivery>, metrics: &Metrics) {
    let incoming =
        |d: &Delivery| Incoming { payload: d.message.payload.clone(), deliveries: d.deliveries };
    let messages: Vec<Incoming> = deliveries.iter().map(incoming).collect();
    let timer = metrics.processing_seconds.start_timer();
    ingest.take(&messages).await;
    for delivery in deliveries {
        match delivery.ack().await {
            Ok(()) => metrics.acks.inc(),
            Err(error) => {
                // It comes again and is a duplicate then.
                metrics.bus_failures.inc();
                tracing::warn!(%error, "a message could not be acknowledged");
            }
        }
    }
    timer.observe_duration();
}
