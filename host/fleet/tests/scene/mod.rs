//! Operators, sets, and a host's parts that do as they are told.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use crate::fixture::{Signed, registry::plugin};
use async_trait::async_trait;
use parking_lot::Mutex;
use sentinel_fleet::{
    ApplyError, Carrier, CarrierError, Follower, FollowerParts, Handle, Keeping, MemoryError,
    Place, SlotHealth, SlotKeeper, Wanted,
};
use sentinel_registry_client::{ClientError, PluginSource, SourceError};
use sentinel_trust::fleet::{
    DesiredSet, FleetId, Group, HostReport, Operators, SET_FORMAT, Wish, seal,
};
use sentinel_trust::repository::{KeyPurpose, PluginRange, ResolveError, RoleKey};
use sentinel_trust::{Digest, Grants, Kind, PluginName, TrustPolicy, VerifiedComponent};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Nothing in these tests takes so long.
pub const SOON: Duration = Duration::from_secs(20);

pub fn key(byte: u8) -> RoleKey {
    RoleKey::from_secret(KeyPurpose::Operator, &[byte; 32])
}

pub fn operators(byte: u8) -> Operators {
    Operators { fleet: FleetId([1; 16]), keys: vec![key(byte).public()] }
}

pub fn labels(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

/// A host of role web that runs collectors.
pub fn web() -> Place {
    Place { labels: labels("role=web"), kinds: vec![Kind::Collector], ..Place::default() }
}

/// A collector's plugin for a slot.
pub fn component(slot: &str, version: u64) -> Arc<VerifiedComponent> {
    let bytes = plugin(&format!("acme/{slot}"), &format!("{version}.0.0"));
    Arc::new(Signed::of_bytes(bytes).verify().expect("it is signed"))
}

pub fn wish(slot: &str, version: u64) -> Wish {
    Wish {
        slot: slot.to_owned(),
        kind: Kind::Collector,
        plugin: format!("acme/{slot}").parse().unwrap(),
        range: format!("^{version}").parse().unwrap(),
        version: format!("{version}.0.0").parse().unwrap(),
        digest: component(slot, version).digest(),
        config: serde_json::json!({}),
        grants: Grants::default(),
        collect: None,
        on_unknown: None,
        disabled: false,
    }
}

/// A set for hosts of role web.
pub fn set(number: u64, slots: Vec<Wish>) -> DesiredSet {
    DesiredSet {
        format: SET_FORMAT,
        fleet: FleetId([1; 16]),
        number,
        made_at: 0,
        by: "alice".into(),
        note: String::new(),
        groups: vec![Group { on: labels("role=web"), slots }],
    }
}

pub fn sealed(set: &DesiredSet) -> Vec<u8> {
    seal(set, &key(1)).unwrap().into_bytes()
}

/// A set of two slots whose plugins have its number as their version.
pub fn pair(number: u64) -> Vec<u8> {
    sealed(&set(number, vec![wish("a", number), wish("b", number)]))
}

/// What slots run in the pair of a number.
pub fn pair_runs(number: u64) -> BTreeMap<String, Digest> {
    ["a", "b"].map(|slot| (slot.to_owned(), component(slot, number).digest())).into()
}

/// Plugins that are there, or not yet, or never come.
pub struct Store {
    pub there: Mutex<BTreeMap<Digest, Arc<VerifiedComponent>>>,
    /// Whoever asks for what is not there waits for ever.
    pub hangs: Mutex<bool>,
    pub asked: Mutex<u64>,
    pub changes: watch::Sender<u64>,
}

impl Store {
    pub fn with(components: impl IntoIterator<Item = Arc<VerifiedComponent>>) -> Arc<Self> {
        let there = components.into_iter().map(|one| (one.digest(), one)).collect();
        Arc::new(Self {
            there: Mutex::new(there),
            hangs: Mutex::new(false),
            asked: Mutex::new(0),
            changes: watch::channel(0).0,
        })
    }

    pub fn of_pairs(numbers: impl IntoIterator<Item = u64>) -> Arc<Self> {
        Self::with(numbers.into_iter().flat_map(|n| [component("a", n), component("b", n)]))
    }

    pub fn bring(&self, components: impl IntoIterator<Item = Arc<VerifiedComponent>>) {
        self.there.lock().extend(components.into_iter().map(|one| (one.digest(), one)));
        self.changes.send_modify(|count| *count += 1);
    }
}

fn away(name: &PluginName) -> SourceError {
    ClientError::from(ResolveError::UnknownPublisher { publisher: name.publisher() }).into()
}

#[async_trait]
impl PluginSource for Store {
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        Err(away(&wanted.name))
    }

    async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        *self.asked.lock() += 1;
        let found = self.there.lock().get(&digest).cloned();
        if found.is_none() && *self.hangs.lock() {
            std::future::pending::<()>().await;
        }
        found.ok_or_else(|| away(name))
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        Err(away(&"acme/probe".parse().unwrap()))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Slots that run what they are told.
pub struct Slots {
    pub runs: watch::Sender<BTreeMap<String, Digest>>,
    /// Names of plugins' digests that do not load.
    pub broken: Mutex<BTreeSet<Digest>>,
    pub applied: Mutex<u64>,
    /// How often slots were kept, each for itself.
    pub kept: Mutex<u64>,
    /// Plugins that fail once they run, and whether they are given up.
    pub failing: watch::Sender<BTreeMap<Digest, bool>>,
    /// Counts what may change the slots' health.
    changes: watch::Sender<u64>,
    /// Slots that were stopped, in this order.
    pub stopped: Mutex<Vec<String>>,
    /// Whoever applies waits while it is held.
    pub gate: tokio::sync::Mutex<()>,
}

impl Slots {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            runs: watch::channel(BTreeMap::new()).0,
            broken: Mutex::default(),
            applied: Mutex::new(0),
            kept: Mutex::new(0),
            failing: watch::Sender::new(BTreeMap::new()),
            changes: watch::Sender::new(0),
            stopped: Mutex::default(),
            gate: tokio::sync::Mutex::default(),
        })
    }

    /// A plugin fails from now on, wherever it runs; whether its slots are given up.
    pub fn fails(&self, component: &VerifiedComponent, given_up: bool) {
        self.failing.send_modify(|all| {
            all.insert(component.digest(), given_up);
        });
        self.changes.send_modify(|count| *count += 1);
    }

    pub async fn until(&self, runs: &BTreeMap<String, Digest>) {
        let mut seen = self.runs.subscribe();
        let reached = seen.wait_for(|now| now == runs);
        tokio::time::timeout(SOON, reached).await.expect("the slots run this").unwrap();
    }
}

