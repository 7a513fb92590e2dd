//! The task of one notifier's lane.

use super::{Lane, LaneState, MAX_SLEEP_MS, SENDS_AT_ONCE, Shared};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;

/// Delivers what is in a lane until stop, then waits for the attempts under way; where the term
/// is over it breaks off.
pub(super) async fn run(shared: Arc<Shared>, lane: Arc<Lane>) {
    let term = shared.parts.term.clone();
    term.within(deliver(shared, lane)).await;
}

async fn deliver(shared: Arc<Shared>, lane: Arc<Lane>) {
    let mut stop = shared.stop.clone();
    let mut in_flight = FuturesUnordered::new();
    let (mut sleep_from_now, mut allowed) = (MAX_SLEEP_MS, SENDS_AT_ONCE);
    loop {
        let stopping = *stop.borrow();
        if stopping && in_flight.is_empty() {
            return;
        }
        if !stopping {
            let now = shared.parts.clock.now();
            let mut state = lane.state.lock();
            allowed = state.circuit.allows(now, SENDS_AT_ONCE);
            while in_flight.len() < allowed
                && let Some((ticket, delivery)) = state.queue.take(now)
            {
                let shared = &shared;
                in_flight.push(async move { (ticket, shared.attempt(delivery).await) });
            }
            let due = state.queue.next_due(now).unwrap_or(MAX_SLEEP_MS);
            sleep_from_now = due.max(state.circuit.wait(now));
        }
        // While all that may be under way is, only its end makes room.
        let room = !stopping && (allowed == 0 || in_flight.len() < allowed);
        let sleep = Duration::from_millis(sleep_from_now.clamp(1, MAX_SLEEP_MS) as u64);
        tokio::select! {
            Some((ticket, after)) = in_flight.next() => shared.settle(&lane, ticket, after),
            _ = stop.changed(), if !stopping => {}
            () = lane.wake.notified() => {}
            () = tokio::time::sleep(sleep), if room => {}
        }
        if !stopping {
            refill(&shared, &lane).await;
        }
    }
}

/// Reads from the journal what did not fit, once there is room. Only while nothing of this lane
/// is being sent: then nobody changes its part of the journal.
async fn refill(shared: &Shared, lane: &Lane) {
    let is_due = |state: &LaneState| {
        state.overflown && !state.queue.is_sending() && state.queue.len() <= shared.parts.queued / 2
    };
    {
        let mut state = lane.state.lock();
        if !is_due(&state) {
            return;
        }
        // Before reading: what is left in the journal from now on may not be read.
        state.left = false;
    }
    let (open, more) = shared.journal(&lane.slot).await;
    let open = shared.recover(open).await;
    let mut state = lane.state.lock();
    state.overflown = more || state.left;
    let before = state.queue.len();
    for delivery in open {
        if !state.queue.push(delivery) {
            state.overflown = true;
        }
    }
    shared.parts.metrics.notifications_open.add((state.queue.len() - before) as i64);
}
