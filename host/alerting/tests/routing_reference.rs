//! Routing against a slow and obvious reference, which looks at everything in every second, keeps
//! no timer, and never restarts.

mod desk;

use desk::{Desk, told};
use proptest::prelude::*;
use sentinel_alerting::routing::People;
use sentinel_model::attention::{Acknowledgement, Silence};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const SECOND: i64 = 1_000;
const LAST: i64 = 150;
const AGENTS: [&str; 2] = ["a", "b"];
const RULES: [&str; 3] = ["cpu", "disk", "down"];

/// Rule and agent.
type Who = (usize, usize);

#[derive(Debug, Clone)]
enum Event {
    Fire(Who),
    Resolve(Who),
    /// Agent, seconds.
    Silence(usize, i64),
    Unsilence,
    /// An alert, and after how many seconds it lapses.
    Acknowledge(Who, Option<i64>),
    Restart,
    /// The process ends after it decided and before that is stored.
    Crash,
}

fn config() -> serde_json::Value {
    json!({
        "routes": {
            "notify": ["n0"], "group_by": ["agent"],
            "group_wait": "3s", "group_interval": "7s", "repeat_interval": "40s",
            "routes": [
                {"match": ["rule=disk"], "notify": ["n1"], "continue": true, "group_by": [],
                 "group_wait": "0", "escalate": [
                    {"after": "11s", "notify": ["boss"]}, {"after": "25s", "notify": ["n1"]},
                 ]},
                {"match": ["rule=~disk|down"], "notify": ["n2"], "repeat_interval": "0"},
            ],
        },
        "inhibit": [{"source": ["rule=down"], "target": ["rule=cpu"], "equal": ["agent"]}],
    })
}

/// A route of the configuration above.
struct Route {
    rules: &'static [usize],
    notify: &'static str,
    by_agent: bool,
    wait: i64,
    repeat: i64,
    escalate: &'static [(i64, &'static str)],
}

const ROUTES: [Route; 3] = [
    Route { rules: &[0], notify: "n0", by_agent: true, wait: 3, repeat: 40, escalate: &[] },
    Route {
        rules: &[1],
        notify: "n1",
        by_agent: false,
        wait: 0,
        repeat: 40,
        escalate: &[(11, "boss"), (25, "n1")],
    },
    Route { rules: &[1, 2], notify: "n2", by_agent: true, wait: 3, repeat: 0, escalate: &[] },
];
const INTERVAL: i64 = 7;

#[derive(Default)]
struct Group {
    opened: Option<i64>,
    last: Option<i64>,
    /// Incident, first told, last told, steps of the escalation.
    told: BTreeMap<Who, (u64, i64, i64, usize)>,
    escalated: BTreeSet<&'static str>,
}

/// What is, as of a second.
#[derive(Default)]
struct World {
    /// Incident of each alert that fires.
    firing: BTreeMap<Who, u64>,
    incidents: BTreeMap<Who, u64>,
    /// Agent, from, to.
    silences: Vec<(usize, i64, i64)>,
    owned: BTreeMap<Who, (u64, Option<i64>)>,
    groups: BTreeMap<(usize, usize), Group>,
}

fn name(who: Who, over: bool) -> String {
    let sign = if over { "-" } else { "" };
    format!("{sign}{}{{{}}}", RULES[who.0], AGENTS[who.1])
}

/// As [`told`] writes it.
fn line(notifier: &str, firing: &[Who], over: &[Who]) -> Option<String> {
    let mut all: Vec<String> = firing.iter().map(|who| name(*who, false)).collect();
    all.sort();
    let mut ended: Vec<String> = over.iter().map(|who| name(*who, true)).collect();
    ended.sort();
    let status = if firing.is_empty() { "resolved" } else { "firing" };
    all.extend(ended);
    (!all.is_empty()).then(|| format!("{notifier} {status} {}", all.join(" ")))
}

