//! Kill -9 of a host at random moments while it updates and installs: what it trusts is whole
//! and never goes back, and every plugin that it kept is whole.
//!
//! The host is this program again, told by its environment.

#[path = "../../trust/tests/fixture/mod.rs"]
mod fixture;
mod hostile;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixture::key;
use fixture::registry::{NOW, Registry, plugin};
use hostile::Server;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_registry_client::{
    FetchLimits, HostOptions, HostPlugins, PluginSource, REFRESH, RegistryOptions,
};
use sentinel_trust::repository::{Enrolment, Interest, PluginRange};

/// Kills of one run, where the environment says nothing else.
const KILLS: u64 = 15;
/// The longest that a host lives.
const LIFE: Duration = Duration::from_millis(120);
/// How long hosts are given more and more time where none has updated yet.
const PATIENCE: Duration = Duration::from_secs(90);

/// Set where this program is the host: URL, folder and enrolment, a line each.
const HOST: &str = "SENTINEL_TEST_KILLED_HOST";

/// The host that is killed; without being told to, there is nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn host() {
    let Ok(told) = std::env::var(HOST) else { return };
    let told: Vec<&str> = told.lines().collect();
    child(told[0], told[1], told[2]).await;
}

/// Updates, installs and forgets until it is killed.
async fn child(url: &str, folder: &str, enrolment: &str) {
    let enrolment = Enrolment::from_json(&std::fs::read(enrolment).unwrap()).unwrap();
    let options = RegistryOptions {
        url: url.parse().unwrap(),
        folder: folder.into(),
        ca: None,
        limits: FetchLimits::default(),
    };
    let host = HostOptions { registry: options, refresh: REFRESH, clock: Arc::new(|| NOW) };
    let host = HostPlugins::open(host, Some(&enrolment)).unwrap();
    let client = host.client();
    loop {
        let Ok(view) = client.refresh(Interest::All, NOW).await else { continue };
        for release in view.releases() {
            let _ = client.fetch(&release.name, release.digest, NOW).await;
            let range = PluginRange::exactly(release.name.clone(), &release.version);
            let _ = host.resolve(&range).await;
        }
        let releases: Vec<_> = view.releases().cloned().collect();
        let _ = host.install(&releases[releases.len() - 1]).await;
        // What is not pinned is needed now and then, and goes again.
        let all = releases.iter().map(|release| release.digest).collect();
        for needed in [&all, &BTreeSet::new(), &BTreeSet::new()] {
            host.needs(needed).await.unwrap();
        }
        let pinned = host.pins().unwrap().into_iter().map(|pin| pin.digest).collect();
        client.forget(all.difference(&pinned).copied().collect()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_at_any_moment_stays_whole_and_never_goes_back() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("SENTINEL_SEED").unwrap_or(7);
    let kills = number("SENTINEL_KILLS").unwrap_or(KILLS);
    println!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut registry = Registry::with_acme();
    let server = Server::start().await;
    server.serve(&registry);
    let folder = tempfile::tempdir().unwrap();
    let enrolment = folder.path().join("enrolment.json");
    std::fs::write(&enrolment, registry.enrolment().to_json()).unwrap();
    let host = folder.path().join("host");
    drop(server.client(&host, &registry.enrolment()));
    let (mut seen, mut kill, began) = (0, 0, Instant::now());
    // On a busy machine a host that is killed so soon may not have begun.
    while kill < kills || (seen <= 1 && began.elapsed() < PATIENCE) {
        let longer = u32::try_from(kill.saturating_sub(kills)).unwrap_or(u32::MAX);
        let life = LIFE * (1 + longer);
        let mut child = start(&server.url, &host, &enrolment);
        // The registry goes on meanwhile, so that there is something to write.
        for patch in 0..3 {
            tokio::time::sleep(life.mul_f64(random.random_range(0.0..0.33))).await;
            registry.publish(
                &plugin("acme/probe", &format!("1.{kill}.{}", patch + 1)),
                &key("acme", 1),
            );
            server.serve(&registry);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        seen = check(&server, &host, seen).await;
        kill += 1;
    }
    assert!(seen > 1, "no host lived long enough to update");
    println!("{kill} kills: whole each time, at snapshot {seen}");
}

fn start(url: &str, host: &Path, enrolment: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "host", "--nocapture"])
        .env(HOST, format!("{url}\n{}\n{}", host.display(), enrolment.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The version of the snapshot, no lower than `seen`.
async fn check(server: &Server, host: &Path, seen: u64) -> u64 {
    let registry = server.options(host);
    let options = HostOptions { registry, refresh: REFRESH, clock: Arc::new(|| NOW) };
    let plugins = HostPlugins::open(options, None).expect("the state is whole");
    let client = plugins.client();
    for pin in plugins.pins().expect("the pins are whole") {
        let kept = client.stored(pin.digest).await.unwrap();
        assert!(kept.is_some(), "{} is pinned to {} and not there", pin.range, pin.version);
    }
    let snapshot = client.view().versions().snapshot;
    assert!(snapshot >= seen, "went back from {seen} to {snapshot}");
    for entry in std::fs::read_dir(host.join("plugins")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(hex) = name.strip_suffix(".wasm") else { continue };
        if name.starts_with('.') {
            continue;
        }
        let digest = format!("sha256:{hex}").parse().unwrap();
        let kept = client.stored(digest).await.unwrap();
        assert!(kept.is_some(), "{name} is not whole");
    }
    snapshot
}
