//! The plugins of a host: pinned, moved by operators alone, there without a network.

#[path = "../../trust/tests/fixture/mod.rs"]
mod fixture;
mod hostile;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use fixture::key;
use fixture::registry::{DAY, NOW, Registry, plugin, plugin_with};
use hostile::{Reply, Server};
use sentinel_registry_client::{HostOptions, HostPlugins, Moved, PluginSource, REFRESH, Upgrade};
use tempfile::TempDir;

/// A registry with `acme/probe` 1.0.0, and a folder of a host.
struct Scene {
    registry: Registry,
    server: Server,
    clock: Arc<AtomicI64>,
    folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let (registry, server) = (Registry::with_acme(), Server::start().await);
        server.serve(&registry);
        let folder = tempfile::tempdir().unwrap();
        Self { registry, server, clock: Arc::new(AtomicI64::new(NOW)), folder }
    }

    fn pins(&self) -> std::path::PathBuf {
        self.folder.path().join("pins.json")
    }

    fn options(&self, folder: &Path) -> HostOptions {
        let clock = Arc::clone(&self.clock);
        HostOptions {
            registry: self.server.options(folder),
            refresh: REFRESH,
            clock: Arc::new(move || clock.load(Ordering::SeqCst)),
        }
    }

    /// Another process of the host, or the next one.
    fn open(&self) -> HostPlugins {
        let options = self.options(self.folder.path());
        HostPlugins::open(options, Some(&self.registry.enrolment())).unwrap()
    }

    /// The next process of the host, whose registry does not listen any more.
    fn offline(&self) -> HostPlugins {
        let mut options = self.options(self.folder.path());
        options.registry.url = "http://127.0.0.1:1/".parse().unwrap();
        HostPlugins::open(options, None).unwrap()
    }

    fn publish(&mut self, name: &str, version: &str) {
        self.registry.publish(&plugin(name, version), &key("acme", 1));
        self.server.serve(&self.registry);
        self.later(60_000);
    }

    fn later(&mut self, ms: i64) {
        let now = self.clock.fetch_add(ms, Ordering::SeqCst) + ms;
        self.registry.now = now;
    }
}

async fn resolve(host: &HostPlugins, range: &str) -> Result<String, String> {
    let found = host.resolve(&range.parse().unwrap()).await;
    found.map(|plugin| plugin.version().to_string()).map_err(|error| error.to_string())
}

async fn upgrade_all(host: &HostPlugins) -> Vec<Moved> {
    let mut moved = Vec::new();
    for upgrade in host.upgrades(None).await.unwrap() {
        moved.extend(host.upgrade(&upgrade).await.unwrap());
    }
    moved
}

#[tokio::test]
async fn a_range_means_one_release_until_an_operator_moves_it() {
    let mut scene = Scene::new().await;
    let host = scene.open();
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.0.0"));
    scene.publish("acme/probe", "1.1.0");
    host.refresh().await.unwrap();
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.0.0"));
    assert_eq!(resolve(&scene.open(), "acme/probe").await.as_deref(), Ok("1.0.0"), "a restart");
    assert_eq!(resolve(&host, "acme/probe@^1").await.as_deref(), Ok("1.1.0"), "another range");
    assert_eq!(resolve(&host, "acme/probe@1.0.0").await.as_deref(), Ok("1.0.0"));
    let mut changes = host.changes();
    changes.mark_unchanged();
    let moved = upgrade_all(&host).await;
    assert_eq!(moved.len(), 1, "{moved:?}");
    assert_eq!(moved[0].range.to_string(), "acme/probe");
    assert_eq!(
        (moved[0].from.clone().unwrap().to_string(), &*moved[0].to.version.to_string()),
        ("1.0.0".to_owned(), "1.1.0")
    );
    assert!(changes.has_changed().unwrap());
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.1.0"));
    assert_eq!(resolve(&host, "acme/probe@1.0.0").await.as_deref(), Ok("1.0.0"));
    assert!(upgrade_all(&host).await.is_empty());
}

#[tokio::test]
async fn what_was_pinned_starts_without_a_network_and_what_is_new_says_why_not() {
    let mut scene = Scene::new().await;
    assert_eq!(resolve(&scene.open(), "acme/probe").await.as_deref(), Ok("1.0.0"));
    scene.later(1000 * DAY);
    let host = scene.offline();
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.0.0"));
    let why = resolve(&host, "acme/probe@^1").await.unwrap_err();
    assert!(why.contains("does not answer"), "{why}");
    assert!(host.refresh().await.is_err() && host.upgrades(None).await.is_err());
}

#[tokio::test]
async fn a_registry_that_did_not_answer_is_not_asked_for_every_slot() {
    let scene = Scene::new().await;
    let host = scene.open();
    let first = scene.registry.online.timestamp.path();
    scene.server.set(&format!("/metadata/{first}"), Reply::Silent);
    let why = resolve(&host, "acme/probe").await.unwrap_err();
    scene.server.asked();
    assert_eq!(resolve(&host, "acme/probe@^1").await.unwrap_err(), why);
    assert!(scene.server.asked().is_empty());
}

