//! The agent alone, in its own process, beside Debian's node exporter and vmagent: the same
//! machine, the same interval, at the same time.

use crate::cpu;
use crate::row::{Better, Row};
use anyhow::{Context, Result, ensure};
use sentinel_test_services::{Nginx, Process, Services, free_port, get, wait};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const INTERVAL: &str = "10s";
/// How long the processes run side by side before and while they are measured.
const SETTLE: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(120);
const STARTS: usize = 5;
/// Collectors of the node exporter that read what `sentinel/system` does.
const EXPORTED: [&str; 8] =
    ["cpu", "meminfo", "filesystem", "diskstats", "netdev", "loadavg", "stat", "processes"];
/// The agent's id: the server's own agent has the machine's name.
const AGENT: &str = "bench";

fn given(name: &str) -> Result<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .with_context(|| format!("{name} is not set; run `cargo xtask bench`"))
}

/// Takes whatever vmagent writes and says that it is done.
fn sink() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || swallow(&mut stream));
        }
    });
    Ok(port)
}

fn swallow(stream: &mut TcpStream) -> Option<()> {
    let mut seen = Vec::new();
    let mut buffer = [0; 16384];
    loop {
        let end = loop {
            if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            let n = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
            seen.extend_from_slice(&buffer[..n]);
        };
        let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
        let length: usize = length.and_then(|l| l.trim().parse().ok()).unwrap_or(0);
        while seen.len() < end + length {
            let n = stream.read(&mut buffer).ok().filter(|n| *n > 0)?;
            seen.extend_from_slice(&buffer[..n]);
        }
        seen.drain(..end + length);
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
    }
}

/// What an agent joins.
struct Joined {
    server: String,
    registry: String,
    enrolment: String,
}

struct Place {
    dir: tempfile::TempDir,
    sentinel: PathBuf,
    plugins: PathBuf,
    publisher_key: PathBuf,
    services: Services,
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn sentinel(&self, args: &[&str]) -> Command {
        self.started(&self.sentinel, args)
    }

    fn started(&self, program: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(args).env("HOME", self.dir.path()).env("XDG_RUNTIME_DIR", self.dir.path());
        command
    }

