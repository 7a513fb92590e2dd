//! `deploy/local/up`: all roles as real processes over a real NATS and a real PostgreSQL.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::sentinel::{Home, Up, publisher_key};
use sentinel_e2e::{eventually, given};
use std::cell::RefCell;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);
/// How long all of it may take to start beside other tests: each process may take 90 s by itself.
const STARTED: Duration = Duration::from_secs(180);
/// How many of the last lines of a log are shown.
const LAST_LINES: usize = 25;
/// How many ports in a row it takes.
const PORTS: u16 = 9;
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/local/up");

/// What the configuration's agent collects beside the machine.
const COUNTER: &str = "  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {slot: counter, rows: 50, series: 7}
      grants: {kv: {max_bytes: 4096}}
";

/// An agent of the test. Killed when it is dropped.
struct Agent(Child);

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first of some ports in a row that nobody listens on.
fn ports() -> Result<u16> {
    (0..1000)
        .map(|_| rand::random_range(12_000..30_000))
        .find(|&first| {
            (first..first + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok())
        })
        .context("no ports are free")
}

/// A folder that PostgreSQL's user may pass through.
fn open_to_others(folder: &Path) -> Result<()> {
    Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o711))?)
}

/// The plugins that are published, the counter among them.
fn plugins(home: &Home) -> Result<PathBuf> {
    let folder = home.path().join("plugins");
    fs::create_dir(&folder)?;
    for name in ["alert-dsl.wasm", "rows.wasm", "system.wasm", "fixtures/counter.wasm"] {
        let plugin = given("SENTINEL_PLUGINS", "plugins").join(name);
        fs::copy(&plugin, folder.join(plugin.file_name().context(name)?))?;
    }
    Ok(folder)
}

fn command(home: &Home, folder: &Path) -> Command {
    // A shell cannot trap a signal that was ignored when it began, and whoever runs tests in the
    // background ignores Ctrl-C.
    let mut command = Command::new("/usr/bin/env");
    command.arg("--default-signal=INT").arg(SCRIPT);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("HOME", home.path()).env("SENTINEL_BIN", home.command().get_program());
    command.env("SENTINEL_PLUGINS", home.path().join("plugins"));
    command.env("SENTINEL_PUBLISHER_KEY", publisher_key());
    command.env("SENTINEL_SERVICES", given("SENTINEL_SERVICES", "services/services.json"));
    command.arg("--folder").arg(folder).stdin(Stdio::null());
    command
}

/// A word that the script wrote for shells: `export NAME=VALUE`.
fn exported(folder: &Path, name: &str) -> Result<String> {
    let text = fs::read_to_string(folder.join("env"))?;
    let prefix = format!("export {name}=");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix));
    Ok(line.with_context(|| format!("{name} in {text}"))?.to_owned())
}

fn said(home: &Home) -> String {
    fs::read_to_string(home.path().join("local.out")).unwrap_or_default()
}

/// The last lines of every process's log, for whoever asks why something did not come.
fn last_words(home: &Home, folder: &Path) -> String {
    let mut all = said(home);
    let mut logs: Vec<PathBuf> = fs::read_dir(folder.join("logs"))
        .map(|files| files.filter_map(|file| Some(file.ok()?.path())).collect())
        .unwrap_or_default();
    logs.push(home.path().join("second.log"));
    logs.sort();
    for log in logs {
        let text = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().rev().take(LAST_LINES).collect();
        all.push_str(&format!("\n==> {} <==\n", log.display()));
        lines.iter().rev().for_each(|line| all.push_str(&format!("{line}\n")));
    }
    all
}

