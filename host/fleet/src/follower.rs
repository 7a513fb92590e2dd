//! The I/O around the [machine](crate::machine): the file, the fetching, the slots.

use crate::carrier::{Carrier, Offer, ask};
use crate::keeper::SlotKeeper;
use crate::machine::{Effect, Input, Machine, Outcome, Task, Work};
use crate::memory::{Memory, MemoryError};
use crate::place::Place;
use crate::work::{self, told};
use sentinel_registry_client::PluginSource;
use sentinel_trust::Digest;
use sentinel_trust::fleet::{HostReport, Operators};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What a follower works with.
pub struct FollowerParts {
    /// Brings sets.
    pub carrier: Box<dyn Carrier>,
    /// Gives plugins.
    pub plugins: Arc<dyn PluginSource>,
    /// Has the slots.
    pub keeper: Arc<dyn SlotKeeper>,
}

/// A host's knowledge of its fleet, read and not yet followed.
#[derive(Debug)]
pub struct Follower {
    file: PathBuf,
    memory: Memory,
}

/// A follower at work. Dropping it ends the work, and leaves the slots as they are.
#[derive(Debug)]
pub struct Handle {
    place: watch::Sender<Place>,
    report: watch::Receiver<HostReport>,
    needs: watch::Receiver<BTreeSet<Digest>>,
    begun: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Changes what a host is to its fleet.
#[derive(Debug, Clone)]
pub struct Placing(watch::Sender<Place>);

impl Placing {
    /// Says that the host's labels, slots or ceiling are others.
    pub fn change(&self, change: impl FnOnce(&mut Place)) {
        self.0.send_if_modified(|place| {
            let before = place.clone();
            change(place);
            *place != before
        });
    }
}

impl Follower {
    /// Reads what is known; blocks on the disk.
    ///
    /// # Errors
    /// [`MemoryError`]: nothing of the fleet may run then.
    pub fn open(file: PathBuf, operators: &Operators) -> Result<Self, MemoryError> {
        let memory = Memory::load(&file, operators)?;
        Ok(Self { file, memory })
    }

    /// Begins with the last good set and follows what is newer.
    #[must_use]
    pub fn start(self, parts: FollowerParts, place: Place) -> Handle {
        let began = Instant::now();
        let machine = Machine::new(self.memory, place.clone(), 0);
        let (place, placed) = watch::channel(place);
        let (report, reported) = watch::channel(machine.report());
        let (needs, needed) = watch::channel(machine.needs());
        let (begun, has_begun) = watch::channel(machine.has_begun());
        let (have, known) = watch::channel(machine.highest());
        let (stop, stopping) = watch::channel(false);
        let (offers, offered) = mpsc::channel(1);
        let FollowerParts { carrier, plugins, keeper } = parts;
        let changes = plugins.changes();
        let running = Running {
            file: self.file,
            machine,
            began,
            plugins,
            keeper,
            work: None,
            report,
            needs,
            begun,
            have,
        };
        let task = tokio::spawn(async move {
            let asking = tokio::spawn(ask(carrier, known, offers));
            running.run(offered, placed, changes, stopping).await;
            // It ends by itself, since nobody listens any more.
            let _ = asking.await;
        });
        Handle { place, report: reported, needs: needed, begun: has_begun, stop, task }
    }
}

impl Handle {
    /// Waits until the last good set runs, as far as it can without what is not there.
    pub async fn begun(&self) {
        let _ = self.begun.clone().wait_for(|begun| *begun).await;
    }

    /// Says that the host's labels, slots or ceiling are others.
    pub fn place(&self, change: impl FnOnce(&mut Place)) {
        Placing(self.place.clone()).change(change);
    }

    /// To say so from elsewhere.
    #[must_use]
    pub fn placing(&self) -> Placing {
        Placing(self.place.clone())
    }

    /// What operators are told.
    #[must_use]
    pub fn report(&self) -> HostReport {
        self.report.borrow().clone()
    }

    /// Changes with the report.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<HostReport> {
        self.report.clone()
    }

    /// What this host may come to run of its fleet, by digest: without it on the disk, it could
    /// not go on, or go back, without a network.
    #[must_use]
    pub fn needs(&self) -> BTreeSet<Digest> {
        self.needs.borrow().clone()
    }

    /// Begins nothing more; returns when no slot is being changed. The slots stay as they are.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let _ = self.task.await;
    }
}

/// Work under way.
struct Doing {
    id: u64,
    hurry: watch::Sender<bool>,
    task: JoinHandle<Outcome>,
}

