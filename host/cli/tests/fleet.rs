//! A fleet from its operator's key to what hosts say, by the commands that an operator uses,
//! against a real server and a real registry.

mod program;

use std::collections::BTreeMap;
use std::io::BufRead;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use program::Commands;
use program::fleet::{Fleet, TRIED, say, stand_between};
use program::server::{NOW, Served, Wishes};
use sentinel_store::agents::{Claim, NewAgent};
use sentinel_store::fleet::StoredSet;
use sentinel_trust::Kind;
use sentinel_trust::fleet::{DesiredSet, HostReport, Operators, open, seal};
use sentinel_trust::repository::RoleKey;
use serde_json::{Value, json};

#[test]
fn an_operator_begins_with_a_key_that_is_private_and_never_overwritten() {
    let fleet = Fleet::new();
    let key = fleet.all.user.path(".config/sentinel/operator.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let again = fleet.refused(&["fleet", "init"]);
    assert!(again.contains("operator.key is there already"), "{again}");
    let other = fleet.done(&["fleet", "init", "--key", "other.key"]);
    assert!(other.talk.contains("other.fleet"), "{}", other.talk);
    let pins: Operators = serde_json::from_str(&other.data).unwrap();
    assert_ne!(pins.fleet, fleet.pins.fleet);
    assert_eq!(fleet.json(&["fleet", "operators"]), serde_json::to_value(&fleet.pins).unwrap());
    for arguments in [&["fleet", "history"][..], &["fleet", "status"]] {
        let said = fleet.done(arguments);
        assert!(said.talk.contains("nothing was decided yet"), "{}", said.talk);
    }
    let wrong = fleet.refused(&["plugin", "disable", "x", "--key", "other.key"]);
    assert!(wrong.contains("and your key is for"), "{wrong}");
}

#[test]
fn a_plugin_reaches_the_hosts_that_it_is_for_and_they_are_waited_for() {
    let fleet = Fleet::new();
    fleet.two_agents();
    fleet.publish("acme/toy", "1.0.0", "collector", json!({"system": true}));
    let install = fleet.done(&[
        "plugin",
        "install",
        "acme/toy@^1",
        "--on",
        "role=web",
        "--grant",
        "system",
        "--set",
        "port=80",
        "--interval",
        "30s",
        "--label",
        "team=core",
        "--note",
        "we need it",
    ]);
    assert_eq!(install.data, "1\n");
    for part in [
        "acme/toy 1.0.0 (collector): Made for a test.",
        "asks for system: readings of the machine",
        "+ toy on role=web: runs acme/toy@1.0.0",
        "may use system: readings of the machine",
        "config {\"port\":80}",
        "set 1 is in force",
        "web-1 runs set 1",
    ] {
        assert!(install.talk.contains(part), "{part}: {}", install.talk);
    }
    assert!(!install.talk.contains("db-1"), "{}", install.talk);
    let set = fleet.set();
    let wish = &set.groups[0].slots[0];
    assert_eq!((set.by.as_str(), set.note.as_str()), ("alice", "we need it"));
    assert_eq!((wish.kind, wish.range.to_string().as_str()), (Kind::Collector, "^1"));
    assert_eq!(wish.collect.as_ref().unwrap().interval_ms, Some(30_000));

    // What workers run is for all of them, and nothing is asked of who asks for nothing.
    fleet.publish("acme/shape", "0.1.0", "transform", json!({}));
    let shape = fleet.done(&["plugin", "install", "acme/shape", "--slot", "rows"]);
    assert!(shape.talk.contains("it concerns no host that has enrolled"), "{}", shape.talk);
    let status = fleet.run(&["fleet", "status", "--json"]).data;
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["number"], 2);
    assert_eq!(status["hosts"].as_array().unwrap().len(), 2);

    let history = fleet.json(&["fleet", "history"]);
    assert_eq!(history[1]["changes"][0]["what"], "added");
    assert_eq!((&history[0]["number"], &history[1]["note"]), (&json!(2), &json!("we need it")));
    let shown = fleet.done(&["fleet", "show", "1"]).data;
    assert!(shown.contains("+ toy on role=web: runs acme/toy@1.0.0"), "{shown}");
    assert!(fleet.refused(&["fleet", "show", "9"]).contains("there is no desired set 9"));
}

