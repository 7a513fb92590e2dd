//! The registry as a real process: how many pulls of a blob it serves beside nginx, and how
//! long two hundred hosts take to have a new plugin.

use crate::cpu;
use crate::row::{Better, Row};
use anyhow::{Context, Result, ensure};
use sentinel_registry_client::{FetchLimits, Publisher, RegistryClient, RegistryOptions};
use sentinel_test_services::{Nginx, RegistryFolder, RegistryProcess, Services};
use sentinel_trust::repository::{Enrolment, Interest};
use sentinel_trust::{Digest, Manifest, PublisherKey, embed};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The blob that is pulled.
const BLOB_BYTES: usize = 100 << 10;
/// Connections that pull at once, each one blob after the other.
const CONNECTIONS: usize = 16;
/// Each of the two is pulled from for so long, in turns.
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 5;
/// Pulls of the registry for each of nginx, at the least.
const RATIO: f64 = 0.5;
/// Hosts that install.
const HOSTS: usize = 200;
/// What they install.
const PLUGIN_BYTES: usize = 1 << 20;
/// Most seconds from the beginning of its publishing until the last host has it.
const INSTALL_S: f64 = 10.0;

fn given(variable: &str) -> Result<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    path.with_context(|| format!("{variable} is not set; run `cargo xtask bench`"))
}

fn now() -> Result<i64> {
    Ok(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

/// One connection: pulls until `until`, and tells how many came whole.
async fn pull(port: u16, path: String, until: Instant) -> Result<u64> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let mut buffer = vec![0; 256 << 10];
    let mut pulls = 0;
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        let body = loop {
            let read = stream.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "the connection ended after {pulls} pulls");
            filled += read;
            if let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = std::str::from_utf8(&buffer[..body])?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
        while filled < body + BLOB_BYTES {
            let read = stream.read(&mut buffer[filled..]).await?;
            ensure!(read > 0, "an answer was cut");
            filled += read;
        }
        ensure!(filled == body + BLOB_BYTES, "an answer is longer than the blob");
        pulls += 1;
    }
    Ok(pulls)
}

/// Pulls a second over all connections.
async fn rate(port: u16, path: &str) -> Result<f64> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        tasks.spawn(pull(port, path.to_owned(), begun + TURN));
    }
    let mut pulls = 0;
    while let Some(done) = tasks.join_next().await {
        pulls += done??;
    }
    Ok(pulls as f64 / begun.elapsed().as_secs_f64())
}

