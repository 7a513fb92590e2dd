//! The registry as a real process, used by clients that are not ours: Debian's `oras` and
//! `cosign`.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::now;
use sentinel_e2e::registry::{Installation, plugin, publisher_key, service};
use sentinel_registry_client::Publisher;
use sentinel_test_services::RegistryProcess;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A registry that runs, and whoever pushes to its namespace `acme`.
struct Registry {
    installation: Installation,
    serving: RegistryProcess,
    token: String,
}

impl Registry {
    /// Over what is there, or what is made by `init`.
    fn start(installation: Installation) -> Result<Self> {
        let token = installation.token("acme")?;
        let serving = installation.serve()?;
        Ok(Self { installation, serving, token })
    }

    /// Runs a foreign client in the folder of the test, logged in or not as its config says.
    fn foreign(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let place = |text: &str| text.replace("REGISTRY", self.serving.address());
        let mut child = client(program)?
            .args(arguments.iter().map(|text| place(text)))
            .current_dir(self.installation.path(""))
            .env("HOME", self.installation.path(""))
            .env("COSIGN_PASSWORD", "")
            .env("COSIGN_EXPERIMENTAL", "1")
            .env("DOCKER_CONFIG", self.installation.path("docker"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        // A command that reads nothing may be gone already.
        let _ = stdin.write_all(self.token.as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{program} {arguments:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }

    fn oras(&self, arguments: &[&str]) -> Result<String> {
        self.foreign("oras", arguments)
    }
}

/// A client that is not ours: Debian's, but for `wkg`, which soak compiles.
fn client(program: &str) -> Result<Command> {
    if program != "wkg" {
        return service(program);
    }
    let built = std::env::var_os("SENTINEL_WKG");
    Ok(Command::new(built.context("run this with `cargo xtask soak`, which compiles wkg")?))
}

#[test]
fn oras_logs_in_pushes_lists_attaches_discovers_and_pulls_also_after_a_kill() -> Result<()> {
    let registry = Registry::start(Installation::bare()?)?;
    let file = |name: &str| -> PathBuf { registry.installation.path(name) };
    // Larger than one piece, so that it goes and comes in several.
    let layer: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
    std::fs::write(file("plugin.bin"), &layer)?;
    std::fs::write(file("config.json"), "{}")?;
    std::fs::write(file("note.txt"), "a note")?;
    let push = [
        "push",
        "--plain-http",
        "--config",
        "config.json:application/vnd.wasm.config.v0+json",
        "REGISTRY/acme/thing:1.0.0",
        "plugin.bin:application/wasm",
    ];
    ensure!(registry.oras(&push).is_err(), "without a token nobody pushes");
    registry.oras(&["login", "--plain-http", "-u", "acme", "--password-stdin", "REGISTRY"])?;
    registry.oras(&push)?;
    let tags = registry.oras(&["repo", "tags", "--plain-http", "REGISTRY/acme/thing"])?;
    assert_eq!(tags.trim(), "1.0.0");
    registry.oras(&[
        "attach",
        "--plain-http",
        "--artifact-type",
        "application/vnd.example.note",
        "REGISTRY/acme/thing:1.0.0",
        "note.txt:text/plain",
    ])?;
    let Registry { installation, serving, token } = registry;
    serving.kill()?;
    let registry = Registry { serving: installation.serve()?, installation, token };
    let found = registry.oras(&[
        "discover",
        "--plain-http",
        "--artifact-type",
        "application/vnd.example.note",
        "-o",
        "json",
        "REGISTRY/acme/thing:1.0.0",
    ])?;
    let found: Value = serde_json::from_str(&found)?;
    assert_eq!(found["manifests"].as_array().map(Vec::len), Some(1), "{found}");
    // Pulling needs no token, nor a login that another port was for.
    registry.oras(&["pull", "--plain-http", "-o", "out", "REGISTRY/acme/thing:1.0.0"])?;
    ensure!(std::fs::read(registry.installation.path("out/plugin.bin"))? == layer, "other bytes");
    let manifest =
        registry.oras(&["manifest", "fetch", "--plain-http", "REGISTRY/acme/thing:1.0.0"])?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    Ok(())
}

/// A signature of another kind, however good, makes no plugin of what a foreign client pushed:
/// hosts believe the publisher that the registry's owner approved.
#[tokio::test]
async fn what_foreign_clients_push_and_cosign_signs_stays_unsigned_until_its_publisher_signs()
-> Result<()> {
    let registry = Registry::start(Installation::new()?)?;
    let Registry { installation, serving, .. } = &registry;
    let component = plugin("acme/probe", "1.0.0", 1_000)?;
    std::fs::write(installation.path("probe.wasm"), &component)?;
    std::fs::write(installation.path("config.json"), "{}")?;
    registry.oras(&["login", "--plain-http", "-u", "acme", "--password-stdin", "REGISTRY"])?;
    let pushed = registry.oras(&[
        "push",
        "--plain-http",
        "--format",
        "json",
        "--config",
        "config.json:application/vnd.wasm.config.v0+json",
        "REGISTRY/acme/probe:1.0.0",
        "probe.wasm:application/wasm",
    ])?;
    let pushed: Value = serde_json::from_str(&pushed)?;
    let subject = pushed["digest"].as_str().context("digest")?;
    registry.foreign("cosign", &["generate-key-pair"])?;
    let image = format!("REGISTRY/acme/probe@{subject}");
    let sign = ["sign", "--yes", "--key", "cosign.key", "--tlog-upload=false"];
    let place = ["--allow-http-registry", "--registry-referrers-mode=oci-1-1", &image];
    registry.foreign("cosign", &[&sign[..], &place[..]].concat())?;
    let listed = reqwest::get(format!("{}/v2/acme/probe/referrers/{subject}", serving.url()));
    let listed = listed.await?.text().await?;
    ensure!(listed.contains("cosign"), "its signature is no referrer: {listed}");
    stays_unsigned_until_published(&registry, &component).await
}

/// What is pulled is what was pushed, and a plugin when its publisher says so.
#[tokio::test]
async fn soak_wkg_pushes_and_pulls_a_component_which_stays_unsigned() -> Result<()> {
    let registry = Registry::start(Installation::new()?)?;
    let component = plugin("acme/probe", "1.0.0", 3_000_000)?;
    std::fs::write(registry.installation.path("probe.wasm"), &component)?;
    let (image, insecure) = ("REGISTRY/acme/probe:1.0.0", ["--insecure", "REGISTRY"]);
    let push = [&["oci", "push"][..], &insecure, &[image, "probe.wasm"]].concat();
    ensure!(registry.foreign("wkg", &push).is_err(), "without a token nobody pushes");
    registry.oras(&["login", "--plain-http", "-u", "acme", "--password-stdin", "REGISTRY"])?;
    registry.foreign("wkg", &push)?;
    let pull = [&["oci", "pull"][..], &insecure, &["-o", "pulled.wasm", image]].concat();
    registry.foreign("wkg", &pull)?;
    let pulled = std::fs::read(registry.installation.path("pulled.wasm"))?;
    ensure!(pulled == component, "other bytes");
    let manifest = registry.oras(&["manifest", "fetch", "--plain-http", image])?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    assert_eq!(manifest["config"]["mediaType"], "application/vnd.wasm.config.v0+json");
    stays_unsigned_until_published(&registry, &component).await
}

/// What a foreign client pushed as `acme/probe` 1.0.0 is offered to nobody before its publisher
/// signed it, and to everybody after.
async fn stays_unsigned_until_published(registry: &Registry, component: &[u8]) -> Result<()> {
    let Registry { installation, serving, token } = registry;
    let found = async || -> Result<String> {
        let url = format!("{}/api/v1/plugins?q=probe", serving.url());
        Ok(reqwest::get(url).await?.text().await?)
    };
    let key = publisher_key("acme", 1)?;
    installation.approve(serving, "acme", &key.public().to_string())?;
    let client = installation.client(serving, "host")?;
    let wanted = "acme/probe".parse()?;
    ensure!(found().await? == "[]", "what nobody published is offered");
    ensure!(client.resolve(&wanted, now()).await.is_err(), "a host would install it");
    let publisher = Publisher { client: &client, key: &key, token: token.clone().into() };
    publisher.publish(component, now()).await?;
    ensure!(found().await?.contains("acme/probe"), "it is published now");
    let release = client.resolve(&wanted, now()).await?;
    client.fetch(&release.name, release.digest, now()).await?;
    Ok(())
}