#[test]
fn hosts_are_listed_before_anything_is_decided_and_watched_as_they_change() {
    let fleet = Fleet::new();
    fleet.two_agents();
    let before = fleet.done(&["fleet", "status"]);
    for part in ["agent web-1", "agent db-1", "role=web", "0/0"] {
        assert!(before.data.contains(part), "{part}: {}", before.data);
    }
    assert!(before.talk.contains("nothing was decided yet"), "{}", before.talk);

    let mut watch = fleet.command(&["fleet", "status", "--watch", "--json"]);
    let mut watch = watch.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let first = next();
    assert_eq!((&first["number"], first["hosts"].as_array().unwrap().len()), (&json!(0), 2));
    fleet.publish("acme/toy", "1.0.0", "collector", json!({}));
    fleet.done(&["plugin", "install", "acme/toy", "--on", "role=web", "--yes"]);
    let then = (0..100).map(|_| next()).find(|line| line["number"] == 1).unwrap();
    let web = &then["hosts"].as_array().unwrap().iter().find(|host| host["host"] == "web-1");
    assert_eq!(web.unwrap()["wanted"], json!(["toy: acme/toy@1.0.0"]));
    // It ends when nobody reads any more.
    drop(lines);
    assert!(watch.wait().unwrap().success());
    // Nothing runs it in this play, and that is shown. Whom the set does not concern was not
    // waited for, and takes it all the same.
    let begun = Instant::now();
    let after = loop {
        let said = fleet.run(&["fleet", "status"]);
        if said.code == 0 {
            break said.data;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "{}", said.talk);
    };
    assert!(after.contains("acme/toy@1.0.0") && after.contains("missing"), "{after}");
}

