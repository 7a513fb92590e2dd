//! The two threads of a log: one syncs, one keeps house.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::bell::Heard;
use crate::log::Shared;
use crate::sync::LastSync;
use crate::{Error, Result, SyncPolicy};

/// Starts both; they end when their bells are told to stop.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let start = |name: &str, body: Box<dyn FnOnce() + Send>| {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(body);
        thread.map_err(|e| Error::io("start the thread", name, e))
    };
    let (syncer, keeper) = (shared.clone(), shared.clone());
    let interval = match shared.options.sync {
        SyncPolicy::Interval(interval) => interval,
        SyncPolicy::Always | SyncPolicy::Never => Duration::ZERO,
    };
    let at_once = shared.options.sync == SyncPolicy::Always;
    let sync = move || {
        let mut last = LastSync::default();
        while !syncer.sync_bell.stopped() {
            // Writers that shared the last sync are on their way back: no sleep in between.
            let busy = last.records > 1 && at_once && syncer.gather(last);
            let pause = syncer.retry_after().unwrap_or(interval);
            if !busy && syncer.sync_bell.wait(pause) == Heard::Stop {
                return;
            }
            if syncer.syncs_in_background() {
                if !busy {
                    syncer.gather(last);
                }
                let (before, started) = (syncer.state.lock().current().synced, Instant::now());
                // Its writers were told; so was the log of the program.
                let _ = syncer.sync_now();
                let synced = syncer.state.lock().current().synced;
                last = LastSync { records: synced - before, took: started.elapsed() };
            } else {
                syncer.drain(&mut syncer.tail.lock());
            }
        }
    };
    let keep = move || {
        let again = keeper.options.turn_after();
        loop {
            if again.is_some() {
                keeper.keep_bell.ring_soon();
            }
            if keeper.keep_bell.wait(again.unwrap_or_default()) == Heard::Stop {
                return;
            }
            keeper.prepare_spare();
            keeper.keep();
        }
    };
    let sync = start("wal-sync", Box::new(sync))?;
    match start("wal-keep", Box::new(keep)) {
        Ok(keep) => Ok(vec![sync, keep]),
        Err(error) => {
            shared.sync_bell.stop();
            let _ = sync.join();
            Err(error)
        }
    }
}
