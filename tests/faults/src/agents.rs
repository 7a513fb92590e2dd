//! The agents that count.

use crate::rules::WAVES;

/// Those of machines of their own, which are named as their processes are.
pub const AGENTS: [&str; 2] = ["agent-1", "agent-2"];

/// The configuration of one that makes so many rows ten times a second; `more` are further lines of
/// its part `agent`, indented by two.
#[must_use]
pub fn config(name: &str, rows: u32, more: &str) -> String {
    format!(
        "version: 1\nagent:\n  id: {name}\n  interval: 100ms\n  heartbeat: 500ms\n{more}  \
         collectors:\n    - slot: counter\n      plugin: sentinel/counter\n      \
         config: {{slot: counter, rows: {rows}, series: 7, {WAVES}}}\n      \
         grants: {{kv: {{max_bytes: 4096}}}}\n"
    )
}

/// Those that wait for an operator, who lets them in: they are of one machine, and whichever enrols
/// later has to wait. `log` is what one said, and `approve` says whether it was let in.
#[derive(Debug)]
pub struct Waiting(Vec<&'static str>);

impl Waiting {
    /// All of them may have to.
    #[must_use]
    pub fn all() -> Self {
        Self(AGENTS.to_vec())
    }

    /// Lets in whoever says that it waits.
    pub fn let_in(&mut self, log: impl Fn(&str) -> String, approve: impl Fn(&str) -> bool) {
        self.0.retain(|name| {
            let asks = log(name).contains("an operator must approve it");
            !(asks && approve(name))
        });
    }
}
