//! What leaves the log: records that are committed, and bytes that nobody takes.

use super::Exporter;
use bytes::Bytes;
use sentinel_model::ids::Epoch;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most refused records that are kept.
const MAX_DEAD: usize = 1000;
/// How often commits are brought to the log, at most.
const SETTLE: Duration = Duration::from_secs(1);

impl Exporter {
    /// The first record in the queue is refused for what it is: keep its bytes here, and tell
    /// the server that it is skipped. Whether there was such a record.
    pub(super) fn bury(&mut self, reason: &str) -> bool {
        let Some(dead) = self.sending.bury() else { return false };
        let name = format!("{}-{}.batch", dead.epoch, dead.seq);
        tracing::error!(reason, file = %name, "the server refuses a record; its bytes are kept in the agent's folder `dead`");
        if let Err(error) = keep_dead(&self.parts.dead, &name, &dead.bytes) {
            tracing::error!(%error, "a refused record is not kept");
        }
        true
    }

    /// Tells the log what is committed, after the state of slots was made durable.
    pub(super) async fn settle(&mut self, now: bool) {
        if !now && self.settled_at.elapsed() < SETTLE {
            return;
        }
        self.settled_at = Instant::now();
        let states = Arc::clone(&self.parts.states);
        // Asked before the checkpoint: what it names is in it.
        let floor = states.floor();
        let kept = tokio::task::spawn_blocking(move || states.checkpoint()).await;
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::error!(%error, "records are not let go"),
            Err(error) => return tracing::error!(%error, "records are not let go"),
        }
        let current = Epoch(self.parts.log.epoch().0);
        for (epoch, committed) in self.sending.commits() {
            let seq = if epoch == current { committed.min(floor) } else { committed };
            // An epoch that is unknown was committed whole before.
            let _ = self.parts.log.commit(sentinel_wal::Epoch(epoch.0), seq);
        }
    }
}

/// Bytes that nobody takes are kept, up to a bound.
fn keep_dead(folder: &Path, name: &str, bytes: &Bytes) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    if std::fs::read_dir(folder)?.count() < MAX_DEAD {
        sentinel_files::replace(&folder.join(name), bytes, 0o600)?;
    }
    Ok(())
}