struct Running {
    file: PathBuf,
    machine: Machine,
    began: Instant,
    plugins: Arc<dyn PluginSource>,
    keeper: Arc<dyn SlotKeeper>,
    work: Option<Doing>,
    report: watch::Sender<HostReport>,
    needs: watch::Sender<BTreeSet<Digest>>,
    begun: watch::Sender<bool>,
    have: watch::Sender<u64>,
}

impl Running {
    async fn run(
        mut self,
        mut offers: mpsc::Receiver<Offer>,
        mut placed: watch::Receiver<Place>,
        mut changes: watch::Receiver<u64>,
        mut stop: watch::Receiver<bool>,
    ) {
        self.take(Input::Woke).await;
        let mut plugins_live = true;
        let mut slots = self.keeper.changes();
        let mut slots_live = true;
        loop {
            let wake = self.machine.wakes_at();
            let input = tokio::select! {
                () = told(&mut stop) => break,
                ended = ended(&mut self.work) => {
                    let (work, outcome) = ended;
                    self.work = None;
                    Input::Ended { work, outcome }
                }
                offer = offers.recv() => {
                    let Some(Offer { sealed, useful }) = offer else { break };
                    let _ = useful.send(self.take(Input::Offered(sealed)).await);
                    continue;
                }
                changed = placed.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    Input::Placed(Box::new(placed.borrow_and_update().clone()))
                }
                changed = changes.changed(), if plugins_live => {
                    plugins_live = changed.is_ok();
                    Input::PluginsChanged
                }
                changed = slots.changed(), if slots_live => {
                    slots_live = changed.is_ok();
                    Input::Slots(self.keeper.health())
                }
                () = until(self.began, wake) => Input::Woke,
            };
            self.take(input).await;
        }
        if let Some(doing) = self.work.take() {
            doing.hurry.send_replace(true);
            let _ = doing.task.await;
        }
    }

    /// Milliseconds for the machine.
    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Tells the machine, and does what it says. Whether what was offered was of use.
    async fn take(&mut self, input: Input) -> bool {
        let mut useful = true;
        let mut needs_differ = matches!(input, Input::Placed(_));
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            for effect in self.machine.step(self.now(), rand::random(), input) {
                match effect {
                    Effect::Save(memory) => {
                        needs_differ = true;
                        inputs.push_back(Input::Saved(self.save(memory).await));
                    }
                    Effect::Hurry => {
                        if let Some(doing) = &self.work {
                            doing.hurry.send_replace(true);
                        }
                    }
                    Effect::Begin(work) => self.begin(work),
                    Effect::Look => inputs.push_back(Input::Slots(self.keeper.health())),
                    Effect::Stop(slots) => {
                        tracing::warn!(?slots, "slots are stopped that an operator disabled");
                        self.keeper.stop(&slots).await;
                    }
                    Effect::LeaveCarrier => useful = false,
                }
            }
        }
        if needs_differ {
            self.needs.send_replace(self.machine.needs());
        }
        self.have.send_if_modified(|have| {
            let highest = self.machine.highest();
            std::mem::replace(have, highest) != highest
        });
        self.report.send_if_modified(|report| {
            let now = self.machine.report();
            let differs = now != *report;
            *report = now;
            differs
        });
        self.begun.send_if_modified(|begun| !std::mem::replace(begun, self.machine.has_begun()));
        useful
    }

    async fn save(&self, memory: Memory) -> Result<(), String> {
        let file = self.file.clone();
        let saved = tokio::task::spawn_blocking(move || memory.save(&file)).await;
        saved.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }

    fn begin(&mut self, work: Work) {
        let (hurry, hurried) = watch::channel(false);
        let (plugins, keeper) = (Arc::clone(&self.plugins), Arc::clone(&self.keeper));
        let id = work.id;
        let task = tokio::spawn(async move {
            let Work { wishes, task, .. } = work;
            match task {
                Task::Apply => work::apply(wishes, plugins, keeper, hurried).await,
                Task::Keep => work::keep(wishes, plugins, keeper, hurried).await,
                Task::RollBack => work::roll_back(wishes, plugins, keeper, hurried).await,
            }
        });
        self.work = Some(Doing { id, hurry, task });
    }
}

async fn until(began: Instant, wake: Option<i64>) {
    match wake {
        None => std::future::pending().await,
        Some(at) => {
            let after = Duration::from_millis(u64::try_from(at).unwrap_or(0));
            tokio::time::sleep_until(began + after).await;
        }
    }
}

async fn ended(work: &mut Option<Doing>) -> (u64, Outcome) {
    match work {
        None => std::future::pending().await,
        Some(doing) => match (&mut doing.task).await {
            Ok(outcome) => (doing.id, outcome),
            Err(error) => (doing.id, Outcome::NotApplied(format!("this host failed: {error}"))),
        },
    }
}
