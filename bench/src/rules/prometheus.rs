//! Debian's Prometheus, with 9,900 rules of one series each and 100 of groups.

use super::{INSTANCES, METRICS, function, limit, place};
use crate::cpu;
use crate::worker::{AGENTS, ROWS};
use anyhow::{Context, Result, ensure};
use sentinel_model::ids::AgentId;
use sentinel_test_services::{Process, Services, free_port, get, wait};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const SINGLE: usize = 9_900;
const GROUPED: usize = 100;
/// Rules of a group are evaluated one after the other.
const GROUPS: usize = 10;
/// Ticks that one scrape gives while the past is taken in.
const TICKS_A_SCRAPE: usize = 60;

/// A tick that was not scraped yet.
struct Tick {
    times: Vec<i64>,
    values: Vec<f64>,
    /// What is scraped, where it was made beforehand.
    text: Option<String>,
}

/// What is scraped.
struct Exposition {
    /// Name and labels of each series, in the order of values.
    series: Vec<String>,
    ticks: Mutex<VecDeque<Tick>>,
}

impl Exposition {
    fn write(&self, tick: &Tick, into: &mut String) {
        for (at, (series, value)) in self.series.iter().zip(&tick.values).enumerate() {
            let time = tick.times[at / ROWS];
            let _ = writeln!(into, "{series} {value} {time}");
        }
    }

    /// The ticks that are over by `now`, written out, and how many they are.
    fn due(&self, now: i64) -> (String, usize) {
        let ticks = self.ticks.lock().expect("nobody panics with it");
        let is_over = |tick: &&Tick| tick.times.iter().all(|time| *time <= now);
        let (mut text, mut count) = (String::new(), 0);
        for tick in ticks.iter().take_while(is_over).take(TICKS_A_SCRAPE) {
            match &tick.text {
                Some(made) => text.push_str(made),
                None => self.write(tick, &mut text),
            }
            count += 1;
        }
        (text, count)
    }

    /// Answers one scrape; what was not taken is given again.
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = [0; 4096];
        let mut filled = 0;
        while !head[..filled].windows(4).any(|four| four == b"\r\n\r\n") {
            match stream.read(&mut head[filled..])? {
                0 => return Ok(()),
                read => filled += read,
            }
        }
        let now = sentinel_worker::clock::Clock::now(&sentinel_worker::clock::SystemClock);
        let (text, count) = self.due(now);
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            text.len()
        )?;
        stream.write_all(text.as_bytes())?;
        self.ticks.lock().expect("nobody panics with it").drain(..count);
        Ok(())
    }
}

pub(super) struct Prometheus {
    process: Process,
    exposition: Arc<Exposition>,
    folder: PathBuf,
    target: u16,
    port: u16,
}

