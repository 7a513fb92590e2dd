use super::loaded::RETRY;
use super::*;
use async_trait::async_trait;
use sentinel_registry_client::{NoPlugins, SourceError, VerifiedComponent};
use sentinel_trust::repository::PluginRange;
use sentinel_trust::{Digest, PluginName, TrustPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use tempfile::TempDir;
use tokio::sync::watch;

/// Has no plugin, and counts who asks.
struct Asked {
    changes: watch::Sender<u64>,
    asked: AtomicU32,
}

#[async_trait]
impl PluginSource for Asked {
    async fn resolve(&self, wanted: &PluginRange) -> Result<Arc<VerifiedComponent>, SourceError> {
        self.asked.fetch_add(1, Relaxed);
        NoPlugins.resolve(wanted).await
    }

    async fn fetch(
        &self,
        name: &PluginName,
        digest: Digest,
    ) -> Result<Arc<VerifiedComponent>, SourceError> {
        NoPlugins.fetch(name, digest).await
    }

    fn policy(&self) -> Result<Arc<TrustPolicy>, SourceError> {
        NoPlugins.policy()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

/// A configuration where there are no plugins.
struct Case {
    dir: TempDir,
    plugins: Asked,
}

const GOOD: &str = "version: 1\nagent: {interval: 5s}\n";

impl Case {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugins = Asked { changes: watch::channel(0).0, asked: AtomicU32::new(0) };
        let case = Self { dir, plugins };
        case.write(text);
        case
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("sentinel.yaml")
    }

    fn write(&self, text: &str) {
        fs::write(self.file(), text).unwrap();
    }

    async fn read(&self) -> Result<Loaded> {
        Loaded::read(&self.file(), Part::Whole, &self.plugins).await
    }

    /// One look; a new configuration takes effect.
    async fn look(&self, loaded: &mut Loaded) -> Look {
        match loaded.again(Part::Whole, &self.plugins).await {
            None => Look::Nothing,
            Some(Ok(fresh)) => {
                *loaded = fresh;
                Look::New(loaded.config.agent.interval)
            }
            Some(Err(error)) => Look::Refused(format!("{error:#}")),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Look {
    Nothing,
    New(Millis),
    Refused(String),
}

#[test]
fn the_default_configuration_has_the_right_shape() {
    let document = Document::parse("default.yaml", DEFAULT).unwrap();
    let config: ConfigFile = document.read().unwrap();
    assert_eq!(config.agent.collectors.len(), 1);
    assert_eq!(config.worker.evaluators.len(), 1);
    let document = Document::parse("agent.yaml", include_str!("../agent.yaml")).unwrap();
    assert_eq!(document.read::<ConfigFile>().unwrap().agent, config.agent);
}

#[test]
fn a_first_configuration_takes_the_place_of_none_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sentinel.yaml");
    for text in ["version: 1\n", "another"] {
        begin_with(&path, text).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "version: 1\n");
    }
}

#[test]
fn raw_samples_are_kept_for_a_week_and_hourly_ones_for_ninety_days_unless_it_says_otherwise() {
    let kept = |text: &str| {
        let document = Document::parse("sentinel.yaml", &format!("version: 1\n{text}")).unwrap();
        let keep = document.read::<ConfigFile>().unwrap().keep;
        (keep.raw.to_string(), keep.rollups.to_string())
    };
    assert_eq!(kept(""), ("7d".into(), "90d".into()));
    assert_eq!(kept("keep: {raw: 90d, rollups: 400d}\n"), ("90d".into(), "400d".into()));
    assert_eq!(kept("keep: {raw: 30d}\n"), ("30d".into(), "90d".into()));
}

#[test]
fn the_slot_of_the_first_plugin_in_the_sdks_readme_has_the_right_shape() {
    let readme = include_str!("../../../../../components/sdk/README.md");
    let (_, text) = readme.split_once("```yaml\nagent:").unwrap();
    let (text, _) = text.split_once("```").unwrap();
    let document = Document::parse("README.md", &format!("version: 1\nagent:{text}")).unwrap();
    let config: ConfigFile = document.read().unwrap();
    assert_eq!(config.agent.collectors[0].plugin, "acme/number");
    assert!(config.agent.collectors[0].grants.files.is_some());
}

#[tokio::test]
async fn a_changed_file_is_read_once_when_it_has_stopped_changing() {
    let case = Case::new(GOOD);
    let mut loaded = case.read().await.unwrap();
    for _ in 0..3 {
        assert_eq!(case.look(&mut loaded).await, Look::Nothing);
    }
    case.write("version: 1\nagent: {interval: 30s}\n");
    assert_eq!(case.look(&mut loaded).await, Look::Nothing, "it may still be written");
    assert_eq!(case.look(&mut loaded).await, Look::New(Millis(30_000)));
    assert_eq!(case.look(&mut loaded).await, Look::Nothing);
}

#[tokio::test]
async fn a_file_that_is_being_written_is_never_half_in_force() {
    // Each prefix of the text is a valid document, or none: neither is applied or refused while
    // the writer is at it, however long it takes.
    let case = Case::new(GOOD);
    let mut loaded = case.read().await.unwrap();
    let whole = "version: 1\nhosts: [a.example:1, b.example:2]\nagent: {interval: 30s}\n";
    for end in 0..whole.len() {
        case.write(&whole[..end]);
        assert_eq!(case.look(&mut loaded).await, Look::Nothing, "{:?}", &whole[..end]);
    }
    case.write(whole);
    assert_eq!(case.look(&mut loaded).await, Look::Nothing);
    assert_eq!(case.look(&mut loaded).await, Look::New(Millis(30_000)));
}

#[tokio::test]
async fn a_refused_change_is_said_once_and_what_mends_it_is_applied() {
    let case = Case::new(GOOD);
    let mut loaded = case.read().await.unwrap();
    case.write("version: 1\nagent: {interval: 1ms}\n");
    assert_eq!(case.look(&mut loaded).await, Look::Nothing);
    assert!(matches!(case.look(&mut loaded).await, Look::Refused(why) if why.contains("interval")));
    assert_eq!(loaded.config.agent.interval, Millis(5000));
    for _ in 0..3 {
        assert_eq!(case.look(&mut loaded).await, Look::Nothing);
    }
    fs::remove_file(case.file()).unwrap();
    case.look(&mut loaded).await;
    assert!(
        matches!(case.look(&mut loaded).await, Look::Refused(why) if why.contains("cannot be read"))
    );
    case.write("version: 1\nagent: {interval: 30s}\n");
    case.look(&mut loaded).await;
    assert_eq!(case.look(&mut loaded).await, Look::New(Millis(30_000)));
}

#[tokio::test]
async fn a_file_written_in_the_moment_it_was_read_is_noticed_though_it_looks_the_same() {
    let case = Case::new(GOOD);
    let mut loaded = case.read().await.unwrap();
    // Same file, same length, same time.
    let at = fs::metadata(case.file()).unwrap().modified().unwrap();
    case.write(&GOOD.replace("5s", "9s"));
    fs::File::options().write(true).open(case.file()).unwrap().set_modified(at).unwrap();
    assert_eq!(case.look(&mut loaded).await, Look::New(Millis(9000)));
}

#[tokio::test]
async fn a_plugin_that_cannot_be_loaded_is_a_warning_at_the_start_and_refuses_a_change() {
    let with = |interval: &str, plugin: &str| {
        format!(
            "version: 1\nagent:\n  interval: {interval}\n  collectors: [{{slot: s, plugin: {plugin}}}]\n"
        )
    };
    let case = Case::new(&with("5s", "sentinel/nowhere"));
    let mut loaded = case.read().await.unwrap();
    assert_eq!(loaded.config.agent.collectors.len(), 1);
    // The same slot as before does not keep other changes out.
    case.write(&with("30s", "sentinel/nowhere"));
    case.look(&mut loaded).await;
    assert_eq!(case.look(&mut loaded).await, Look::New(Millis(30_000)));
    case.write(&with("60s", "sentinel/elsewhere"));
    case.look(&mut loaded).await;
    let Look::Refused(why) = case.look(&mut loaded).await else { panic!("it was taken") };
    assert!(
        why.contains("/agent/collectors/0/plugin") && why.contains("knows no publisher"),
        "{why}"
    );
    assert_eq!(loaded.config.agent.interval, Millis(30_000));
    // Tried again when a plugin changes.
    for _ in 0..3 {
        assert_eq!(case.look(&mut loaded).await, Look::Nothing);
    }
    case.plugins.changes.send_modify(|count| *count += 1);
    case.look(&mut loaded).await;
    assert!(matches!(case.look(&mut loaded).await, Look::Refused(_)));
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_was_out_of_reach_is_asked_for_again_after_a_while_and_silently() {
    let case = Case::new(GOOD);
    let mut loaded = case.read().await.unwrap();
    case.look(&mut loaded).await;
    case.write("version: 1\nagent: {collectors: [{slot: s, plugin: sentinel/nowhere}]}\n");
    case.look(&mut loaded).await;
    assert!(matches!(case.look(&mut loaded).await, Look::Refused(_)));
    for asked in 2..4 {
        tokio::time::advance(RETRY).await;
        for _ in 0..4 {
            assert_eq!(case.look(&mut loaded).await, Look::Nothing);
        }
        assert_eq!(case.plugins.asked.load(Relaxed), asked);
    }
}

#[tokio::test]
async fn where_something_else_is_wrong_everything_is_said_at_once() {
    let case = Case::new(
        "version: 1\nagent: {interval: 1ms, collectors: [{slot: s, plugin: sentinel/nowhere}]}\n",
    );
    let why = format!("{:#}", case.read().await.unwrap_err());
    assert!(why.contains("/agent/interval") && why.contains("/agent/collectors/0/plugin"), "{why}");
    // A shape that is wrong in one place hides no problem of a slot in another.
    let case = Case::new(
        "version: 1\nhots: []\nagent: {collectors: [{slot: No Name, plugin: sentinel/a}, {slot: s, plugin: sentinel/b}]}\nworker: {notifiers: [{slot: n, plugin: sentinel/c}]}\n",
    );
    let why = format!("{:#}", case.read().await.unwrap_err());
    let places =
        ["2:1: /hots", "3:23: /agent/collectors/0/slot", "3:69: /agent/collectors/1/plugin"];
    for place in places.into_iter().chain(["4:32: /worker/notifiers/0/plugin"]) {
        assert!(why.contains(place), "{place}: {why}");
    }
    assert!(why.contains("4 problems"), "{why}");
    let case = Case::new("version: 1\nagent: {collectors: [{slot: s, plugin: Not A Name}]}\n");
    assert!(case.read().await.is_err(), "what is no name at all is no plugin to wait for");
}

#[tokio::test]
async fn a_bus_on_nats_is_read_and_everything_wrong_with_it_is_said_without_its_password() {
    let text =
        "version: 1\nbus: nats://anna:secret@bus.example\nnats: {replicas: 3, ca: /etc/ca.pem}\n";
    let config = Case::new(text).read().await.unwrap().config;
    let options = super::super::bus::nats(&config).unwrap();
    assert_eq!(options.address.to_string(), "nats://anna:***@bus.example:4222");
    assert_eq!((options.stream.replicas, options.ca), (3, Some("/etc/ca.pem".into())));
    assert_eq!(options.stream.partitions, 16);
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("secret"), "{shown}");

    let embedded = Case::new(GOOD).read().await.unwrap().config;
    assert_eq!(embedded.bus, BusPlace::Embedded);
    assert!(super::super::bus::nats(&embedded).is_err());

    for (text, said) in [
        ("bus: http://anna:secret@bus", vec!["nats://HOST:PORT"]),
        ("bus: nats://u:secret@bus/x", vec!["nats://HOST:PORT"]),
        (
            "nats: {replicas: 2, partitions: 0, max_bytes: 5, max_messages: 0}",
            vec!["/nats/replicas", "/nats/partitions", "/nats/max_bytes", "/nats/max_messages"],
        ),
        ("nats: {user: anna}", vec!["user"]),
    ] {
        let error = Case::new(&format!("version: 1\n{text}\n")).read().await.unwrap_err();
        let error = format!("{error:#}");
        assert!(said.iter().all(|one| error.contains(one)), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn the_configuration_of_the_routing_guide_can_be_used() {
    let guide = include_str!("../../../../alerting/ROUTING.md");
    let (_, rest) = guide.split_once("```yaml\n").expect("it has a configuration");
    let (text, _) = rest.split_once("```").expect("which ends");
    let config: ConfigFile = Document::parse("guide.yaml", text).unwrap().read().unwrap();
    assert_eq!(config.worker.problems(), []);
    assert!(config.worker.routes.is_some_and(|root| root.routes.len() == 3));
}
