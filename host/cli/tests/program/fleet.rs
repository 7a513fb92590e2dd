//! An operator, and hosts that are played: they take what the server keeps, and say what the
//! test has them say.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sentinel_store::Store;
use sentinel_store::agents::{Claim, Heartbeat, NewAgent};
use sentinel_test_components::world;
use sentinel_trust::fleet::{DesiredSet, HostReport, Operators, RefusedSet, open};
use serde_json::{Value, json};

use super::registry::Everybody;
use super::server::{NOW, Served, TOKEN, Wishes};
use super::{Commands, Said};

/// The note of a set that hosts are on trial with for ever.
pub(crate) const TRIED: &str = "tried";

/// An operator with a registry, a server, and hosts.
pub(crate) struct Fleet {
    pub(crate) served: Served,
    pub(crate) all: Everybody,
    pub(crate) pins: Operators,
}

impl Fleet {
    /// Everything there, and nothing decided.
    pub(crate) fn new() -> Self {
        Self::with_hosts(Vec::new())
    }

    /// The same, with a server that goes by further names.
    pub(crate) fn with_hosts(hosts: Vec<String>) -> Self {
        let all = Everybody::new();
        all.approve_acme();
        let said = all.user.done(&["fleet", "init"]);
        let pins: Operators = serde_json::from_str(&said.data).unwrap();
        let operators = Some(pins.clone());
        let served = Served::start(&all.user, "served", Wishes { operators, hosts });
        Self { served, all, pins }
    }

    pub(crate) fn at(&self, server: &str, arguments: &[&str]) -> Said {
        self.all.user.run_with(arguments, &self.environment(server), "")
    }

    /// A command that is not waited for.
    pub(crate) fn command(&self, arguments: &[&str]) -> std::process::Command {
        self.all.user.command(arguments, &self.environment(&self.served.url))
    }

    fn environment<'a>(&'a self, server: &'a str) -> [(&'static str, &'a str); 5] {
        [
            ("SENTINEL_SERVER", server),
            ("SENTINEL_TOKEN", TOKEN),
            ("SENTINEL_REGISTRY", self.all.registry.url.as_str()),
            ("SENTINEL_ENROLMENT", "registry/enrolment.json"),
            ("USER", "alice"),
        ]
    }

    /// The set in force.
    pub(crate) fn set(&self) -> DesiredSet {
        let sets = self.served.runtime.block_on(self.served.store.fleet_sets(1)).unwrap();
        open(sets[0].sealed.as_bytes(), &self.pins, 0).unwrap().set().clone()
    }

    /// Publishes a version of a plugin that asks for something and has a port to configure.
    pub(crate) fn publish(&self, name: &str, version: &str, kind: &str, requests: Value) -> Said {
        let manifest = json!({
            "format": 1, "name": name, "version": version, "kind": kind, "contract": "0.1.0",
            "description": "Made for a test.", "license": "MIT", "requests": requests,
            "config_schema": {
                "type": "object", "additionalProperties": false,
                "properties": {"port": {"type": "integer"}},
            },
        });
        let manifest = serde_json::from_value(manifest).unwrap();
        let component = world(kind).component(|_| false);
        let plugin = sentinel_trust::embed(&component, &manifest).unwrap();
        self.all.user.write("made.wasm", plugin);
        self.all.done(&["plugin", "publish", "made.wasm", "--key", "acme.key"])
    }

    /// An agent that has enrolled, and says of each set what `judge` says: why not, or nothing.
    pub(crate) fn agent(
        &self,
        id: &str,
        labels: &[(&str, &str)],
        judge: fn(&DesiredSet) -> Option<String>,
    ) {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let agent = NewAgent {
            id: id.parse().unwrap(),
            hw_id: format!("{:064x}", id.bytes().map(u64::from).sum::<u64>()),
            hostname: id.to_owned(),
            version: "0.1.0".to_owned(),
            labels,
            wrapped_key: vec![1],
            claim: Claim([id.as_bytes()[0]; 32]),
        };
        let store = Arc::clone(&self.served.store);
        self.served.runtime.block_on(store.register_agent(agent, NOW)).unwrap();
        let (id, pins) = (id.to_owned(), self.pins.clone());
        self.served.runtime.block_on(say(&store, &id, &HostReport::default()));
        self.served.runtime.spawn(async move { play(store, id, pins, judge).await });
    }

    /// Two hosts that run whatever they are told.
    pub(crate) fn two_agents(&self) {
        self.agent("web-1", &[("role", "web")], |_| None);
        self.agent("db-1", &[("role", "db")], |_| None);
    }
}

impl Commands for Fleet {
    fn run(&self, arguments: &[&str]) -> Said {
        self.at(&self.served.url, arguments)
    }
}

pub(crate) async fn say(store: &Arc<dyn Store>, id: &str, report: &HostReport) {
    let report = json!({ "fleet": report, "slots": [] }).to_string();
    let beat = Heartbeat { id: id.parse().unwrap(), version: "0.1.0".to_owned(), report };
    store.save_heartbeat(beat, NOW).await.unwrap();
}

/// A host's side of the fleet, without anything that runs.
async fn play(
    store: Arc<dyn Store>,
    id: String,
    pins: Operators,
    judge: fn(&DesiredSet) -> Option<String>,
) {
    let mut report = HostReport::default();
    let mut seen = 0;
    loop {
        let newest = store.fleet_sets(1).await.unwrap().pop();
        if let Some(newest) = newest.filter(|set| set.number > seen) {
            seen = newest.number;
            let sealed = open(newest.sealed.as_bytes(), &pins, 0).unwrap();
            let (set, trial) = (sealed.set(), sealed.set().note == TRIED);
            match judge(set) {
                Some(why) => report.refused = Some(RefusedSet { number: seen, why }),
                None => report = HostReport { applied: seen, trial, ..HostReport::default() },
            }
            say(&store, &id, &report).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Passes everything on to the server, and does something before the first set is handed over.
pub(crate) fn stand_between(
    listener: TcpListener,
    server: String,
    first: impl Fn() + Send + Sync + 'static,
) {
    let (first, done) = (Arc::new(first), Arc::new(AtomicBool::new(false)));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut there = TcpStream::connect(&server).unwrap();
            let (mut back, mut from) = (client.try_clone().unwrap(), there.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut back));
            let (first, done) = (Arc::clone(&first), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = client.read(&mut bytes) {
                    if bytes.starts_with(b"PUT /v1/fleet ") && !done.swap(true, Ordering::SeqCst) {
                        first();
                    }
                    if there.write_all(&bytes[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}
