//! Plugins from the operator's side: installed, swapped, refused, misbehaving.

use anyhow::{Context, Result};
use sentinel_e2e::sentinel::Home;
use sentinel_e2e::{eventually, given};
use std::time::Duration;

/// Everything that the hostile plugin asks for.
const GRANTS: &str =
    "{http: {origins: [\"http://127.0.0.1:1\"], methods: [GET]}, kv: {max_bytes: 65536}}";
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_installed_listed_and_removed_and_a_tampered_one_is_refused() -> Result<()> {
    let home = Home::new()?;
    home.configure("version: 1\n")?;
    let up = home.up().await?;
    let file = given("SENTINEL_PLUGINS", "plugins").join("nginx.wasm");
    let shown = home.json(&["plugin", "inspect", file.to_str().context("path")?])?;
    assert!(shown.to_string().contains("sentinel/nginx"), "{shown}");
    let said = home.sentinel(["plugin", "install", file.to_str().context("path")?])?;
    assert_eq!(said.code, 0, "{}", said.err);
    let listed = home.json(&["plugin", "list"])?;
    let installed = home.data().join("plugins");
    assert!(listed.to_string().contains(installed.to_str().context("path")?), "{listed}");

    let tampered = home.path().join("tampered.wasm");
    let mut bytes = std::fs::read(&file)?;
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&tampered, bytes)?;
    std::fs::copy(file.with_extension("wasm.sig"), tampered.with_extension("wasm.sig"))?;
    let said = home.sentinel(["plugin", "install", tampered.to_str().context("path")?])?;
    assert_eq!(said.code, 1, "{}", said.out);
    std::fs::remove_file(tampered.with_extension("wasm.sig"))?;
    std::fs::copy(&file, &tampered)?;
    let said = home.sentinel(["plugin", "install", tampered.to_str().context("path")?])?;
    assert_eq!(said.code, 1);
    assert!(said.err.contains("sign"), "{}", said.err);

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
    let policy = home.data().join("trust.yaml");
    std::fs::write(&policy, format!("revoked_digests: [\"{digest}\"]\n"))?;
    let slot = up.until("one is empty", "/v1/status", SOON, is("empty")).await?;
    assert_eq!((&slot["emptied"], &slot["instances"]), (&"revoked".into(), &0.into()), "{slot}");
    assert!(slot["reason"].as_str().unwrap_or_default().contains("revoked_digests"), "{slot}");
    std::fs::remove_file(&policy)?;
    let slot = up.until("it runs again", "/v1/status", SOON, is("running")).await?;
    assert_eq!(slot["generation"], 2, "{slot}");
    assert!(up.stop().await?.success());
    Ok(())
}