impl World {
    fn is_muted(&self, now: i64, who: Who) -> bool {
        let silenced = self.silences.iter().any(|s| s.0 == who.1 && s.1 <= now && now < s.2);
        let owned = self.owned.get(&who).is_some_and(|(incident, until)| {
            *incident == self.incidents[&who] && until.is_none_or(|until| now < until)
        });
        let inhibited = who.0 == 0 && self.firing.contains_key(&(2, who.1));
        silenced || owned || inhibited
    }

    fn second(&mut self, now: i64) -> Vec<String> {
        let mut lines = Vec::new();
        for (r, route) in ROUTES.iter().enumerate() {
            for agent in 0..if route.by_agent { AGENTS.len() } else { 1 } {
                let mut group = self.groups.remove(&(r, agent)).unwrap_or_default();
                lines.extend(self.look(now, route, agent, &mut group));
                let is_over = group.told.is_empty() && !self.takes(route, agent).any(|_| true);
                if !is_over {
                    self.groups.insert((r, agent), group);
                }
            }
        }
        lines.sort();
        lines
    }

    fn takes<'a>(&'a self, route: &'a Route, agent: usize) -> impl Iterator<Item = Who> + 'a {
        let mine =
            move |who: &&Who| route.rules.contains(&who.0) && (!route.by_agent || who.1 == agent);
        self.firing.keys().filter(mine).copied()
    }

    fn look(&self, now: i64, route: &Route, agent: usize, group: &mut Group) -> Vec<String> {
        let firing: Vec<Who> = self.takes(route, agent).collect();
        if firing.is_empty() && group.told.is_empty() {
            return Vec::new();
        }
        let opened = *group.opened.get_or_insert(now);
        let known = |who: &Who| group.told.get(who).is_some_and(|t| t.0 == self.firing[who]);
        let audible: Vec<Who> =
            firing.iter().copied().filter(|who| !self.is_muted(now, *who)).collect();
        let mut news: Vec<Who> = audible.iter().copied().filter(|who| !known(who)).collect();
        let mut over: Vec<Who> =
            group.told.keys().copied().filter(|who| !firing.contains(who)).collect();
        if now < group.last.map_or(opened + route.wait, |last| last + INTERVAL) {
            news.clear();
            over.clear();
        }
        let on: Vec<Who> = audible.iter().copied().filter(|who| known(who)).collect();
        let repeats: Vec<Who> = on
            .iter()
            .copied()
            .filter(|who| route.repeat > 0 && now >= group.told[who].2 + route.repeat)
            .collect();
        let mut lines = Vec::new();
        let said: Vec<Who> = news.iter().chain(&repeats).copied().collect();
        lines.extend(line(route.notify, &said, &over));
        let higher: Vec<Who> = over.iter().copied().filter(|who| group.told[who].3 > 0).collect();
        for (step, (after, to)) in route.escalate.iter().enumerate() {
            let due: Vec<Who> = on
                .iter()
                .copied()
                .filter(|who| group.told[who].3 <= step && now >= group.told[who].1 + after)
                .collect();
            lines.extend(line(to, &due, &[]));
            for who in due {
                group.told.get_mut(&who).unwrap().3 = step + 1;
                group.escalated.insert(to);
            }
        }
        for to in group.escalated.iter().filter(|to| **to != route.notify) {
            lines.extend(line(to, &[], &higher));
        }
        if !(said.is_empty() && over.is_empty()) {
            group.last = Some(now);
        }
        for who in over {
            group.told.remove(&who);
        }
        for who in news {
            group.told.insert(who, (self.firing[&who], now, now, 0));
        }
        for who in repeats {
            group.told.get_mut(&who).unwrap().2 = now;
        }
        lines
    }

