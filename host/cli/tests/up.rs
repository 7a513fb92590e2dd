//! `sentinel up` as a process: its start and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Any free port.
const ANY: &str = "127.0.0.1:0";
/// How long something may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(90);

fn command(home: &Path, listen: &str, grpc: &str, registry: &str) -> Command {
    let config = home.join("sentinel.yaml");
    std::fs::write(&config, "version: 1\n").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sentinel"));
    command.env_clear().env("HOME", home).env("XDG_RUNTIME_DIR", home);
    command.args(["up", "--listen", listen, "--grpc", grpc, "--registry", registry]);
    command.arg("--data").arg(home.join("data"));
    command.arg("--config").arg(config).stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A process and the lines of its standard error. Killed when it is dropped.
struct Process {
    child: Child,
    lines: Receiver<String>,
}

impl Process {
    fn start(home: &Path) -> Self {
        let mut child = command(home, ANY, ANY, ANY).spawn().unwrap();
        let (send, lines) = mpsc::channel();
        let said = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            said.lines().map_while(Result::ok).try_for_each(|l| send.send(l))
        });
        Self { child, lines }
    }

    /// Waits for a line that contains a text.
    fn says(&self, text: &str) -> String {
        let mut heard = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => heard.push(line),
                Err(_) => panic!("it never says {text:?}, only {heard:#?}"),
            }
        }
    }

    fn interrupt(&self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_taken_port_is_refused_before_anything_is_started() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let address = address.as_str();
    for (listen, grpc, registry, option) in [
        (address, ANY, ANY, "--listen"),
        (ANY, address, ANY, "--grpc"),
        (ANY, ANY, address, "--registry"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let output = command(home.path(), listen, grpc, registry).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("cannot listen on {address}")), "{said}");
        assert!(said.contains("choose another address") && said.contains(option), "{said}");
        let data = home.path().join("data");
        for made in ["sentinel.db", "bus", "agent", "api.token", "registry"] {
            assert!(!data.join(made).exists(), "{made} was made");
        }
    }
}

#[test]
fn the_second_interrupt_ends_a_stop_that_takes_its_time() {
    let home = tempfile::tempdir().unwrap();
    let mut process = Process::start(home.path());
    let line = process.says("REST API");
    let address = line.split_once("http://").unwrap().1.split_whitespace().next().unwrap();
    let token = std::fs::read_to_string(home.path().join("data/api.token")).unwrap();
    // A request whose body never comes: the server waits for it for seconds when it stops.
    let mut stuck = TcpStream::connect(address).unwrap();
    write!(
        stuck,
        "PUT /v1/rules HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        token.trim()
    )
    .unwrap();
    let mut answer = String::new();
    BufReader::new(&stuck).read_line(&mut answer).unwrap();
    assert!(answer.contains("100 Continue"), "its handler waits for the body: {answer}");
    process.interrupt();
    process.says("Stopping");
    process.interrupt();
    let last = process.says("Ended at once");
    assert!(last.contains("cut short"), "{last}");
    assert_eq!(process.child.wait().unwrap().code(), Some(1));
}

/// The state of the only agent, once there is one.
fn agent_state(address: &str, token: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET /v1/agents HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\
         Connection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let agents: serde_json::Value =
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    agents[0]["state"].as_str().map(str::to_owned)
}

#[test]
fn its_own_agent_needs_no_approval_after_an_end_in_the_middle_of_its_enrolment() {
    let home = tempfile::tempdir().unwrap();
    let identity = home.path().join("data/agent/identity.json");
    for start in 0..2 {
        let process = Process::start(home.path());
        let line = process.says("REST API");
        let address = line.split_once("http://").unwrap().1.split_whitespace().next().unwrap();
        let token = std::fs::read_to_string(home.path().join("data/api.token")).unwrap();
        let begun = std::time::Instant::now();
        let is_in = || {
            identity.exists() && agent_state(address, token.trim()).as_deref() == Some("approved")
        };
        while !is_in() {
            assert!(begun.elapsed() < PATIENCE, "start {start}: the agent never is approved");
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(process);
        // As if it had been killed before it had written who it is.
        std::fs::remove_file(&identity).unwrap();
    }
}
