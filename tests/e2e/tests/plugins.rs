//! Plugins from the operator's side: installed, swapped, refused, misbehaving.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::sentinel::{Home, Said, publisher_key};
use sentinel_e2e::{eventually, given};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that the hostile plugin asks for.
const GRANTS: &str =
    "{http: {origins: [\"http://127.0.0.1:1\"], methods: [GET]}, kv: {max_bytes: 65536}}";
const SOON: Duration = Duration::from_secs(90);

/// A built plugin as its next release.
fn next_release(home: &Home, built: &Path, version: &str) -> Result<PathBuf> {
    let shown = home.json(&["plugin", "inspect", built.to_str().context("path")?])?;
    let mut manifest = shown["manifest"].clone();
    manifest["version"] = version.into();
    for described in ["format", "config_schema", "metrics"] {
        manifest.as_object_mut().context("manifest")?.remove(described);
    }
    let source = home.path().join("plugin.yaml");
    std::fs::write(&source, manifest.to_string())?;
    let out = home.path().join(built.file_name().context("name")?);
    let mut pack: Vec<&std::ffi::OsStr> = ["plugin", "pack"].map(AsRef::as_ref).to_vec();
    pack.extend([built.as_os_str(), "--manifest".as_ref(), source.as_os_str()]);
    let said = home.sentinel(pack.into_iter().chain(["-o".as_ref(), out.as_os_str()]))?;
    ensure!(said.code == 0, "{}", said.err);
    Ok(out)
}

