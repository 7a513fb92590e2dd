//! An agent on this machine, asked by commands: it sends at once, changes its key whatever kills it, and tells
//! what it logs; one id finds a record's whole way.

mod program;

use program::{Commands as _, User};
use sentinel_agent::record::{LogRecord, Part};
use sentinel_model::batch::BatchBuilder;
use sentinel_model::columns::Kind;
use sentinel_model::ids::{Epoch, Position, SlotName};
use sentinel_wal::{Log, Options};
use sentinel_wire::envelope::trace_id;
use serde_json::Value;
use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// How long something may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

/// A running command, and the lines it writes. Killed when it is dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
    /// Those that were read.
    heard: RefCell<Vec<String>>,
}

impl Process {
    fn start(user: &User, arguments: &[&str], environment: &[(&str, &str)], talk: bool) -> Self {
        let mut command = user.command(arguments, environment);
        let (out, err) =
            if talk { (Stdio::null(), Stdio::piped()) } else { (Stdio::piped(), Stdio::null()) };
        let mut child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let mut pass = move |line: std::io::Result<String>| send.send(line.unwrap_or_default());
        if let Some(err) = child.stderr.take() {
            std::thread::spawn(move || BufReader::new(err).lines().try_for_each(&mut pass));
        } else if let Some(out) = child.stdout.take() {
            std::thread::spawn(move || BufReader::new(out).lines().try_for_each(&mut pass));
        }
        Self { child, lines, heard: RefCell::default() }
    }

    fn up(user: &User) -> Self {
        let any = "127.0.0.1:0";
        let config = user.write("sentinel.yaml", "version: 1\nagent: {heartbeat: 500ms}\n");
        let data = user.path("data");
        let arguments = [
            "up",
            "--listen",
            any,
            "--grpc",
            any,
            "--registry",
            any,
            "--log",
            "json",
            "--data",
            data.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
        ];
        let environment = [
            ("XDG_RUNTIME_DIR", user.path("").to_str().unwrap().to_owned()),
            ("SENTINEL_LOG", "info,sentinel::way=debug".to_owned()),
        ];
        let environment: Vec<_> = environment.iter().map(|(k, v)| (*k, v.as_str())).collect();
        Self::start(user, &arguments, &environment, true)
    }

    /// The first line of all that is as it should be, and those before it. It may have been read
    /// already: much of what a process says comes in no certain order.
    fn until(&self, what: &str, so: impl Fn(&str) -> bool) -> Vec<String> {
        let mut heard = self.heard.borrow_mut();
        if let Some(at) = heard.iter().position(|line| so(line)) {
            return heard[..=at].to_vec();
        }
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let found = so(&line);
                    heard.push(line);
                    if found {
                        return heard.to_vec();
                    }
                }
                Err(_) => panic!("{what} never comes, only {heard:#?}"),
            }
        }
    }

    /// Kills it; all that it said.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut said = self.heard.take();
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            said.push(line);
        }
        said
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Puts records into the log of an agent that does not run; where the last of them is.
fn collected(user: &User, records: u64) -> Position {
    collected_in(&user.path("data/agent/log"), records)
}

fn collected_in(folder: &Path, records: u64) -> Position {
    std::fs::create_dir_all(folder).unwrap();
    let (log, _) = Log::open(folder, Options::default()).unwrap();
    let mut seq = 0;
    for n in 0..records {
        let mut builder = BatchBuilder::new();
        builder.push("m", [], Kind::Gauge, n as f64, 1_760_000_000_000 + n as i64);
        let batch = sentinel_model::codec::encode(&builder.build().unwrap());
        let slot = SlotName::new("s").unwrap();
        let record = LogRecord { slot, part: Part::WHOLE, writes: Vec::new(), batch: batch.into() };
        seq = log.append_blocking(&record.encode()).unwrap().seq;
    }
    let epoch = Epoch(log.epoch().0);
    log.close().unwrap();
    Position { epoch, seq }
}

fn key_of(user: &User) -> u64 {
    let identity = std::fs::read(user.path("data/agent/identity.json")).unwrap();
    serde_json::from_slice::<Value>(&identity).unwrap()["key_id"].as_u64().unwrap()
}

