//! Who keeps alerts: evaluates all rules, routes, delivers, and maintains the store.
//!
//! Every worker commits samples; one of them keeps alerts. Where a worker may not be the only one, that is whoever has
//! the lease [`LEASE`]; the others stand by.
//!
//! | what | then |
//! |---|---|
//! | nobody has the lease, or its time is over | whoever asks first has it, and begins with what is stored |
//! | it stops in order | evaluations and attempts under way end, the lease is released, another has it at once |
//! | it dies, or stands still | the lease is over after [`LASTS`]; an attempt that was begun counts as one whose outcome is not known |
//! | it goes on after that | the first thing that it writes is refused: its term is over, and it stands by |
//! | whoever begins | has the windows of rules from what the one before kept of them and from the tail (`checkpoint`), else from history |
//! | the store does not answer | it goes on as soon as it does, unless another worker has the lease by then |

use crate::checkpoint::Checkpoint;
use crate::clock::Clock;
use crate::config::SelfWatchConfig;
use crate::evaluate::{EvaluateParts, Evaluation, RulesStatus, SharedRulesStatus};
use crate::feed;
use crate::kv::SlotStates;
use crate::metrics::Metrics;
use crate::notify::{LaneStatus, Notifications, NotifyParts};
use crate::patience::Patience;
use crate::stages::Stages;
use crate::stop::stopped;
use crate::term::Term;
use crate::upkeep;
use crate::windows::Windows;
use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock};
use sentinel_alerting::routing::Routing;
use sentinel_model::duration::Millis;
use sentinel_store::Store;
use sentinel_store::lease::Fence;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The lease of whoever keeps alerts.
pub const LEASE: &str = "alerting";
/// How long it lasts unless it is kept.
pub const LASTS: Millis = Millis(10_000);
/// How often it is kept.
const KEEP_EVERY: Duration = Duration::from_secs(2);
/// How often those that stand by ask for it.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// What the duties are done with.
pub(crate) struct Keeper {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) stages: Arc<ArcSwap<Stages>>,
    pub(crate) windows: Arc<RwLock<Windows>>,
    pub(crate) routing: Arc<ArcSwap<Routing>>,
    pub(crate) states: Arc<SlotStates>,
    pub(crate) watch: SelfWatchConfig,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
    pub(crate) settle: Duration,
    pub(crate) caught_up: Arc<AtomicBool>,
    /// Told when there may be other rules or evaluators.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) maintain: bool,
    /// The most notifications of one notifier that are held in memory.
    pub(crate) queued: usize,
    /// The duties, while this worker has them.
    pub(crate) duties: Mutex<Option<Duties>>,
}

/// The duties of one term, being done.
pub(crate) struct Duties {
    notifications: Notifications,
    rules: SharedRulesStatus,
    stop: watch::Sender<bool>,
    /// Aborted when it is dropped.
    tasks: JoinSet<()>,
}

impl Duties {
    /// Ends evaluations and attempts under way, and begins none.
    async fn drain(mut self) {
        self.stop.send_replace(true);
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a duty ended in a panic");
            }
        }
        self.notifications.drained().await;
    }
}