#[tokio::test]
async fn a_revocation_reaches_the_policy_and_a_pinned_release_that_was_revoked_says_so() {
    let mut scene = Scene::new().await;
    let host = scene.open();
    let plugin = host.resolve(&"acme/probe".parse().unwrap()).await.unwrap();
    scene.publish("acme/probe", "1.1.0");
    let digest = plugin.digest();
    let publisher = "acme".parse().unwrap();
    scene.registry.publishers(|all| all.revoke_digest(&publisher, digest).unwrap());
    scene.server.serve(&scene.registry);
    let mut changes = host.changes();
    changes.mark_unchanged();
    host.refresh().await.unwrap();
    assert!(changes.has_changed().unwrap());
    assert!(host.policy().unwrap().revoked_digests.contains(&digest));
    for host in [host, scene.offline()] {
        let why = resolve(&host, "acme/probe").await.unwrap_err();
        for part in ["acme/probe is 1.0.0", "revoked", "sentinel plugin upgrade"] {
            assert!(why.contains(part), "{why}");
        }
    }
    let host = scene.open();
    assert_eq!(upgrade_all(&host).await.len(), 1);
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.1.0"));
}

#[tokio::test]
async fn pins_that_are_damaged_choose_nothing_and_are_not_begun_anew() {
    let scene = Scene::new().await;
    resolve(&scene.open(), "acme/probe").await.unwrap();
    let whole = std::fs::read_to_string(scene.pins()).unwrap();
    let host = scene.open();
    for damaged in [
        "",
        &whole[..whole.len() / 2],
        &whole.replace("\"format\": 1", "\"format\": 2"),
        &whole.replace("\"acme/probe\"", "\"acme/probe@^2\""),
        &whole.replace("sha256:", "sha1:"),
        &" ".repeat(2 << 20),
    ] {
        std::fs::write(scene.pins(), damaged).unwrap();
        let why = resolve(&host, "acme/probe").await.unwrap_err();
        assert!(why.contains("pins.json") && why.contains("backup"), "{why}");
        let options = scene.options(scene.folder.path());
        assert!(HostPlugins::open(options, None).is_err());
        assert_eq!(std::fs::read_to_string(scene.pins()).unwrap(), damaged);
    }
    std::fs::write(scene.pins(), &whole).unwrap();
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.0.0"));
}

#[tokio::test]
async fn an_upgrade_tells_what_is_asked_for_beyond_and_one_that_came_too_late_moves_nothing() {
    let mut scene = Scene::new().await;
    let host = scene.open();
    resolve(&host, "acme/probe").await.unwrap();
    let more = plugin_with("acme/probe", "2.0.0", |json| {
        json["requests"] = serde_json::json!({"system": true, "kv": {"max_bytes": 4096}});
    });
    scene.registry.publish(&more, &key("acme", 1));
    scene.server.serve(&scene.registry);
    let found = host.upgrades(Some(&"acme/probe".parse().unwrap())).await.unwrap();
    let [upgrade] = &found[..] else { panic!("{found:?}") };
    assert!(upgrade.difference.asks_for_more(), "{upgrade:?}");
    assert!(host.upgrades(Some(&"acme/other".parse().unwrap())).await.unwrap().is_empty());
    let other = Upgrade { to: upgrade.to.clone(), ..upgrade.clone() };
    assert!(host.upgrade(&other).await.unwrap().is_some());
    assert_eq!(host.upgrade(upgrade).await.unwrap(), None, "it was moved meanwhile");
}

#[tokio::test]
async fn pins_follow_what_the_owner_publishes_up_and_never_down() {
    let mut scene = Scene::new().await;
    let host = scene.open();
    resolve(&host, "acme/probe").await.unwrap();
    resolve(&host, "acme/probe@~1.0").await.unwrap();
    scene.publish("acme/probe", "1.0.7");
    scene.publish("acme/probe", "1.2.0");
    host.refresh().await.unwrap();
    let view = host.client().view();
    let releases: Vec<_> = view.releases().cloned().collect();
    let moved = host.follow(&releases).await.unwrap();
    assert_eq!(moved.len(), 2, "{moved:?}");
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.2.0"));
    assert_eq!(resolve(&host, "acme/probe@~1.0").await.as_deref(), Ok("1.0.7"));
    assert!(host.follow(&releases[..1]).await.unwrap().is_empty());
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.2.0"));
}