fn runs(user: &User, process: &Process) {
    process.until("its start", |line| line.contains("REST API"));
    assert!(user.path("data/agent/agent.sock").exists());
}

#[test]
fn what_is_pending_is_sent_now_and_one_id_finds_its_whole_way() {
    let user = User::new();
    let data = user.path("data");
    let data = data.to_str().unwrap();
    let none = user.run(&["force-send", data]);
    assert_eq!(none.code, 1);
    assert!(none.talk.contains("no agent runs on"), "{}", none.talk);
    let last = collected(&user, 3);
    let up = Process::up(&user);
    runs(&user, &up);
    let said = user.done(&["force-send", data, "--wait", "50s"]);
    assert!(said.data.contains("pending 0"), "{}", said.data);
    let again = user.run(&["force-send", data, "--from", "99"]);
    assert_eq!(again.code, 1);
    assert!(again.talk.contains("was not sent yet"), "{}", again.talk);
    let wrong = user.run(&["force-send", data, "--from", "1", "--epoch", "xyz"]);
    assert_eq!(wrong.code, 1, "{}", wrong.talk);

    // The agent, the server and the worker, by one id.
    let trace = trace_id(last);
    let begun = Instant::now();
    // The agent may know that it is stored before the worker has said so.
    let way = loop {
        let said = user.done(&["logs", data, "-n", "500", "--json"]);
        let lines = said.data.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let way: Vec<Value> = lines.filter(|line| line["trace_id"] == *trace).collect();
        if way.iter().any(|line| line["message"] == "committed") {
            break way;
        }
        assert!(begun.elapsed() < PATIENCE, "{way:#?}");
        std::thread::sleep(Duration::from_millis(20));
    };
    // Stored once. What is not answered in time is sent again, and the worker may be done with a
    // record before the server has said that it took it.
    let mut stages: Vec<&str> = way.iter().filter_map(|line| line["message"].as_str()).collect();
    assert_eq!(stages.first(), Some(&"sent"), "{way:#?}");
    assert_eq!(stages.iter().filter(|stage| **stage == "committed").count(), 1, "{way:#?}");
    stages.sort_unstable();
    stages.dedup();
    assert_eq!(stages, ["accepted", "committed", "sent"], "{way:#?}");
    let agent = way[0]["agent_id"].as_str().unwrap();
    assert!(!agent.is_empty() && way.iter().all(|line| line["agent_id"] == agent));
    let batch = format!("{}-{}", last.epoch, last.seq);
    assert!(way.iter().all(|line| line["batch_id"] == *batch), "{way:#?}");
    let shown = user.done(&["logs", data, "-n", "500"]);
    assert!(shown.data.contains(&format!("trace_id={trace}")), "{}", shown.data);

    // Whoever follows hears what comes after the lines that there are, until the agent is gone.
    let following = Process::start(&user, &["logs", data, "-f", "-n", "1"], &[], false);
    following.until("a line", |line| !line.is_empty());
    user.write("sentinel.yaml", "version: 1\nagent: {heartbeat: never}\n");
    following.until("what came since", |line| line.contains("stays in force"));
    up.kill();
    let gone = user.run(&["force-send", data]);
    assert_eq!(gone.code, 1);
    assert!(gone.talk.contains("does not answer"), "{}", gone.talk);
}

#[test]
fn an_agent_that_is_killed_while_its_key_changes_can_send() {
    let user = User::new();
    let data = user.path("data");
    let up = Process::up(&user);
    runs(&user, &up);
    up.until("it is connected", |line| line.contains("\"connected\""));
    assert_eq!(key_of(&user), 1);
    let here = user.path("");
    let rotate = || {
        let environment = [("XDG_RUNTIME_DIR", here.to_str().unwrap())];
        user.run_with(&["key", "rotate", "--all"], &environment, "")
    };
    let said = rotate();
    assert_eq!(said.code, 0, "{}", said.talk);
    assert!(said.data.contains("key 2") && said.talk.contains("stay good for 1d"), "{}", said.talk);
    // The key is made; the agent has not got it.
    up.kill();
    collected(&user, 2);
    let up = Process::up(&user);
    up.until("the new key", |line| line.contains("goes over to a new key"));
    // It has it, and may not have used it.
    let before = up.kill();
    assert_eq!(key_of(&user), 2);
    collected(&user, 2);
    let up = Process::up(&user);
    runs(&user, &up);
    let said = user.done(&["force-send", data.to_str().unwrap(), "--wait", "50s"]);
    assert!(said.data.contains("pending 0"), "{}", said.data);
    // It begins once: with the first that the server hears with the new key.
    let is_grace = |line: &str| line.contains("the grace of the old one begins");
    if !before.iter().any(|line| is_grace(line)) {
        up.until("the grace", is_grace);
    }
}