impl Keeper {
    /// Begins the duties with what is stored; waits for the store.
    pub(crate) async fn begin(&self, term: &Term, is_alone: bool) {
        let (stop, stopping) = watch::channel(false);
        self.caught_up.store(false, Ordering::Relaxed);
        self.metrics.notifications_open.set(0);
        *self.windows.write() = Windows::default();
        let mut tasks = JoinSet::new();
        // Others may have written since this worker read it, and committed what it does not see.
        let patience = Patience::new("alerts cannot be kept yet", self.metrics.clone());
        if !is_alone {
            patience.until(|| self.states.read_again()).await;
        }
        let from = patience.until(|| self.store.tail_end()).await;
        self.windows.write().stands_at(from);
        let poll = if is_alone { feed::POLL_ALONE } else { feed::POLL };
        let feeding = feed::feed(Arc::clone(&self.store), Arc::clone(&self.windows), poll);
        let (of, mut until) = (term.clone(), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = of.within(feeding) => {}
                () = stopped(&mut until) => {}
            }
        });
        let notify = NotifyParts {
            store: Arc::clone(&self.store),
            stages: Arc::clone(&self.stages),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            queued: self.queued,
            states: Arc::clone(&self.states),
            term: term.clone(),
        };
        let notifications = Notifications::start(notify, stopping.clone()).await;
        let evaluation = Evaluation::restore(EvaluateParts {
            store: Arc::clone(&self.store),
            stages: Arc::clone(&self.stages),
            windows: Arc::clone(&self.windows),
            notifications: notifications.clone(),
            routing: Arc::clone(&self.routing),
            watch: self.watch.clone(),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            settle: self.settle,
            caught_up: Arc::clone(&self.caught_up),
            term: term.clone(),
        })
        .await;
        let rules = evaluation.status();
        let evaluating = evaluation.run(self.changed.subscribe(), stopping.clone());
        let of = term.clone();
        tasks.spawn(async move { of.within(evaluating).await });
        let checkpoint = Checkpoint {
            store: Arc::clone(&self.store),
            windows: Arc::clone(&self.windows),
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
            term: term.clone(),
        };
        let (of, mut until) = (term.clone(), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = of.within(checkpoint.keep()) => {}
                () = stopped(&mut until) => {}
            }
        });
        if self.maintain {
            let (store, clock) = (Arc::clone(&self.store), Arc::clone(&self.clock));
            let (term, maintaining) = (term.clone(), upkeep::maintain(store, clock, stopping));
            tasks.spawn(async move { term.within(maintaining).await });
        }
        self.metrics.keeps_alerts.set(1);
        *self.duties.lock() = Some(Duties { notifications, rules, stop, tasks });
    }

    /// Ends them in order, if this worker has them.
    pub(crate) async fn drain(&self) {
        let duties = self.duties.lock().take();
        if let Some(duties) = duties {
            duties.drain().await;
        }
        self.metrics.keeps_alerts.set(0);
    }

    /// Keeps alerts whenever this worker has the lease, until `stop`.
    pub(crate) async fn serve(self: Arc<Self>, holder: String, mut stop: watch::Receiver<bool>) {
        loop {
            let fence = tokio::select! {
                () = stopped(&mut stop) => return,
                fence = self.take(&holder) => fence,
            };
            tracing::info!("this worker keeps alerts from now on");
            let term = Term::under(fence.clone());
            let keeping = tokio::spawn(keep(Arc::clone(&self.store), fence.clone(), term.clone()));
            tokio::select! {
                () = stopped(&mut stop) => {}
                () = term.within(self.begin(&term, false)) => {}
            }
            tokio::select! {
                () = stopped(&mut stop) => {}
                () = term.over() => {}
            }
            if !term.is_over() {
                // Those under way end first; another worker would take them for broken off.
                term.within(self.drain()).await;
            }
            let is_lost = term.is_over();
            term.end();
            self.drain().await;
            let _ = keeping.await;
            *self.windows.write() = Windows::default();
            if is_lost {
                tracing::warn!("another worker keeps alerts by now; this one stands by");
            } else if let Err(error) = self.store.release_lease(&fence).await {
                tracing::warn!(%error, "the next worker keeps alerts a little later");
            }
        }
    }

    async fn take(&self, holder: &str) -> Fence {
        let (mut waits, mut trouble) = (false, false);
        loop {
            match self.store.take_lease(LEASE, holder, LASTS).await {
                Ok(Some(fence)) => return fence,
                Ok(None) => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::info!("another worker keeps alerts; this one stands by");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(%error, "the store does not say who keeps alerts; asked until it does");
                    }
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// Tells the lanes that there may be other notifiers.
    pub(crate) fn notifiers_changed(&self) {
        if let Some(duties) = &*self.duties.lock() {
            duties.notifications.notifiers_changed();
        }
    }

    /// What the duties say of themselves: rules and alerts, and the notifiers.
    pub(crate) fn status(&self) -> Option<(RulesStatus, Vec<LaneStatus>)> {
        let duties = self.duties.lock();
        let status = |of: &Duties| (of.rules.read().clone(), of.notifications.status());
        duties.as_ref().map(status)
    }
}

/// Keeps the lease until its term is over.
async fn keep(store: Arc<dyn Store>, fence: Fence, term: Term) {
    let keeping = async {
        let mut trouble = false;
        loop {
            tokio::time::sleep(KEEP_EVERY).await;
            let kept = store.keep_lease(&fence, LASTS).await;
            term.heed(&kept);
            match kept {
                Ok(()) => trouble = false,
                Err(error) => {
                    if !std::mem::replace(&mut trouble, true) {
                        tracing::warn!(%error, "the lease of who keeps alerts could not be kept");
                    }
                }
            }
        }
    };
    term.within(keeping).await;
}