    fn people(&self) -> People {
        let silence = |(i, (agent, from, to)): (usize, &(usize, i64, i64))| Silence {
            id: format!("sil_{i}"),
            matchers: vec![format!("agent={}", AGENTS[*agent])],
            starts_at: from * SECOND,
            ends_at: to * SECOND,
            author: "ann".into(),
            reason: "r".into(),
            created_at: 0,
            ended_by: None,
        };
        let owned = |(who, (incident, until)): (&Who, &(u64, Option<i64>))| {
            let labels = [("agent", AGENTS[who.1])].into_iter().collect();
            Acknowledgement {
                fingerprint: sentinel_model::alert::Fingerprint::of(RULES[who.0], &labels),
                incident: *incident,
                owner: "ann".into(),
                note: String::new(),
                at: 0,
                until: until.map(|second| second * SECOND),
                before: Vec::new(),
            }
        };
        let silences = self.silences.iter().enumerate().map(silence).collect();
        People::new(silences, self.owned.iter().map(owned).collect())
    }
}

fn events() -> impl Strategy<Value = BTreeMap<i64, Vec<Event>>> {
    let who = || (0..RULES.len(), 0..AGENTS.len());
    let event = prop_oneof![
        6 => who().prop_map(Event::Fire),
        5 => who().prop_map(Event::Resolve),
        1 => (0..AGENTS.len(), 1i64..60).prop_map(|(agent, long)| Event::Silence(agent, long)),
        1 => Just(Event::Unsilence),
        2 => (who(), prop::option::of(1i64..40)).prop_map(|(who, l)| Event::Acknowledge(who, l)),
        2 => Just(Event::Restart),
        2 => Just(Event::Crash),
    ];
    let at = prop::collection::vec((0..LAST - 60, event), 1..60);
    at.prop_map(|all| {
        let mut by_second: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
        for (second, event) in all {
            by_second.entry(second).or_default().push(event);
        }
        by_second
    })
}

/// Does to both what happened; whether the process is to crash after it decided.
fn happen(world: &mut World, desk: &mut Desk, now: i64, event: &Event) -> bool {
    let agent = |who: &Who| [("agent", AGENTS[who.1])];
    match event {
        Event::Fire(who) => {
            if !world.firing.contains_key(who) {
                let incident = world.incidents.entry(*who).or_default();
                *incident += 1;
                world.firing.insert(*who, *incident);
                desk.fire(now * SECOND, RULES[who.0], &agent(who));
            }
        }
        Event::Resolve(who) => {
            if world.firing.remove(who).is_some() {
                desk.resolve(now * SECOND, RULES[who.0], &agent(who));
            }
        }
        Event::Silence(agent, long) => {
            world.silences.push((*agent, now, now + long));
            desk.people(now * SECOND, world.people());
        }
        Event::Unsilence => {
            world.silences.clear();
            desk.people(now * SECOND, world.people());
        }
        Event::Acknowledge(who, long) => {
            if let Some(incident) = world.firing.get(who) {
                world.owned.insert(*who, (*incident, long.map(|long| now + long)));
                desk.people(now * SECOND, world.people());
            }
        }
        Event::Restart => desk.restart(now * SECOND),
        Event::Crash => return true,
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn every_second_the_same_is_told_whatever_ends_the_process(events in events()) {
        let (mut world, mut desk) = (World::default(), Desk::new(config()));
        let (mut ids, mut tidings) = (BTreeSet::new(), 0);
        for now in 0..LAST {
            let mut crash = false;
            for event in events.get(&now).into_iter().flatten() {
                crash |= happen(&mut world, &mut desk, now, event);
            }
            let mut lost = None;
            if crash {
                lost = Some(desk.propose(now * SECOND).decided);
                desk.restart(now * SECOND);
            }
            let due = desk.router.is_due(now * SECOND);
            let decided = if due { desk.step(now * SECOND) } else { Vec::new() };
            prop_assert_eq!(told(&decided), world.second(now), "in second {}", now);
            if let Some(lost) = lost {
                let id = |d: &sentinel_model::alert::Delivery| d.notification.id.clone();
                let lost: BTreeSet<String> = lost.iter().map(id).collect();
                prop_assert_eq!(lost, decided.iter().map(id).collect::<BTreeSet<_>>());
            }
            for delivery in &decided {
                prop_assert!(ids.insert(delivery.notification.id.clone()), "an id came twice");
                tidings += 1;
            }
        }
        prop_assert_eq!(ids.len(), tidings);
    }
}