/// A proxy that knows HTTP/1.1 alone; its address.
fn no_grpc() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let _ = socket.read(&mut [0; 1024]);
            let _ = socket.write_all(b"HTTP/1.1 505 No\r\ncontent-length: 0\r\n\r\n");
        }
    });
    format!("http://{address}")
}

#[test]
fn an_agent_whose_network_lets_no_grpc_through_enrols_and_sends_over_http() {
    let user = User::new();
    let up = Process::up(&user);
    let started = up.until("its start", |line| line.contains("REST API"));
    let rest = started.last().unwrap().split_whitespace().find(|word| word.starts_with("http"));
    let here = user.path("");
    let environment = [("XDG_RUNTIME_DIR", here.to_str().unwrap())];
    let token = user.run_with(&["token", "create"], &environment, "");
    assert_eq!(token.code, 0, "{}", token.talk);
    let token = user.write("token", token.data);
    let config = user.write("agent.yaml", "version: 1\nagent: {id: other, heartbeat: 500ms}\n");
    let data = user.path("other");
    collected_in(&data.join("log"), 3);
    let proxy = no_grpc();
    let arguments = [
        "agent",
        "--join",
        &proxy,
        "--join-http",
        rest.unwrap(),
        "--token-file",
        token.to_str().unwrap(),
        "--config",
        config.to_str().unwrap(),
        "--data",
        data.to_str().unwrap(),
    ];
    let agent = Process::start(&user, &arguments, &environment, true);
    agent.until("its enrolment", |line| line.contains("an operator must approve it"));
    let approved = user.run_with(&["agents", "approve", "other"], &environment, "");
    assert_eq!(approved.code, 0, "{}", approved.talk);
    agent.until("it is connected", |line| line.contains("connected") && line.contains("HTTP"));
    let said = user.done(&["force-send", data.to_str().unwrap(), "--wait", "50s"]);
    assert!(said.data.contains("pending 0"), "{}", said.data);
}

#[test]
fn one_line_with_a_token_enrols_a_machine_which_begins_with_a_configuration_of_its_own() {
    let user = User::new();
    let up = Process::up(&user);
    up.until("its start", |line| line.contains("REST API"));
    let here = user.path("");
    let environment = [("XDG_RUNTIME_DIR", here.to_str().unwrap())];
    let run = std::fs::read(user.path("sentinel/up.json")).unwrap();
    let grpc = serde_json::from_slice::<Value>(&run).unwrap()["grpc"].as_str().unwrap().to_owned();
    let token = user.run_with(&["token", "create"], &environment, "");
    assert_eq!(token.code, 0, "{}", token.talk);
    let line = ["agent", "--join", &grpc, "--token", token.data.trim()];
    let agent = Process::start(&user, &line, &environment, true);
    agent.until("its enrolment", |line| line.contains("an operator must approve it"));
    let known = user.run_with(&["agents", "--json"], &environment, "");
    let known: Value = serde_json::from_str(&known.data).unwrap();
    let id = known.as_array().unwrap()[0]["id"].as_str().unwrap();
    let approved = user.run_with(&["agents", "approve", id], &environment, "");
    assert_eq!(approved.code, 0, "{}", approved.talk);
    agent.until("it is connected", |line| line.contains("connected"));
    let folder = user.path(".local/share/sentinel/agent");
    let configuration = std::fs::read_to_string(folder.join("agent.yaml")).unwrap();
    assert!(configuration.contains("plugin: sentinel/system"), "{configuration}");
    // A token is said in one way.
    let both = user.run(&["agent", "--token", "t", "--claim"]);
    assert_eq!(both.code, 2, "{}", both.talk);
}