#[test]
fn nothing_is_granted_that_was_neither_named_nor_agreed_to() {
    let fleet = Fleet::new();
    fleet.publish(
        "acme/toy",
        "1.0.0",
        "collector",
        json!({"system": true, "kv": {"max_bytes": 4096}}),
    );
    let install = ["plugin", "install", "acme/toy", "--on", "*"];
    let with = |more: &[&'static str]| [&install[..], more].concat();
    let unsaid = fleet.refused(&install);
    assert!(unsaid.contains("nobody is there to say yes"), "{unsaid}");
    let half = fleet.refused(&with(&["--grant", "system"]));
    assert!(half.contains("kv: {max_bytes: 4096}") && half.contains("--grant-all"), "{half}");
    let dry = fleet.done(&with(&["--yes", "--dry-run"]));
    assert!(dry.talk.contains("may use kv: 4 KiB of state"), "{}", dry.talk);
    let misfit = fleet.refused(&with(&["--yes", "--set", "port=high"]));
    assert!(
        misfit.contains("/port: \"high\" is not allowed here; write a whole number"),
        "{misfit}"
    );
    let nowhere = fleet.refused(&["plugin", "install", "acme/toy", "--yes"]);
    assert!(nowhere.contains("say on which with --on"), "{nowhere}");
    let none = fleet.refused(&["plugin", "install", "acme/toy@^2", "--on", "*", "--yes"]);
    assert!(none.contains("no release of acme/toy is ^2"), "{none}");
    assert_eq!(fleet.json(&["fleet", "history"]), json!([]));
    fleet.done(&with(&["--yes"]));
    let twice = fleet.refused(&with(&["--yes"]));
    assert!(twice.contains("slot toy on * has acme/toy@1.0.0 already"), "{twice}");
    let same = fleet.done(&with(&["--yes", "--replace"]));
    assert!(same.talk.contains("nothing changes: set 1 stays in force"), "{}", same.talk);
}

#[test]
fn an_upgrade_that_asks_for_more_stops_until_that_is_granted() {
    let fleet = Fleet::new();
    fleet.two_agents();
    fleet.publish("acme/toy", "1.0.0", "collector", json!({"system": true}));
    fleet.done(&["plugin", "install", "acme/toy@^1", "--on", "*", "--grant-all"]);
    fleet.publish("acme/toy", "1.1.0", "collector", json!({"system": true}));
    let plain = fleet.done(&["plugin", "upgrade", "acme/toy"]);
    assert!(plain.talk.contains("version 1.0.0 -> 1.1.0"), "{}", plain.talk);
    assert!(plain.talk.contains("db-1 runs set 2"), "{}", plain.talk);

    let more =
        json!({"system": true, "http": {"origins": ["https://a.example"], "methods": ["GET"]}});
    let warned = fleet.publish("acme/toy", "1.2.0", "collector", more).talk;
    assert!(warned.contains("it asks for more than 1.1.0, so upgrades stop until"), "{warned}");
    let stopped = fleet.refused(&["plugin", "upgrade", "acme/toy", "--yes"]);
    assert!(stopped.contains("acme/toy 1.2.0 asks for more than 1.1.0"), "{stopped}");
    assert!(
        stopped.contains("+ http GET") && stopped.contains("+ http https://a.example:443"),
        "{stopped}"
    );
    assert_eq!(fleet.set().number, 2);
    let named = ["plugin", "upgrade", "acme/toy", "--grant", "http=https://a.example"];
    assert!(fleet.done(&named).talk.contains("may use http"));
    assert_eq!(fleet.set().groups[0].slots[0].version.to_string(), "1.2.0");
    let newest = fleet.done(&["plugin", "upgrade", "acme/toy"]);
    assert!(newest.talk.contains("nothing changes"), "{}", newest.talk);

    // A range stays the slot's own until another is given.
    fleet.publish("acme/toy", "2.0.0", "collector", json!({}));
    assert!(fleet.done(&["plugin", "upgrade", "acme/toy"]).talk.contains("nothing changes"));
    let major = fleet.done(&["plugin", "upgrade", "acme/toy@^2"]);
    assert!(major.talk.contains("upgrades within ^1 -> ^2"), "{}", major.talk);
    assert!(major.talk.contains("does not ask for it"), "{}", major.talk);
    fleet.publish("acme/toy", "3.0.0", "transform", json!({}));
    let other = fleet.refused(&["plugin", "upgrade", "acme/toy@^3"]);
    assert!(other.contains("uninstall one and install the other"), "{other}");
    let twice = fleet.refused(&["plugin", "install", "acme/toy@^2", "--on", "role=web"]);
    assert!(twice.contains("hosts would refuse it") && twice.contains("web-1"), "{twice}");
    assert_eq!(fleet.set().number, 4);
    let absent = fleet.refused(&["plugin", "upgrade", "acme/other"]);
    assert!(
        absent.contains("the fleet has no slot with acme/other; it has:\n  toy on *"),
        "{absent}"
    );
}

#[test]
fn a_host_that_refuses_is_told_and_going_back_is_a_newer_set() {
    let fleet = Fleet::new();
    fleet.agent("web-1", &[("role", "web")], |set| {
        let wishes = set.groups.iter().flat_map(|group| &group.slots);
        let bad = wishes.into_iter().any(|wish| wish.version.major == 2);
        bad.then(|| "slot toy: acme/toy@2.0.0 does not start".to_owned())
    });
    fleet.agent("web-2", &[("role", "web")], |_| None);
    fleet.publish("acme/toy", "1.0.0", "collector", json!({}));
    fleet.publish("acme/toy", "2.0.0", "collector", json!({}));
    fleet.done(&["plugin", "install", "acme/toy@^1", "--on", "role=web"]);
    let refused = fleet.run(&["plugin", "upgrade", "acme/toy@^2", "--json"]);
    assert_eq!(refused.code, 1);
    for part in [
        "web-1 refused set 2: slot toy: acme/toy@2.0.0 does not start",
        "web-2 runs set 2",
        "error: 1 host refused set 2 and goes on with what ran before",
    ] {
        assert!(refused.talk.contains(part), "{part}: {}", refused.talk);
    }
    let told: Value = serde_json::from_str(&refused.data).unwrap();
    let answers: Vec<_> = told["hosts"].as_array().unwrap().iter().map(|h| &h["answer"]).collect();
    assert_eq!(answers, ["refused", "applied"]);
    let status = fleet.run(&["fleet", "status"]);
    assert_eq!(status.code, 1);
    assert!(status.data.contains("does not start"), "{}", status.data);

    let back = fleet.done(&["plugin", "rollback", "--yes"]);
    assert!(
        back.talk.contains("back to set 1") && back.talk.contains("web-1 runs set 3"),
        "{}",
        back.talk
    );
    assert_eq!(fleet.done(&["fleet", "status"]).code, 0);
    assert!(fleet.refused(&["plugin", "rollback", "1", "--yes"]).contains("nothing would change"));
    fleet.done(&["plugin", "disable", "toy"]);
    assert!(fleet.set().groups[0].slots[0].disabled);
    fleet.done(&["plugin", "enable", "toy", "--on", "role=web"]);
    assert!(fleet.refused(&["plugin", "uninstall", "toy"]).contains("nobody is there to say yes"));
    fleet.done(&["plugin", "uninstall", "toy", "--yes"]);
    assert_eq!((fleet.set().number, fleet.set().groups.len()), (6, 0));
    // It changes nothing anywhere, and is there for every host.
    let again = fleet.done(&["fleet", "resign"]).talk;
    assert!(again.contains("web-1 runs set 7") && again.contains("web-2 runs set 7"), "{again}");
}

#[test]
fn a_set_on_trial_is_told_and_waited_for_where_that_is_asked_for() {
    let fleet = Fleet::new();
    fleet.agent("web-1", &[("role", "web")], |_| None);
    fleet.publish("acme/toy", "1.0.0", "collector", json!({}));
    fleet.done(&["plugin", "install", "acme/toy", "--on", "*"]);
    let said = fleet.done(&["plugin", "disable", "toy", "--note", TRIED]).talk;
    assert!(said.contains("web-1 runs set 2") && said.contains("on trial there"), "{said}");
    let status = fleet.done(&["fleet", "status"]).data;
    assert!(status.contains("current, on trial"), "{status}");
    // Enough for a busy machine's host to say that it runs.
    let proven = ["plugin", "enable", "toy", "--until", "proven", "--timeout", "10s"];
    let waited = fleet.refused(&[&proven[..], &["--note", TRIED]].concat());
    assert!(waited.contains("set 3 runs, and is still on trial on 1 host after 10s"), "{waited}");
    let said = fleet.done(&["plugin", "disable", "toy", "--until", "proven"]).talk;
    assert!(said.contains("web-1 runs set 4") && !said.contains("on trial"), "{said}");
}

#[test]
fn a_host_that_says_nothing_is_waited_for_as_long_as_was_said() {
    let fleet = Fleet::new();
    fleet.publish("acme/toy", "1.0.0", "collector", json!({}));
    let silent = NewAgent {
        id: "mute".parse().unwrap(),
        hw_id: "f".repeat(64),
        hostname: "mute".to_owned(),
        version: "0.1.0".to_owned(),
        labels: BTreeMap::new(),
        wrapped_key: vec![1],
        claim: Claim([9; 32]),
    };
    let store = Arc::clone(&fleet.served.store);
    fleet.served.runtime.block_on(store.register_agent(silent, NOW)).unwrap();
    fleet.served.runtime.block_on(say(&store, "mute", &HostReport::default()));
    let install = ["plugin", "install", "acme/toy", "--on", "*", "--timeout", "1s"];
    let waited = fleet.refused(&install);
    assert!(waited.contains("1 host did not say within 1s whether it runs"), "{waited}");
    let at_once = fleet.done(&["plugin", "disable", "toy", "--no-wait"]);
    assert!(at_once.talk.contains("`sentinel fleet status`"), "{}", at_once.talk);
    assert!(fleet.refused(&["fleet", "status"]).contains("1 host is behind"));
}

#[test]
fn a_server_cannot_show_an_operator_an_older_set_or_one_of_somebody_else() {
    let fleet = Fleet::new();
    fleet.publish("acme/toy", "1.0.0", "collector", json!({}));
    fleet.done(&["plugin", "install", "acme/toy", "--on", "*", "--no-wait"]);
    let operators = Some(fleet.pins.clone());
    let wishes = Wishes { operators, ..Wishes::default() };
    let empty = Served::start(&fleet.all.user, "restored", wishes);
    let said = fleet.at(&empty.url, &["plugin", "disable", "toy"]);
    assert_eq!(said.code, 1);
    assert!(said.talk.contains("shows set 0 as the newest, and 1 was seen"), "{}", said.talk);

    // A server that was taken, with a key that its thief made.
    fleet.done(&["fleet", "init", "--key", "thief.key"]);
    let thief = fleet.all.user.path("thief.key");
    let thief = RoleKey::from_file_text(&std::fs::read(thief).unwrap()).unwrap();
    let forged = DesiredSet { number: 2, ..fleet.set() };
    let sealed = seal(&forged, &thief).unwrap();
    let set = StoredSet { number: 2, taken_at: NOW, sealed };
    fleet.served.runtime.block_on(fleet.served.store.save_fleet_set(set)).unwrap();
    let said = fleet.refused(&["plugin", "disable", "toy"]);
    assert!(said.contains("no operator of this fleet signed"), "{said}");
}

#[test]
fn one_operator_follows_another() {
    let fleet = Fleet::new();
    fleet.publish("acme/toy", "1.0.0", "collector", json!({}));
    fleet.done(&["plugin", "install", "acme/toy", "--on", "*", "--no-wait"]);
    fleet.all.user.write("fleet.json", fleet.done(&["fleet", "operators"]).data);
    let joined = fleet.done(&["fleet", "init", "--key", "new.key", "--join", "fleet.json"]);
    let pins: Operators = serde_json::from_str(&joined.data).unwrap();
    let early = fleet.refused(&["fleet", "resign", "--key", "new.key", "--no-wait"]);
    assert!(early.contains("does not know your key"), "{early}");
    let new = pins.keys[0].to_string();
    fleet.done(&["fleet", "operators", "--add", &new]);
    // The server is given both, and started again.
    let Fleet { served, all, pins: old } = fleet;
    drop(served);
    let wishes = Wishes { operators: Some(pins.clone()), ..Wishes::default() };
    let served = Served::start(&all.user, "served", wishes);
    let fleet = Fleet { served, all, pins };
    let resigned = fleet.done(&["fleet", "resign", "--key", "new.key", "--no-wait"]);
    assert!(resigned.talk.contains("set 2 is in force"), "{}", resigned.talk);
    assert!(open(sealed(&fleet).as_bytes(), &old, 0).is_err());
    // The one before believes the new one, who does without it from now on.
    fleet.done(&["plugin", "disable", "toy", "--no-wait"]);
    fleet.done(&["fleet", "resign", "--key", "new.key", "--no-wait"]);
    let gone = old.keys[0].to_string();
    fleet.done(&["fleet", "operators", "--key", "new.key", "--remove", &gone]);
    fleet.done(&["plugin", "enable", "toy", "--key", "new.key", "--no-wait"]);
}

/// The newest set as it was sealed.
fn sealed(fleet: &Fleet) -> String {
    let sets = fleet.served.runtime.block_on(fleet.served.store.fleet_sets(1)).unwrap();
    sets[0].sealed.clone()
}

#[test]
fn whoever_was_first_is_shown_and_built_upon() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let between = listener.local_addr().unwrap().to_string();
    let fleet = Fleet::with_hosts(vec![between.clone()]);
    fleet.publish("acme/toy", "1.0.0", "collector", json!({}));
    fleet.publish("acme/other", "1.0.0", "collector", json!({}));
    fleet.done(&["plugin", "install", "acme/toy", "--on", "*", "--no-wait"]);
    // Somebody else decides in the moment before our decision arrives.
    let key = std::fs::read(fleet.all.user.path(".config/sentinel/operator.key")).unwrap();
    let key = RoleKey::from_file_text(&key).unwrap();
    let (store, before) = (Arc::clone(&fleet.served.store), fleet.set());
    let decide = move || {
        let mut set =
            DesiredSet { number: 2, by: "bob".into(), note: "in a hurry".into(), ..before.clone() };
        set.groups[0].slots[0].disabled = true;
        let taken = StoredSet { number: 2, taken_at: NOW, sealed: seal(&set, &key).unwrap() };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(store.save_fleet_set(taken))
            .unwrap();
    };
    let server = fleet.served.url.strip_prefix("http://").unwrap().to_owned();
    stand_between(listener, server, decide);
    let url = format!("http://{between}");
    let unasked = ["plugin", "install", "acme/other", "--on", "*", "--no-wait"];
    let said = fleet.at(&url, &unasked);
    // What was agreed to was something else, so it is asked again.
    assert_eq!(said.code, 1, "{}", said.talk);
    for part in [
        "bob made set 2 meanwhile (in a hurry):\n~ toy on *: changes\n    disabled",
        "on top of that, you would change:\n+ other on *: runs acme/other@1.0.0",
        "nobody is there to say yes",
    ] {
        assert!(said.talk.contains(part), "{part}: {}", said.talk);
    }
    assert_eq!(fleet.set().number, 2);
    fleet.done(&unasked);
    let set = fleet.set();
    assert_eq!((set.number, set.groups[0].slots.len()), (3, 2));
    assert!(set.groups[0].slots[0].disabled);
}
