//! Keeping a host's knowledge fresh: asking the registry in time, and noticing what other
//! processes of the host did.

use std::sync::{Arc, Weak};
use std::time::Duration;

use sentinel_trust::repository::Interest;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{HostPlugins, told};
use crate::files::Stamp;

/// How often the files of the folder are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// The first wait after a registry did not answer; doubled each time, up to the usual one.
const AGAIN: Duration = Duration::from_secs(15);
/// How long a host runs before it asks a registry that it has not asked for long: what is
/// there already starts first.
const AFTER_START: Duration = Duration::from_secs(10);

/// Keeps a host's knowledge fresh until it is stopped or dropped.
#[derive(Debug)]
pub struct Freshness {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Freshness {
    /// Stops, and waits for what is under way.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // It ends by itself, unless the runtime is ending.
        let _ = self.task.await;
    }
}

impl HostPlugins {
    /// Begins to keep it fresh, in a task of its own: the registry is asked as often as the
    /// options say, earlier after a failure; a change is told by
    /// [`changes`](crate::PluginSource::changes). Needs a runtime of tokio.
    #[must_use]
    pub fn keep_fresh(self: &Arc<Self>) -> Freshness {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(run(Arc::downgrade(self), stopped));
        Freshness { stop, task }
    }

    /// Asks the registry now for what is new of those whose plugins are known here.
    ///
    /// # Errors
    /// Pins that cannot be read; a registry that does not answer, or answers what is refused;
    /// then all stays as it was.
    pub async fn refresh(&self) -> Result<(), crate::SourceError> {
        let pinned = self.pins()?.into_iter().map(|pin| pin.range.name.publisher()).collect();
        self.client.refresh(Interest::Only(pinned), self.now()).await?;
        self.tell_of_what_differs();
        Ok(())
    }

    /// Tells of it where the metadata says otherwise than what was told of last.
    pub(super) fn tell_of_what_differs(&self) {
        let now = told(&self.client.view());
        let mut last = self.told.lock();
        if *last != now {
            *last = now;
            drop(last);
            self.tell();
        }
    }

    /// How long until the registry is to be asked.
    fn due(&self) -> Duration {
        let age = self.now().saturating_sub(self.client.view().refreshed_at());
        match u64::try_from(age) {
            Ok(age) => sooner(self.refresh).saturating_sub(Duration::from_millis(age)),
            // The clock went back: what is known is of no known age.
            Err(_) => Duration::ZERO,
        }
    }

    /// What other processes of this host did.
    async fn look(&self, trusted: &mut Option<Stamp>) {
        let file = self.folder.join("trusted");
        let stamp = std::fs::metadata(file).ok().as_ref().map(Stamp::of);
        if *trusted != stamp {
            *trusted = stamp;
            if let Err(error) = self.client.reload().await {
                tracing::error!(%error, "what this host trusts was not read again");
            }
        }
        self.tell_of_what_differs();
        if self.pins.looks_otherwise() {
            self.tell();
        }
    }
}

/// Up to a tenth earlier, so that the hosts of a fleet do not all come at once.
fn sooner(wait: Duration) -> Duration {
    let mut random = [0; 1];
    // Without randomness they come at once, which a registry survives.
    let _ = getrandom::fill(&mut random);
    wait.mul_f64(1.0 - f64::from(random[0]) / 2550.0)
}

async fn run(host: Weak<HostPlugins>, mut stop: watch::Receiver<bool>) {
    let mut trusted = None;
    let (mut ask_at, mut again) = match host.upgrade() {
        Some(host) => (Instant::now() + host.due().max(AFTER_START.min(host.refresh)), AGAIN),
        None => return,
    };
    loop {
        let look_at = Instant::now() + LOOK;
        tokio::select! {
            // An error means that nobody is left who could stop it.
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep_until(look_at.min(ask_at)) => {}
        }
        let Some(host) = host.upgrade() else { return };
        host.look(&mut trusted).await;
        if Instant::now() < ask_at {
            continue;
        }
        let asked = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            asked = host.refresh() => asked,
        };
        let wait = match asked {
            Ok(()) => {
                again = AGAIN;
                sooner(host.refresh)
            }
            Err(error) => {
                let wait = again.min(host.refresh);
                again = again.saturating_mul(2);
                tracing::warn!(%error, seconds = wait.as_secs(), "the registry is asked again; what is installed goes on");
                sooner(wait)
            }
        };
        ask_at = Instant::now() + wait;
    }
}
