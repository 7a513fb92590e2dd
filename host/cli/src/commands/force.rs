//! `sentinel force-send`: an agent on this machine sends now.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use sentinel_agent::control::{ForceAnswer, ForceRequest};
use sentinel_model::duration::Millis;

use super::local::LocalAgent;
use crate::failure::Failure;
use crate::output::{Printer, human};

/// Options of `sentinel force-send`.
#[derive(Debug, Args)]
pub(crate) struct ForceSend {
    /// The data folder of the agent, or of its `up` [default: that of the running `up`, else the user's own]
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
    /// Send again from this record on, as `sentinel wal inspect` numbers them
    #[arg(long, value_name = "OFFSET")]
    from: Option<u64>,
    /// The epoch of that record [default: the newest]
    #[arg(long, value_name = "HEX", requires = "from")]
    epoch: Option<String>,
    /// How long to wait until all is in the database
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    wait: Millis,
}

pub(super) async fn run(command: ForceSend, printer: &Printer) -> Result<(), Failure> {
    let ForceSend { folder, from, epoch, wait } = command;
    let agent = LocalAgent::find(folder.as_deref())?;
    let request = ForceRequest { from, epoch, wait_ms: wait.0 };
    let waits = Duration::from_millis(wait.0);
    let answer = agent.ask(Method::POST, "/force-send", Some(&request), waits).await?;
    let answer: ForceAnswer = serde_json::from_value(answer)?;
    printer.data(&answer, |_| text(&answer))?;
    if answer.committed_all {
        return Ok(());
    }
    let pending = human::plural(answer.pending, "record");
    Err(match &answer.trouble {
        Some(trouble) => Failure::new(format!("{pending} not in the database yet: {trouble}"))
            .hint("nothing is lost: the agent keeps them and tries again by itself"),
        None => Failure::new(format!("{pending} not in the database yet after {wait}"))
            .hint("a longer --wait; `sentinel status` shows whether workers are behind"),
    })
}

fn text(answer: &ForceAnswer) -> String {
    let ForceAnswer { accepted, committed, pending, .. } = answer;
    let mut lines = vec![format!("accepted {accepted}, committed {committed}, pending {pending}")];
    for one in &answer.offsets {
        lines.push(format!(
            "epoch {}: written {}, synced {}, accepted {}, committed {}",
            one.epoch, one.written, one.synced, one.accepted, one.committed
        ));
    }
    lines.join("\n")
}
