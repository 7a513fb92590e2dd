use super::*;
use crate::commands::now;
use sentinel_registry_client::{
    FetchLimits, HostOptions, HostPlugins, PluginSource, REFRESH, RegistryOptions,
};
use sentinel_trust::repository::Interest;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const DAY: i64 = 86_400_000;

async fn served(own: &Arc<OwnRegistry>) -> Serving {
    let options = Options::new(([127, 0, 0, 1], 0).into());
    own.serve(Listener::bind(&options).await.unwrap(), options).unwrap()
}

fn host(own: &OwnRegistry, serving: &Serving, folder: &Path, ahead: i64) -> HostPlugins {
    let registry = RegistryOptions {
        url: serving.url().parse().unwrap(),
        folder: folder.to_owned(),
        ca: None,
        limits: FetchLimits::default(),
    };
    let clock: sentinel_registry_client::Clock = Arc::new(move || now() + ahead);
    let options = HostOptions { registry, refresh: REFRESH, clock };
    HostPlugins::open(options, Some(&own.enrolment().unwrap())).unwrap()
}

#[tokio::test]
async fn a_registry_is_begun_once_privately_and_with_a_fleet_of_its_own() {
    let data = tempfile::tempdir().unwrap();
    let own = OwnRegistry::open_or_found(data.path()).await.unwrap();
    let operators = own.operators().unwrap();
    assert_eq!(own.enrolment().unwrap().operators, operators.keys);
    for key in ["root", "targets", "operator"] {
        let file = data.path().join(format!("registry/owner/{key}.key"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
    let mode = fs::metadata(data.path().join("registry")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let again = OwnRegistry::open_or_found(data.path()).await.unwrap();
    assert_eq!(again.operators().unwrap(), operators);
    assert_eq!(again.enrolment().unwrap(), own.enrolment().unwrap());
}

#[tokio::test]
async fn what_a_crash_left_of_a_beginning_is_begun_anew() {
    let whole = tempfile::tempdir().unwrap();
    OwnRegistry::open_or_found(whole.path()).await.unwrap();
    // Any part of what is made may be all that is there.
    for part in ["owner", "keys", "store", "enrolment.json"] {
        let data = tempfile::tempdir().unwrap();
        let unfinished = data.path().join("registry.unfinished");
        fs::create_dir(&unfinished).unwrap();
        fs::rename(whole.path().join("registry").join(part), unfinished.join(part)).unwrap();
        let own = OwnRegistry::open_or_found(data.path()).await.unwrap();
        own.tend(&[], now()).await.unwrap();
        assert!(!unfinished.exists(), "{part}");
    }
}

#[tokio::test]
async fn a_registry_whose_owner_is_elsewhere_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir_all(data.path().join("registry/store")).unwrap();
    let refused = OwnRegistry::open_or_found(data.path()).await.err().unwrap().to_string();
    assert!(refused.contains("owner's keys") && refused.contains("--data"), "{refused}");
}

#[tokio::test]
async fn metadata_is_renewed_when_half_of_its_time_is_over_also_after_all_of_it() {
    for (ahead, root, targets) in [(0, 1, 1), (46, 1, 2), (100, 1, 2), (190, 2, 2), (800, 2, 2)] {
        let data = tempfile::tempdir().unwrap();
        let own = OwnRegistry::open_or_found(data.path()).await.unwrap();
        let at = now() + ahead * DAY;
        own.tend(&[], at).await.unwrap();
        let (one, other) = metadata_in_force(&own.store, at).await.unwrap().unwrap();
        assert_eq!((one.version(), other.version()), (root, targets), "after {ahead} days");
        assert!(one.expires_at() > at && other.expires_at() > at);
        own.tend(&[], at).await.unwrap();
        let again = metadata_in_force(&own.store, at).await.unwrap().unwrap();
        assert_eq!(again, (one, other), "once is enough");
    }
}

#[tokio::test]
async fn hosts_take_what_the_owner_publishes_from_the_folders_and_follow_it() {
    let (data, plugins) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = sentinel_trust::PublisherKey::generate("acme".parse().unwrap()).unwrap();
    let key_file = data.path().join("acme.key");
    sentinel_files::create(&key_file, key.to_file_text().as_bytes(), 0o600).unwrap();
    let put = |name: &str, version: &str| {
        let manifest = serde_json::json!({
            "format": 1, "name": name, "version": version, "kind": "transform",
            "contract": "0.1.0", "description": "A toy.", "license": "MIT",
        });
        let manifest = sentinel_trust::Manifest::from_json(manifest.to_string().as_bytes());
        let component = sentinel_test_components::world("transform").component(|_| false);
        let bytes = sentinel_trust::embed(&component, &manifest.unwrap()).unwrap();
        let file = plugins.path().join(format!("{}.wasm", name.replace('/', "-")));
        sentinel_files::replace(&file, &bytes, 0o644).unwrap();
    };
    put("acme/toy", "1.0.0");
    put("other/toy", "1.0.0");
    fs::write(plugins.path().join("broken.wasm"), "no plugin").unwrap();
    let own = Arc::new(OwnRegistry::open_or_found(data.path()).await.unwrap());
    let mut folders = Folders::new(&[plugins.path().to_owned()], &[key_file]).unwrap();
    own.tend(&folders.approved(), now()).await.unwrap();
    let serving = served(&own).await;
    let installed = data.path().join("installed");
    let host = host(&own, &serving, &installed, 0);
    let published = folders.publish(&own, host.client(), true).await;
    assert_eq!(published.len(), 1, "another publisher's, and what is no plugin, stay out");
    let range = "acme/toy".parse().unwrap();
    assert_eq!(host.resolve(&range).await.unwrap().version().to_string(), "1.0.0");

    // A look later nothing has changed; a file that has is published once it is at rest.
    assert!(folders.publish(&own, host.client(), false).await.is_empty());
    put("acme/toy", "1.0.1");
    assert!(
        folders.publish(&own, host.client(), false).await.is_empty(),
        "it may be written still"
    );
    let published = folders.publish(&own, host.client(), false).await;
    assert_eq!(host.follow(&published).await.unwrap().len(), 1);
    assert_eq!(host.resolve(&range).await.unwrap().version().to_string(), "1.0.1");

    // The next start finds all of it published; one token serves all.
    let mut folders =
        Folders::new(&[plugins.path().to_owned()], &[data.path().join("acme.key")]).unwrap();
    let published = folders.publish(&own, host.client(), true).await;
    assert_eq!(published.len(), 1);
    assert!(host.follow(&published).await.unwrap().is_empty());
    assert_eq!(own.store.tokens().await.unwrap().len(), 1);
    serving.shutdown().await;
}

#[tokio::test]
async fn a_publisher_is_approved_while_the_registry_is_served() {
    let data = tempfile::tempdir().unwrap();
    let own = Arc::new(OwnRegistry::open_or_found(data.path()).await.unwrap());
    let serving = served(&own).await;
    let host = host(&own, &serving, &data.path().join("installed"), 0);
    let before = own.change();
    host.client().refresh(Interest::All, now()).await.unwrap();
    let key = sentinel_trust::PublisherKey::generate("acme".parse().unwrap()).unwrap();
    own.approve(host.client(), (key.publisher().clone(), key.public())).await.unwrap();
    host.refresh().await.unwrap();
    let policy = host.policy().unwrap();
    assert!(policy.publishers[key.publisher()].keys.contains(&key.public()));
    assert_ne!(own.change(), before, "who runs here is told of it");
    serving.shutdown().await;
}