/// Installs a file of the checkout's publisher.
fn install(home: &Home, file: &Path) -> Result<Said> {
    let key = publisher_key();
    let words: [&std::ffi::OsStr; 5] = [
        "plugin".as_ref(),
        "install".as_ref(),
        file.as_os_str(),
        "--publisher-key".as_ref(),
        key.as_os_str(),
    ];
    home.sentinel(words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_published_installed_listed_and_forgotten_and_a_tampered_one_is_refused()
-> Result<()> {
    let home = Home::new()?;
    home.configure("version: 1\n")?;
    let up = home.up().await?;
    let built = given("SENTINEL_PLUGINS", "plugins").join("nginx.wasm");
    let listed = home.json(&["plugin", "list"])?;
    let nginx = |listed: &Value| {
        let all = listed.as_array().cloned().unwrap_or_default();
        all.into_iter().find(|one| one["name"] == "sentinel/nginx")
    };
    let there = nginx(&listed).context("the registry has what is in the folders")?;
    assert_eq!(there["ranges"], serde_json::json!([]), "and nothing is installed yet");
    let said = install(&home, &built)?;
    assert_eq!(said.code, 0, "{}", said.err);
    let there = nginx(&home.json(&["plugin", "list"])?).context("nginx")?;
    assert_eq!(there["ranges"], serde_json::json!(["sentinel/nginx"]));

    let tampered = home.path().join("tampered.wasm");
    let mut bytes = std::fs::read(&built)?;
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&tampered, bytes)?;
    let said = install(&home, &tampered)?;
    assert_eq!(said.code, 1, "other bytes of a version that is published: {}", said.out);
    let next = next_release(&home, &built, "99.0.0")?;
    let said = home.sentinel(["plugin", "install", next.to_str().context("path")?])?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("--publisher-key"), "{}", said.err);
    let said = install(&home, &next)?;
    assert_eq!(said.code, 0, "{}", said.err);
    let there = home.json(&["plugin", "list"])?.to_string();
    assert!(there.contains("99.0.0"), "{there}");

    let said = home.sentinel(["plugin", "remove", "sentinel/nginx"])?;
    assert_eq!(said.code, 0, "{}", said.err);
    let said = home.sentinel(["plugin", "remove", "sentinel/nginx"])?;
    assert_eq!(said.code, 1);
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misbehaving_plugin_fails_alone() -> Result<()> {
    let home = Home::new()?;
    let mut config = "version: 1
agent:
  interval: 300ms
  heartbeat: 500ms
  collectors:
    - {slot: good, plugin: sentinel/system, grants: {system: true}}
"
    .to_owned();
    for mode in ["panic", "spin", "allocate", "offsets-go-back"] {
        config += &format!(
            "    - {{slot: {mode}, plugin: sentinel/hostile, config: {{mode: {mode}}}, grants: {GRANTS}}}\n"
        );
    }
    home.configure(&config)?;
    let up = home.up().await?;
    let slots = up
        .until("every hostile slot failed", "/v1/status", SOON, |status| {
            let slots = status["agents"][0]["report"]["slots"].as_array()?.clone();
            let failed =
                |name: &str| slots.iter().any(|s| s["name"] == name && s["last_error"].is_array());
            ["panic", "spin", "allocate", "offsets-go-back"]
                .into_iter()
                .all(failed)
                .then_some(slots)
        })
        .await?;
    let error = |name: &str| {
        let slot = slots.iter().find(|s| s["name"] == name);
        slot.map(|s| s["last_error"][1].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
    };
    for mode in ["panic", "spin", "allocate", "offsets-go-back"] {
        let text = error(mode);
        assert!(text.contains("sentinel/hostile") && text.contains("collect"), "{mode}: {text}");
    }
    let start = std::time::Instant::now();
    eventually("the good slot goes on", SOON, || async {
        let status = up.get("/v1/status").await?;
        let slots = status["agents"][0]["report"]["slots"].as_array().cloned().unwrap_or_default();
        let good = slots.iter().find(|s| s["name"] == "good").context("good")?;
        assert_eq!(good["failures"], serde_json::json!({}), "{good}");
        let calls = good["calls"].as_u64().unwrap_or_default();
        Ok((calls >= 5 && start.elapsed() > Duration::from_secs(2)).then_some(()))
    })
    .await?;
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_plugin_stops_where_it_runs_and_runs_again_when_it_may() -> Result<()> {
    let home = Home::new()?;
    home.configure(
        "version: 1
agent:
  interval: 300ms
  heartbeat: 500ms
  collectors:
    - {slot: stays, plugin: sentinel/system, grants: {system: true}}
    - {slot: goes, plugin: sentinel/counter, config: {slot: goes}, grants: {kv: {max_bytes: 65536}}}
",
    )?;
    let up = home.up().await?;
    let is = |wanted: &'static str| {
        move |status: &serde_json::Value| {
            let slots = status["agents"][0]["report"]["slots"].as_array()?;
            let of = |name: &str| slots.iter().find(|slot| slot["name"] == name);
            let calls = of("goes")?["calls"].as_u64()?;
            let there = of("goes")?["state"] == wanted && of("stays")?["state"] == "running";
            (there && calls > 0).then(|| of("goes").cloned())?
        }
    };
    let slot = up.until("both run", "/v1/status", SOON, is("running")).await?;
    let digest = slot["digest"].as_str().context("digest")?;
    // The owner revokes it, and publishes what is good again.
    let targets = home.data().join("registry/owner/targets.key");
    let targets = targets.to_str().context("path")?;
    let revoke = ["registry", "revoke", "sentinel", "--digest", digest, "--key", targets];
    let said = home.sentinel(revoke)?;
    ensure!(said.code == 0, "{}", said.err);
    let slot = up.until("one is empty", "/v1/status", SOON, is("empty")).await?;
    assert_eq!((&slot["emptied"], &slot["instances"]), (&"revoked".into(), &0.into()), "{slot}");
    assert!(slot["reason"].as_str().unwrap_or_default().contains("revoked_digests"), "{slot}");
    let built = given("SENTINEL_PLUGINS", "plugins").join("fixtures/counter.wasm");
    let said = install(&home, &next_release(&home, &built, "99.0.0")?)?;
    ensure!(said.code == 0, "{}", said.err);
    let slot = up.until("it runs again", "/v1/status", SOON, is("running")).await?;
    assert_eq!(slot["generation"], 2, "{slot}");
    assert!(up.stop().await?.success());
    Ok(())
}