/// Pushes a blob; where it lies then.
async fn push(serving: &RegistryProcess, token: &str, blob: &[u8]) -> Result<String> {
    let digest = Digest::of(blob);
    let mut stream = TcpStream::connect(serving.address()).await?;
    let head = format!(
        "POST /v2/acme/thing/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        blob.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(blob).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.1 201"), "the blob was not taken: {answer}");
    Ok(format!("/v2/acme/thing/blobs/{digest}"))
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn pulls(folder: &Path) -> Result<Row> {
    let blob: Vec<u8> =
        (0..BLOB_BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let registry = RegistryFolder::bare(&given("SENTINEL_BIN")?, &folder.join("pulls"))?;
    let token = registry.token("acme")?;
    let serving = registry.serve_with(&["--requests-per-second", "1000000"])?;
    let path = push(&serving, &token, &blob).await?;
    let files = folder.join("nginx/files");
    std::fs::create_dir_all(&files)?;
    std::fs::write(files.join("blob"), &blob)?;
    let nginx =
        Nginx::start(&Services::read(&given("SENTINEL_SERVICES")?)?, &folder.join("nginx"))?;
    let port = serving.address().rsplit_once(':').context("no port")?.1.parse()?;
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    rate(port, &path).await?;
    rate(nginx.port(), "/files/blob").await?;
    let before = cpu::scheduled(serving.pid())?;
    for _ in 0..TURNS {
        ours.push(rate(port, &path).await?);
        theirs.push(rate(nginx.port(), "/files/blob").await?);
        ratios.push(ours[ours.len() - 1] / theirs[theirs.len() - 1]);
    }
    let busy = cpu::scheduled(serving.pid())? - before;
    let pulled: f64 = ours.iter().map(|rate| rate * TURN.as_secs_f64()).sum();
    let detail = json!({
        "blob_bytes": BLOB_BYTES,
        "connections": CONNECTIONS,
        "turns": TURNS,
        "pulls_a_second": median(&mut ours),
        "nginx_pulls_a_second": median(&mut theirs),
        "nginx": "one worker process, sendfile",
        "cpu_us_a_pull": busy / pulled * 1e6,
        "peak_rss_mib": cpu::peak_mib(serving.pid())?,
    });
    let ratio = median(&mut ratios);
    Ok(Row::new("registry-pull-vs-nginx", ratio, (Better::Higher, RATIO), "ratio", detail))
}

/// A collector of about [`PLUGIN_BYTES`].
fn plugin(version: &str) -> Result<Vec<u8>> {
    let world = sentinel_test_components::world("collector");
    let mut component = world.component(|interface| interface.contains("/log@"));
    let filling: Vec<u8> =
        (0..PLUGIN_BYTES as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let section = wasm_encoder::CustomSection { name: "filling".into(), data: filling.into() };
    component.push(0);
    wasm_encoder::Encode::encode(&section, &mut component);
    let manifest = json!({
        "format": 1, "name": "acme/probe", "version": version, "kind": "collector",
        "contract": "0.1.0", "description": "Measured.", "license": "Apache-2.0",
    });
    Ok(embed(&component, &Manifest::from_json(manifest.to_string().as_bytes())?)?)
}

/// A host that knows the registry.
fn host(
    registry: &RegistryFolder,
    serving: &RegistryProcess,
    name: &str,
) -> Result<RegistryClient> {
    let enrolment = std::fs::read(registry.path("registry/enrolment.json"))?;
    let options = RegistryOptions {
        url: serving.url().parse()?,
        folder: registry.path(name),
        ca: None,
        limits: FetchLimits::default(),
    };
    Ok(RegistryClient::open(options, Some(&Enrolment::from_json(&enrolment)?))?)
}

/// What every host does that is told of a plugin: fetch, verify, keep.
async fn install(hosts: &[RegistryClient], digest: Digest) -> Result<Vec<f64>> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for host in hosts {
        let host = host.clone();
        tasks.spawn(async move {
            let verified = host.fetch(&"acme/probe".parse()?, digest, now()?).await?;
            ensure!(verified.digest() == digest, "another plugin");
            Ok(begun.elapsed().as_secs_f64())
        });
    }
    let mut times = Vec::with_capacity(hosts.len());
    while let Some(done) = tasks.join_next().await {
        times.push(done??);
    }
    Ok(times)
}

async fn installs(folder: &Path) -> Result<Row> {
    let registry = RegistryFolder::new(&given("SENTINEL_BIN")?, &folder.join("installs"))?;
    let serving = registry.serve()?;
    let key = PublisherKey::from_secret("acme".parse()?, &[1; 32]);
    registry.approve(&serving, "acme", &key.public().to_string())?;
    let token = registry.token("acme")?.into();
    let client = host(&registry, &serving, "publisher")?;
    let publisher = Publisher { client: &client, key: &key, token };
    publisher.publish(&plugin("1.0.0")?, now()?).await?;
    let mut hosts = Vec::with_capacity(HOSTS);
    for number in 0..HOSTS {
        let host = host(&registry, &serving, &format!("host-{number}"))?;
        host.refresh(Interest::All, now()?).await?;
        hosts.push(host);
    }
    let (busy, own) = (cpu::scheduled(serving.pid())?, cpu::own());
    let begun = Instant::now();
    let published = publisher.publish(&plugin("1.1.0")?, now()?).await?;
    let publishing = begun.elapsed().as_secs_f64();
    let mut times = install(&hosts, published.release.digest).await?;
    let all = begun.elapsed().as_secs_f64();
    let detail: Value = json!({
        "hosts": HOSTS,
        "plugin_bytes": published.release.size,
        "publish_s": publishing,
        "median_host_s": median(&mut times),
        "service_cpu_s": cpu::scheduled(serving.pid())? - busy,
        "service_rss_mib": cpu::resident_mib(serving.pid())?,
        "service_peak_mib": cpu::peak_mib(serving.pid())?,
        "hosts_cpu_s": cpu::own() - own,
    });
    Ok(Row::new("install-200-agents-s", all, (Better::Lower, INSTALL_S), "s", detail))
}

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let folder = tempfile::tempdir()?;
    runtime.block_on(async {
        let installs = installs(folder.path()).await?;
        Ok(vec![installs, pulls(folder.path()).await?])
    })
}