#[async_trait]
impl SlotKeeper for Slots {
    async fn apply(&self, set: Vec<Wanted>) -> Result<(), ApplyError> {
        *self.applied.lock() += 1;
        drop(self.gate.lock().await);
        for one in &set {
            let broken = |it: &Arc<VerifiedComponent>| self.broken.lock().contains(&it.digest());
            if one.component.as_ref().is_some_and(broken) {
                return Err(ApplyError(format!("slot {}: it panicked", one.wish.slot)));
            }
        }
        let runs = set
            .into_iter()
            .filter_map(|one| Some((one.wish.slot, one.component?.digest())))
            .collect();
        self.runs.send_replace(runs);
        Ok(())
    }

    async fn keep(&self, set: Vec<Keeping>) -> BTreeMap<String, String> {
        *self.kept.lock() += 1;
        let mut missing = BTreeMap::new();
        let mut runs = BTreeMap::new();
        for one in set {
            match one {
                Keeping::Ready(Wanted { wish, component: Some(component) }) => {
                    runs.insert(wish.slot, component.digest());
                }
                Keeping::Ready(Wanted { component: None, .. }) => {}
                Keeping::Waiting { wish, why } => {
                    if let Some(digest) = self.runs.borrow().get(&wish.slot) {
                        runs.insert(wish.slot.clone(), *digest);
                    }
                    missing.insert(wish.slot, why);
                }
            }
        }
        self.runs.send_replace(runs);
        missing
    }

    async fn stop(&self, slots: &BTreeSet<String>) {
        self.stopped.lock().extend(slots.iter().cloned());
        self.runs.send_modify(|runs| runs.retain(|slot, _| !slots.contains(slot)));
    }

    fn health(&self) -> SlotHealth {
        let (runs, failing) = (self.runs.borrow(), self.failing.borrow());
        let given_up = runs.iter().filter(|(_, digest)| failing.get(digest) == Some(&true));
        SlotHealth {
            failed: given_up
                .map(|(slot, _)| (slot.clone(), format!("slot `{slot}`: it trapped")))
                .collect(),
            failing: runs.values().any(|digest| failing.get(digest) == Some(&false)),
        }
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// Brings what the test sends.
pub struct Courier {
    bag: mpsc::UnboundedReceiver<Vec<u8>>,
    have: watch::Sender<Vec<u64>>,
}

#[async_trait]
impl Carrier for Courier {
    async fn next(&mut self, have: u64) -> Result<Vec<u8>, CarrierError> {
        self.have.send_modify(|asked| asked.push(have));
        match self.bag.recv().await {
            Some(sealed) => Ok(sealed),
            None => std::future::pending().await,
        }
    }

    fn reset(&mut self) {}
}

/// A host and whoever talks to it.
pub struct Host {
    pub store: Arc<Store>,
    pub slots: Arc<Slots>,
    pub handle: Handle,
    send: mpsc::UnboundedSender<Vec<u8>>,
    pub asked: watch::Receiver<Vec<u64>>,
}

impl Host {
    pub fn start(file: &Path, store: &Arc<Store>, slots: &Arc<Slots>) -> Self {
        Self::place(file, store, slots, web()).unwrap()
    }

    pub fn place(
        file: &Path,
        store: &Arc<Store>,
        slots: &Arc<Slots>,
        place: Place,
    ) -> Result<Self, MemoryError> {
        let follower = Follower::open(file.to_owned(), &operators(1))?;
        let (send, bag) = mpsc::unbounded_channel();
        let (have, asked) = watch::channel(Vec::new());
        let parts = FollowerParts {
            carrier: Box::new(Courier { bag, have }),
            plugins: Arc::clone(store) as Arc<_>,
            keeper: Arc::clone(slots) as Arc<_>,
        };
        let handle = follower.start(parts, place);
        Ok(Self { store: Arc::clone(store), slots: Arc::clone(slots), handle, send, asked })
    }

    pub fn offer(&self, sealed: Vec<u8>) {
        self.send.send(sealed).unwrap();
    }

    pub async fn reports(&self, what: &str, is: impl Fn(&HostReport) -> bool) -> HostReport {
        let mut reports = self.handle.reports();
        let reached = tokio::time::timeout(SOON, reports.wait_for(is)).await;
        match reached {
            Ok(report) => report.unwrap().clone(),
            Err(_) => panic!("{what}: {:?}", self.handle.report()),
        }
    }

    pub async fn refuses(&self, number: u64, word: &str) -> HostReport {
        let what = format!("refuses {number} for `{word}`");
        self.reports(&what, |report| {
            let refused = report.refused.as_ref();
            refused.is_some_and(|it| it.number == number && it.why.contains(word))
        })
        .await
    }
}
