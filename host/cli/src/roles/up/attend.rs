//! What `up` does from when everything runs until it has ended.

use super::super::StopSignal;
use super::super::config::{Loaded, Part, READ_AT_START};
use super::super::own_registry::Folders;
use super::super::sandbox::Sandbox;
use super::{Plugins, Up, publish};
use crate::failure::with_causes;
use anyhow::{Context, Result};
use sentinel_registry_client::{HostPlugins, PluginSource};
use sentinel_trust::Digest;
use std::collections::BTreeSet;
use std::time::Duration;

/// How often the configuration and the plugins are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// Follows the configuration and the plugins until asked to stop.
pub(super) async fn attend(
    up: &Up,
    mut config: Loaded,
    folders: &mut Folders,
    (sandbox, stop): (&Sandbox, &mut StopSignal),
) {
    let Plugins { own, host, .. } = &up.plugins;
    let mut changes = host.changes();
    let mut metadata = own.change();
    loop {
        tokio::select! {
            () = stop.asked() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        publish(own, host, folders, false).await;
        // What the owner revokes counts at once.
        let now = own.change();
        if now != metadata {
            metadata = now;
            if let Err(error) = host.refresh().await {
                tracing::warn!(%error, "the registry was changed, and what it says now is not taken");
            }
        }
        if let Some(fresh) = config.again(Part::Whole, &**host).await {
            if let Ok(fresh) = &fresh {
                sandbox.follow(&fresh.config);
            }
            Box::pin(reconfigure(up, &mut config, fresh)).await;
        }
        if changes.has_changed().unwrap_or(false) {
            changes.mark_unchanged();
            // The agent looks by itself.
            apply_to_worker(up, &config).await;
        }
        let mut needed = up.agent.needs();
        needed.extend(up.worker.needs());
        keep_only(host, &needed).await;
    }
}

/// Removes plugins from this host's disk that nothing here needs any more.
pub(in crate::roles) async fn keep_only(host: &HostPlugins, needed: &BTreeSet<Digest>) {
    match host.needs(needed).await {
        Ok(0) => {}
        Ok(plugins) => tracing::info!(plugins, "removed plugins that are needed no more"),
        Err(error) => tracing::warn!(%error, "plugins that are needed no more stay on the disk"),
    }
}

async fn reconfigure(up: &Up, config: &mut Loaded, fresh: Result<Loaded>) {
    match fresh {
        Ok(fresh) => {
            if fresh.config.at_start() != config.config.at_start() {
                tracing::warn!("{READ_AT_START}");
            }
            *config = fresh;
            up.agent.reconfigure(config.config.agent.clone()).await;
            apply_to_worker(up, config).await;
            tracing::info!(file = %config.path.display(), "configuration applied");
        }
        Err(error) => {
            tracing::error!("{}; the configuration before it stays in force", with_causes(&error));
        }
    }
}

async fn apply_to_worker(up: &Up, config: &Loaded) {
    match up.worker.reconfigure(config.config.worker.clone()).await {
        Ok(problems) => {
            for (slot, problem) in problems {
                tracing::error!(%slot, problem, "slot not as configured");
            }
        }
        Err(error) => tracing::error!(%error, "the worker stays as it was"),
    }
}

/// Stops in the order of the way of a sample, so that what is under way gets through.
pub(super) async fn shut_down(up: Up, stop: &StopSignal) -> Result<()> {
    stop.doing("the agent was ending its collectors and closing its log");
    let agent = up.agent.shutdown().await;
    stop.doing("the server was ending requests");
    up.server.shutdown().await;
    stop.doing("the worker was storing samples and ending notifications");
    up.worker.shutdown().await;
    stop.doing("the bus and the database were being closed");
    let bus_closed = up.bus.close().await;
    let store = up.store.close().await;
    stop.doing("the registry was ending its requests");
    up.plugins.fresh.stop().await;
    up.plugins.serving.shutdown().await;
    agent.context("the agent did not stop cleanly")?;
    bus_closed.context("the bus did not stop cleanly")?;
    store.context("the database did not close cleanly")
}