#[tokio::test]
async fn a_release_that_is_installed_is_what_its_ranges_mean_until_it_is_forgotten() {
    let mut scene = Scene::new().await;
    scene.publish("acme/probe", "1.1.0");
    scene.publish("acme/early", "1.0.0-rc.1");
    let host = scene.open();
    host.client().refresh(sentinel_trust::repository::Interest::All, NOW).await.unwrap();
    let view = host.client().view();
    let release = |version: &str| {
        view.releases().find(|one| one.version.to_string() == version).unwrap().clone()
    };
    let moved = host.install(&release("1.0.0")).await.unwrap();
    assert_eq!((moved[0].range.to_string(), &moved[0].from), ("acme/probe".to_owned(), &None));
    assert!(host.install(&release("1.0.0")).await.unwrap().is_empty());
    assert_eq!(resolve(&host, "acme/probe").await.as_deref(), Ok("1.0.0"));
    let moved = host.install(&release("1.0.0-rc.1")).await.unwrap();
    assert_eq!(moved[0].range.to_string(), "acme/early@1.0.0-rc.1");
    assert_eq!(host.install(&release("1.1.0")).await.unwrap().len(), 1);
    let name = "acme/probe".parse().unwrap();
    assert!(host.unpin(&name, Some(&"1.0.0".parse().unwrap())).unwrap().is_empty());
    assert_eq!(host.unpin(&name, None).unwrap().len(), 1);
    assert_eq!(host.pins().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_needed_no_more_goes_after_one_step_and_a_step_back_needs_no_network() {
    let mut scene = Scene::new().await;
    for version in ["1.1.0", "1.2.0", "1.3.0"] {
        scene.publish("acme/probe", version);
    }
    let host = scene.open();
    host.client().refresh(sentinel_trust::repository::Interest::All, NOW).await.unwrap();
    let view = host.client().view();
    let release = |version: &str| {
        view.releases().find(|one| one.version.to_string() == version).unwrap().clone()
    };
    let name = "acme/probe".parse().unwrap();
    let [zero, one, two, three] = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"].map(|v| release(v).digest);
    for digest in [zero, one, two, three] {
        host.fetch(&name, digest).await.unwrap();
    }
    let there = || {
        let folder = scene.folder.path().join("plugins");
        [zero, one, two, three]
            .map(|digest| folder.join(format!("{}.wasm", digest.to_hex())).exists())
    };
    // 1.0.0 is pinned; a fleet's sets need one after the other; 1.3.0 came with a bundle.
    host.install(&release("1.0.0")).await.unwrap();
    assert_eq!(host.needs(&[one].into()).await.unwrap(), 0);
    assert_eq!(host.needs(&[two].into()).await.unwrap(), 0);
    assert_eq!(there(), [true; 4], "one step back");
    // As after a restart: nothing of it is forgotten.
    let host = scene.offline();
    assert_eq!(host.needs(&[two].into()).await.unwrap(), 0);
    assert_eq!(host.fetch(&name, one).await.unwrap().digest(), one, "back, offline");
    assert_eq!(host.needs(&[one].into()).await.unwrap(), 0);
    assert_eq!(host.needs(&[one, two].into()).await.unwrap(), 0);
    assert_eq!(host.needs(&[two].into()).await.unwrap(), 0);
    assert_eq!(host.needs(&[].into()).await.unwrap(), 1);
    assert_eq!(there(), [true, false, true, true], "1.1.0 was needed two steps ago");
    assert!(host.unpin(&name, None).unwrap().len() == 1);
    assert_eq!(host.needs(&[].into()).await.unwrap(), 1);
    assert_eq!(there(), [true, false, false, true]);
    assert_eq!(host.needs(&[two].into()).await.unwrap(), 1, "the pin is two steps ago");
    assert_eq!(there(), [false, false, false, true], "never needed, never removed");
}

#[tokio::test]
async fn a_host_notices_what_another_process_of_it_did() {
    let mut scene = Scene::new().await;
    let host = Arc::new(scene.open());
    resolve(&host, "acme/probe").await.unwrap();
    let fresh = host.keep_fresh();
    let mut changes = host.changes();
    scene.publish("acme/probe", "1.1.0");
    assert_eq!(upgrade_all(&scene.open()).await.len(), 1);
    let noticed = async {
        // Of the metadata and of the pins, together or one after the other.
        while resolve(&host, "acme/probe").await.as_deref() != Ok("1.1.0")
            || host.client().view().releases().count() != 2
        {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.unwrap();
    fresh.stop().await;
}

#[tokio::test]
async fn a_revocation_is_found_without_being_asked_for() {
    let mut scene = Scene::new().await;
    let mut options = scene.options(scene.folder.path());
    options.refresh = Duration::from_millis(100);
    let host = HostPlugins::open(options, Some(&scene.registry.enrolment())).unwrap();
    let host = Arc::new(host);
    let plugin = host.resolve(&"acme/probe".parse().unwrap()).await.unwrap();
    let fresh = host.keep_fresh();
    let mut changes = host.changes();
    let publisher = "acme".parse().unwrap();
    scene.registry.publishers(|all| all.revoke_digest(&publisher, plugin.digest()).unwrap());
    scene.server.serve(&scene.registry);
    let noticed = async {
        while !host.policy().unwrap().revoked_digests.contains(&plugin.digest()) {
            changes.changed().await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noticed).await.unwrap();
    fresh.stop().await;
}