impl Prometheus {
    /// Starts it without rules, scraping often: there is an hour to take in.
    pub(super) fn start(dir: &Path, agents: &[AgentId]) -> Result<Self> {
        let folder = dir.join("prometheus");
        fs::create_dir(&folder)?;
        let mut series = Vec::with_capacity(AGENTS * ROWS);
        for agent in agents {
            series.extend((0..ROWS).map(|row| {
                format!(
                    "metric_{}{{agent=\"{agent}\",instance=\"instance-{}\",job=\"node\",env=\"production\",zone=\"eu-1\"}}",
                    row % METRICS,
                    row / METRICS
                )
            }));
        }
        ensure!(ROWS / METRICS == INSTANCES, "the rules are for other series");
        let exposition = Arc::new(Exposition { series, ticks: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let target = listener.local_addr()?.port();
        let serving = Arc::clone(&exposition);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A scrape that broke off comes again.
                let _ = serving.answer(stream);
            }
        });
        let services = std::env::var_os("SENTINEL_SERVICES").map(PathBuf::from);
        let services = services.context("SENTINEL_SERVICES is not set; run `cargo xtask bench`")?;
        let port = free_port()?;
        configure(&folder, target, "3s", "")?;
        let mut command = Services::read(&services)?.command_beside("promtool", "prometheus")?;
        command
            .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.enable-lifecycle", "--log.level=warn"]);
        let process = Process::start(&mut command, &folder.join("log"))?;
        wait("Prometheus", || get(port, "/-/ready").is_ok_and(|text| text.contains(" 200 ")))?;
        Ok(Self { process, exposition, folder, target, port })
    }

    /// Offers a tick to be scraped once its times have come.
    pub(super) fn offer(&self, times: Vec<i64>, values: Vec<f64>, is_ready_made: bool) {
        let mut tick = Tick { times, values, text: None };
        if is_ready_made {
            let mut text = String::new();
            self.exposition.write(&tick, &mut text);
            tick.text = Some(text);
        }
        self.exposition.ticks.lock().expect("nobody panics with it").push_back(tick);
    }

    /// Waits until everything that was offered was scraped.
    pub(super) fn has_taken_all(&self) -> Result<()> {
        let left = || self.exposition.ticks.lock().expect("nobody panics with it").len();
        // Each wait is bounded; as long as it goes on, it is waited.
        while left() > 0 {
            let before = left();
            wait("a scrape", || left() < before)?;
        }
        Ok(())
    }

    /// Puts the rules in force, and scrapes every 10 s from now on.
    pub(super) fn load_rules(&self) -> Result<()> {
        let file = self.folder.join("rules.yml");
        let rules: Vec<Value> = (0..SINGLE).map(single).chain((0..GROUPED).map(grouped)).collect();
        let group =
            |(at, rules): (usize, &[Value])| json!({ "name": format!("g{at}"), "rules": rules });
        let groups: Vec<Value> =
            rules.chunks(rules.len().div_ceil(GROUPS)).enumerate().map(group).collect();
        fs::write(&file, json!({ "groups": groups }).to_string())?;
        configure(&self.folder, self.target, "10s", "rule_files: [rules.yml]\n")?;
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        write!(stream, "POST /-/reload HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.contains(" 200 "), "Prometheus does not take its rules: {answer}");
        Ok(())
    }

    /// Seconds that it ran.
    pub(super) fn cpu(&self) -> Result<f64> {
        cpu::scheduled(self.process.pid())
    }

    /// What it says of its evaluations since it started.
    pub(super) fn said(&self) -> Result<Value> {
        let text = get(self.port, "/metrics")?;
        let sum = |name: &str| -> f64 {
            let of = text.lines().filter(|line| line.starts_with(name));
            of.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        ensure!(sum("prometheus_rule_evaluation_failures_total") == 0.0, "its rules fail");
        ensure!(sum("prometheus_rule_group_rules") == (SINGLE + GROUPED) as f64, "it lacks rules");
        Ok(json!({
            "single_series_rules": SINGLE,
            "grouped_rules": GROUPED,
            "evaluations": sum("prometheus_rule_evaluations_total"),
            "rounds_missed": sum("prometheus_rule_group_iterations_missed_total"),
            "resident_mib": cpu::resident_mib(self.process.pid())?,
        }))
    }
}

fn configure(folder: &Path, target: u16, scrape: &str, rules: &str) -> Result<()> {
    let text = format!(
        "global: {{scrape_interval: {scrape}, scrape_timeout: {scrape}, evaluation_interval: 15s}}\n{rules}scrape_configs: [{{job_name: agents, honor_labels: true, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
    );
    Ok(fs::write(folder.join("prometheus.yml"), text)?)
}

fn expression(rule: usize, selector: &str) -> String {
    match function(rule) {
        (_, "", _) => selector.to_owned(),
        (_, function, window) => format!("{function}({selector}[{window}])"),
    }
}

fn single(at: usize) -> Value {
    let (metric, agent, first) = place(at);
    let selector = format!("{metric}{{agent=\"{agent}\",instance=\"instance-{first}\"}}");
    json!({ "alert": format!("rule-{at:05}"), "expr": format!("{} > {:e}", expression(at, &selector), limit(at)) })
}

fn grouped(at: usize) -> Value {
    let like = at * 7;
    let value = expression(like, &format!("metric_{}", at % METRICS));
    let expression = format!("avg by (agent) ({value}) > {:e}", limit(like));
    json!({ "alert": format!("group-{at:03}"), "expr": expression })
}