/// Starts it and waits until it says that it runs.
async fn start<'h>(home: &'h Home, folder: &Path, arguments: &[String]) -> Result<Up<'h>> {
    let out = home.path().join("local.out");
    let file = File::create(&out)?;
    let child =
        command(home, folder).args(arguments).stdout(file.try_clone()?).stderr(file).spawn()?;
    let child = RefCell::new(child);
    let running = eventually("it runs or has ended", STARTED, || async {
        let is_over = child.borrow_mut().try_wait()?.is_some();
        Ok((is_over || said(home).contains("Ctrl-C stops it.")).then_some(!is_over))
    })
    .await;
    let word = |name| exported(folder, name);
    let words = running.and_then(|runs| {
        ensure!(runs, "it has ended: {}", said(home));
        Ok((word("SENTINEL_SERVER")?, word("SENTINEL_TOKEN")?))
    });
    let mut child = child.into_inner();
    match words {
        Ok((server, token)) => Ok(home.serving(child, server, token)),
        Err(error) => {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

/// The processes that it says it started.
fn processes(folder: &Path) -> Result<Vec<(String, u32)>> {
    let files = fs::read_dir(folder.join("run"))?;
    files
        .map(|file| {
            let path = file?.path();
            let name = path.file_stem().context("a name")?.to_string_lossy().into_owned();
            Ok((name, fs::read_to_string(&path)?.trim().parse()?))
        })
        .collect()
}

/// An agent of another configuration, which enrols through the second server.
async fn second_agent(home: &Home, folder: &Path, rest: &str, grpc: &str) -> Result<Agent> {
    let token = fs::read_to_string(folder.join("server-2/api.token"))?;
    let mut create = home.command();
    create.args(["token", "create", "--server", rest]).env("SENTINEL_TOKEN", token.trim());
    let made = create.output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(home.path().join("token"), made.stdout)?;
    let config = home.path().join("second.yaml");
    let agent = COUNTER.replace("counter, rows", "second, rows");
    fs::write(&config, format!("version: 1\nagent:\n  id: second\n  interval: 200ms\n{agent}"))?;
    let log = File::create(home.path().join("second.log"))?;
    let mut command = home.command();
    command.args(["agent", "--join", grpc]).arg("--config").arg(config);
    command.arg("--data").arg(home.path().join("second"));
    command.arg("--token-file").arg(home.path().join("token"));
    let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
    let agent = Agent(child);
    // This machine was enrolled before, so that it waits to be let in.
    eventually("the second agent is approved", SOON, || async {
        let mut approve = home.command();
        approve.args(["agents", "approve", "second", "--server", rest]);
        let done = approve.env("SENTINEL_TOKEN", token.trim()).output()?;
        Ok(done.status.success().then_some(()))
    })
    .await
    .with_context(|| fs::read_to_string(home.path().join("second.log")).unwrap_or_default())?;
    Ok(agent)
}

/// Waits for samples of a slot from after a moment; the highest.
async fn samples(up: &Up<'_>, slot: &str, since: i64, what: &str) -> Result<u64> {
    eventually(what, SOON, || async { Ok(Counted::of_slot(up, slot, since).await?.last()) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_runs_through_both_servers_survives_a_worker_stops_and_goes_on() -> Result<()> {
    let home = Home::new()?;
    open_to_others(home.path())?;
    plugins(&home)?;
    let folder = home.path().join("local");
    scene(&home, &folder).await.with_context(|| last_words(&home, &folder))
}

async fn scene(home: &Home, folder: &Path) -> Result<()> {
    let first = ports()?;
    let began = now() - 60_000;
    let up = start(home, folder, &["--ports".to_owned(), first.to_string()]).await?;
    let config = folder.join("sentinel.yaml");
    let text = fs::read_to_string(&config)?.replace("  collectors:\n", COUNTER);
    fs::write(&config, text.replace("interval: 10s", "interval: 200ms"))?;
    samples(&up, "counter", began, "samples through the first server").await?;
    let port = |n| format!("http://127.0.0.1:{}", first + n);
    let second = second_agent(home, folder, &port(4), &port(5)).await?;
    samples(&up, "second", began, "samples through the second server").await?;

    // The worker that works dies; another goes on, and the dead one is started again.
    let status = up.get("/v1/status").await?;
    let workers = status["workers"].as_array().context("workers")?;
    let mut names = workers.iter().filter_map(|one| one["name"].as_str()?.strip_prefix("worker/"));
    let working = names.next().context("a worker")?.to_owned();
    let before = processes(folder)?;
    let (_, pid) = before.iter().find(|(name, _)| *name == working).context("its process")?;
    let kill = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    ensure!(kill.success());
    samples(&up, "counter", now() + 1000, "samples by another worker").await?;
    samples(&up, "second", now() + 1000, "samples by another worker").await?;
    // It takes a moment to start it again; who is asked to end before it is ready ends in disorder.
    let number: u16 = working.strip_prefix("worker-").context("a number")?.parse()?;
    let ready = format!("{}/ready", port(6 + number));
    let running = eventually("the dead worker is started again", SOON, || async {
        let ended = said(home).contains(&format!("{working} has ended (status 137)"));
        let is_ready = reqwest::get(&ready).await?.status().is_success();
        let running = processes(folder)?;
        let again = running.iter().any(|(name, new)| *name == working && new != pid);
        Ok((ended && is_ready && again).then_some(running))
    })
    .await?;
    drop(second);

    ensure!(running.len() == 8, "{running:?}");
    ensure!(up.stop().await?.success(), "{}", said(home));
    ensure!(said(home).contains("Stopped.") && !said(home).contains("killed"), "{}", said(home));
    for (name, pid) in running {
        ensure!(!Path::new(&format!("/proc/{pid}")).exists(), "{name} still runs");
    }
    ensure!(processes(folder)?.is_empty());

    // It goes on where it was: nothing is missing, and nothing twice.
    let up = start(home, folder, &[]).await?;
    let last = samples(&up, "counter", now() + 1000, "samples after a restart").await?;
    Counted::of_slot(&up, "counter", began).await?.assert_each_once(last, "no seed");
    ensure!(up.stop().await?.success(), "{}", said(home));
    Ok(())
}

/// A command of the CLI as a shell asks that read the words the script wrote.
fn asking(home: &Home, folder: &Path, args: &[&str]) -> Result<std::process::Output> {
    let mut command = home.command();
    for name in ["SERVER", "TOKEN", "CA", "CLIENT_CERT", "CLIENT_KEY"] {
        let name = format!("SENTINEL_{name}");
        command.env(&name, exported(folder, &name)?);
    }
    Ok(command.args(args).output()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_samples_arrive_and_nobody_is_served_without_a_certificate() -> Result<()> {
    let home = Home::new()?;
    open_to_others(home.path())?;
    plugins(&home)?;
    let folder = home.path().join("local");
    let first = ports()?;
    let arguments = ["--tls".to_owned(), "--ports".to_owned(), first.to_string()];
    let up = start(&home, &folder, &arguments).await?;
    let arrived = eventually("samples", SOON, || async {
        let names = asking(&home, &folder, &["metrics"])?;
        let text = String::from_utf8_lossy(&names.stdout).into_owned();
        Ok(text.contains("system_uptime_seconds").then_some(()))
    })
    .await;
    arrived.with_context(|| {
        let logs = ["agent", "server-1", "worker-1", "worker-2"].map(|name| {
            let log = fs::read_to_string(folder.join(format!("logs/{name}.log")));
            format!("{name}:\n{}", log.unwrap_or_default())
        });
        logs.concat()
    })?;

    // The registry and both servers speak TLS alone, and servers ask who comes.
    let ca = reqwest::Certificate::from_pem(&fs::read(folder.join("certs/ca.pem"))?)?;
    let stranger = reqwest::Client::builder().tls_certs_only([ca]).build()?;
    for (port, served) in [(1, true), (2, false), (4, false)] {
        let address = |scheme| format!("{scheme}://127.0.0.1:{}/healthz", first + port);
        let plain = stranger.get(address("http")).send().await;
        ensure!(!plain.is_ok_and(|answer| answer.status().is_success()), "port {port} without TLS");
        let answer = stranger.get(address("https")).send().await;
        ensure!(answer.is_ok() == served, "port {port} without a certificate: {answer:?}");
    }
    ensure!(up.stop().await?.success(), "{}", said(&home));
    Ok(())
}

#[test]
fn what_is_missing_is_said_with_what_to_install() -> Result<()> {
    let home = Home::new()?;
    let folder = home.path().join("local");
    // A PATH with what the script itself needs, and no service.
    let tools = home.path().join("bin");
    fs::create_dir(&tools)?;
    for tool in ["bash", "dirname", "awk", "sed", "sort", "tail", "setpriv", "flock", "id"] {
        let paths = std::env::var_os("PATH").context("PATH")?;
        let found = std::env::split_paths(&paths).map(|path| path.join(tool));
        let found = found.into_iter().find(|path| path.exists()).context(tool)?;
        std::os::unix::fs::symlink(found, tools.join(tool))?;
    }
    fs::create_dir(home.path().join("plugins"))?;
    let run = |command: &mut Command| -> Result<String> {
        let output = command.output()?;
        ensure!(!output.status.success());
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let said = run(&mut command(&home, &folder))?;
    ensure!(said.contains("build both with:  cargo xtask components"), "{said}");
    fs::write(home.path().join("plugins/any.wasm"), "")?;
    let mut without = command(&home, &folder);
    without.env("PATH", &tools).env("SENTINEL_SERVICES", "/nonexistent");
    let said = run(&mut without)?;
    ensure!(said.contains("apt install nats-server"), "{said}");
    ensure!(said.contains("cargo xtask services"), "{said}");
    Ok(())
}
