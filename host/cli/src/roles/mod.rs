//! Starting what runs: each role, or all of them in one process.

pub(crate) mod agent;
mod apart;
pub(crate) mod bus;
pub(crate) mod config;
pub(crate) mod connect;
pub(crate) mod data;
mod evaluators;
mod health;
pub(crate) mod heartbeat;
mod join;
mod keys;
pub(crate) mod memory;
mod own;
pub(crate) mod own_registry;
pub(crate) mod registry;
pub(crate) mod sandbox;
pub(crate) mod server;
mod store;
pub(crate) mod up;
pub(crate) mod worker;

use std::io;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The hidden subcommand under which the binary compiles a plugin in a child of itself.
pub(crate) const COMPILE_CHILD: &str = "internal-compile";

/// Ctrl-C and SIGTERM. The first one asks to stop; the next one ends the process at once, since
/// whoever sends it does not want to wait, and everything here survives that.
pub(crate) struct StopSignal {
    asked: watch::Receiver<bool>,
    doing: watch::Sender<&'static str>,
}

impl StopSignal {
    /// Begins to listen; until then a signal ends the process.
    pub(crate) fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let (ask, asked) = watch::channel(false);
        let (doing, stopping) = watch::channel("stopping");
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            ask.send_replace(true);
            next().await;
            eprintln!(
                "Ended at once while {}: that was cut short. What was synced is safe, and the next start goes on from there.",
                *stopping.borrow()
            );
            std::process::exit(1);
        });
        Ok(Self { asked, doing })
    }

    /// Ends when it is time to stop.
    pub(crate) async fn asked(&mut self) {
        let _ = self.asked.wait_for(|asked| *asked).await;
    }

    /// Says what would be cut short from now on.
    pub(crate) fn doing(&self, what: &'static str) {
        self.doing.send_replace(what);
    }
}