    /// A server for the agent to send to; it is not measured.
    fn server(&self) -> Result<(Process, Joined)> {
        let config = self.path("server.yaml");
        fs::write(
            &config,
            "version: 1\nworker:\n  transforms: [{slot: rows, plugin: sentinel/rows, config: {rules: []}}]\n",
        )?;
        // From a file of its own: the agent is alone with its program's pages.
        let program = self.path("server-program");
        fs::copy(&self.sentinel, &program)?;
        let mut command =
            self.started(&program, &["up", "--listen", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
        command.args(["--registry", "127.0.0.1:0"]).arg("--plugins").arg(&self.plugins);
        command.arg("--publisher-key").arg(&self.publisher_key);
        command.arg("--data").arg(self.path("server")).arg("--config").arg(config);
        let process = Process::start(&mut command, &self.path("server.log"))?;
        let run = self.path("sentinel/up.json");
        wait("the server", || run.exists())?;
        let run: Value = serde_json::from_slice(&fs::read(run)?)?;
        let said =
            |what: &str| Ok::<_, anyhow::Error>(run[what].as_str().context("run file")?.to_owned());
        let joined = Joined {
            server: said("grpc")?,
            registry: said("registry")?,
            enrolment: said("enrolment")?,
        };
        Ok((process, joined))
    }

    fn agent(&self, join: &Joined, listen: u16) -> Command {
        let mut command = self.sentinel(&["agent", "--join", &join.server]);
        command.args(["--registry", &join.registry, "--enrolment", &join.enrolment]);
        command.arg("--data").arg(self.path("agent")).arg("--config").arg(self.path("agent.yaml"));
        command.arg("--token-file").arg(self.path("token"));
        command.args(["--listen", &format!("127.0.0.1:{listen}")]);
        command
    }

    fn prepare_agent(&self, nginx: &Nginx) -> Result<()> {
        let config = format!(
            "version: 1
agent:
  id: {AGENT}
  interval: {INTERVAL}
  collectors:
    - {{slot: system, plugin: sentinel/system, grants: {{system: true}}}}
    - slot: nginx
      plugin: sentinel/nginx
      config: {{url: \"{}\"}}
      grants: {{http: {{origins: [\"{}\"], methods: [GET]}}}}
",
            nginx.url(),
            nginx.origin()
        );
        fs::write(self.path("agent.yaml"), config)?;
        let output = self.sentinel(&["token", "create", "--json"]).output()?;
        let token: Value = serde_json::from_slice(&output.stdout).with_context(|| {
            format!("token create: {}", String::from_utf8_lossy(&output.stderr))
        })?;
        fs::write(self.path("token"), token["token"].as_str().context("token")?)?;
        Ok(())
    }

    /// The machine has an agent already, the server's own, so that this one waits for approval.
    fn approve(&self) -> Result<()> {
        let identity = self.path("agent/identity.json");
        wait("the enrolment", || identity.exists())?;
        let output = self.sentinel(&["agents", "approve", AGENT]).output()?;
        ensure!(output.status.success(), "approve: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn exporter_and_vmagent(&self) -> Result<(Process, Process, u16)> {
        let port = free_port()?;
        let mut command = self.services.command("prometheus-node-exporter")?;
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        // What the agent's collector reads, and no more, so that the series are about as many.
        command.args(["--collector.disable-defaults", "--web.disable-exporter-metrics"]);
        command.args(EXPORTED.map(|name| format!("--collector.{name}")));
        let exporter = Process::start(&mut command, &self.path("exporter.log"))?;
        wait("the node exporter", || get(port, "/metrics").is_ok_and(|t| t.contains("node_")))?;
        let scrape = self.path("scrape.yaml");
        fs::write(
            &scrape,
            format!(
                "global: {{scrape_interval: {INTERVAL}}}\nscrape_configs: [{{job_name: node, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}]\n"
            ),
        )?;
        let mut command = self.services.command("vmagent")?;
        command.arg(format!("-promscrape.config={}", scrape.display()));
        command.arg(format!("-remoteWrite.url=http://127.0.0.1:{}/write", sink()?));
        command.arg(format!("-remoteWrite.tmpDataPath={}", self.path("vmagent").display()));
        command.arg(format!("-httpListenAddr=127.0.0.1:{}", free_port()?));
        let vmagent = Process::start(&mut command, &self.path("vmagent.log"))?;
        Ok((exporter, vmagent, port))
    }
}

/// Time from the start of the process to the first record in its log.
fn start_ms(place: &Place, join: &Joined) -> Result<f64> {
    let log = place.path("agent/log");
    let known: Vec<PathBuf> = fs::read_dir(&log)?.flatten().map(|e| e.path()).collect();
    let mut command = place.agent(join, free_port()?);
    let begin = Instant::now();
    let _agent = Process::start(&mut command, &place.path("agent.log"))?;
    loop {
        let fresh = fs::read_dir(&log)?.flatten().map(|e| e.path()).filter(|p| !known.contains(p));
        for path in fresh.filter(|p| p.extension().is_some_and(|e| e == "seg")) {
            let mut head = [0; 68];
            let read = fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
            if read.is_ok() && head[65..68] == *b"REC" {
                return Ok(begin.elapsed().as_secs_f64() * 1000.0);
            }
        }
        ensure!(begin.elapsed() < Duration::from_secs(30), "no record within 30 s");
        std::thread::sleep(Duration::from_micros(500));
    }
}

pub(crate) fn measure() -> Result<Vec<Row>> {
    let place = Place {
        dir: tempfile::tempdir()?,
        sentinel: given("SENTINEL_BIN")?,
        plugins: given("SENTINEL_PLUGINS")?,
        publisher_key: given("SENTINEL_PUBLISHER_KEY")?,
        services: Services::read(&given("SENTINEL_SERVICES")?)?,
    };
    let nginx = Nginx::start(&place.services, &place.path("nginx"))?;
    let (_server, join) = place.server()?;
    place.prepare_agent(&nginx)?;

    // The first start compiles and enrols; the measured ones find both done.
    let listen = free_port()?;
    let warm = Process::start(&mut place.agent(&join, listen), &place.path("agent.log"))?;
    place.approve()?;
    wait("the agent", || get(listen, "/ready").is_ok_and(|t| t.contains("ready\n")))?;
    drop(warm);
    let mut starts = (0..STARTS).map(|_| start_ms(&place, &join)).collect::<Result<Vec<f64>>>()?;
    starts.sort_by(f64::total_cmp);

    let listen = free_port()?;
    let agent = Process::start(&mut place.agent(&join, listen), &place.path("agent.log"))?;
    let (exporter, vmagent, exporter_port) = place.exporter_and_vmagent()?;
    std::thread::sleep(SETTLE);
    let used = || -> Result<[f64; 3]> {
        Ok([
            cpu::scheduled(agent.pid())?,
            cpu::scheduled(exporter.pid())?,
            cpu::scheduled(vmagent.pid())?,
        ])
    };
    let before = used()?;
    std::thread::sleep(MEASURED);
    let after = used()?;
    let [ours, exported, scraped]: [f64; 3] = std::array::from_fn(|i| after[i] - before[i]);
    let series =
        |text: &str| text.lines().filter(|l| !l.starts_with('#') && l.contains(' ')).count();
    let exported_series = series(&get(exporter_port, "/metrics")?);
    let status: Value = {
        let text = get(listen, "/status")?;
        serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap_or_default())?
    };
    let rss = cpu::resident_mib(agent.pid())?;
    let peak = cpu::peak_mib(agent.pid())?;
    let samples = get(listen, "/metrics")?;
    let kept: f64 = samples
        .lines()
        .filter(|l| l.starts_with("sentinel_agent_samples_total"))
        .filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    let rounds = (SETTLE + MEASURED).as_secs_f64() / 10.0 + 1.0;
    let other_rss = cpu::resident_mib(exporter.pid())? + cpu::resident_mib(vmagent.pid())?;
    Ok(vec![
        Row::new(
            "agent-rss-mib",
            rss,
            (Better::Lower, 16.0),
            "MiB",
            json!({ "node exporter + vmagent": other_rss, "peak, at the start": peak, "slots": status["slots"].as_array().map(Vec::len) }),
        ),
        Row::new(
            "agent-cpu-vs-node-exporter-vmagent",
            ours / (exported + scraped),
            (Better::Lower, 1.0),
            "×",
            json!({
                "cpu_ms_a_second": { "agent": ours / MEASURED.as_secs_f64() * 1000.0, "node exporter": exported / MEASURED.as_secs_f64() * 1000.0, "vmagent": scraped / MEASURED.as_secs_f64() * 1000.0 },
                "series": { "agent": (kept / rounds).round(), "node exporter": exported_series },
            }),
        ),
        Row::new(
            "agent-start-ms",
            starts[STARTS / 2],
            (Better::Lower, 250.0),
            "ms",
            json!({ "all": starts }),
        ),
    ])
}
