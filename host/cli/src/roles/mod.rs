//! Starting what runs: each role, or all of them in one process.

pub(crate) mod agent;
mod config;
mod connect;
mod data;
pub(crate) mod memory;
pub(crate) mod up;

/// The hidden subcommand under which the binary compiles a plugin in a child of itself.
pub(crate) const COMPILE_CHILD: &str = "internal-compile";

/// Ends at Ctrl-C or SIGTERM.
async fn asked_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
        }
        Err(_) => drop(interrupt.await),
    }
}
