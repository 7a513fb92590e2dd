//! The registry as a real process, used by a client that is not ours: Debian's `oras`.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::given;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// `sentinel registry` on a free port. Killed when it is dropped.
struct Registry {
    child: Child,
    address: String,
    token: String,
    dir: TempDir,
}

impl Registry {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = given("SENTINEL_BIN", "debug/sentinel");
        let made = Command::new(&program)
            .args(["registry", "token", "create", "acme", "--data"])
            .arg(dir.path().join("registry"))
            .output()?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let token = String::from_utf8(made.stdout)?.trim().to_owned();
        let (child, address) = serve(&program, dir.path())?;
        Ok(Self { child, address, token, dir })
    }

    fn restart_after_kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        let program = given("SENTINEL_BIN", "debug/sentinel");
        (self.child, self.address) = serve(&program, self.dir.path())?;
        Ok(())
    }

    /// Runs `oras` in the folder of the test, logged in or not as its config says.
    fn oras(&self, arguments: &[&str]) -> Result<String> {
        let list: Value = serde_json::from_slice(&std::fs::read(given(
            "SENTINEL_SERVICES",
            "services/services.json",
        ))?)?;
        let program = list["services"]["oras"]["program"].as_str().context("oras is not there")?;
        let place = |text: &str| text.replace("REGISTRY", &self.address);
        let mut child = Command::new(program)
            .args(arguments.iter().map(|text| place(text)))
            .current_dir(self.dir.path())
            .env("HOME", self.dir.path())
            .env("DOCKER_CONFIG", self.dir.path().join("docker"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(self.token.as_bytes())?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "oras {arguments:?}: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(said)
    }
}

fn serve(program: &Path, dir: &Path) -> Result<(Child, String)> {
    let mut child = Command::new(program)
        .args(["registry", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.join("registry"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let stderr = child.stderr.take().context("stderr")?;
    let mut lines = BufReader::new(stderr).lines();
    let said = |line: &std::io::Result<String>| {
        line.as_ref().is_ok_and(|line| line.contains("The registry is running on"))
    };
    let line = lines.find(said).context("the registry did not start")??;
    // The rest is read to nowhere, so that the process never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    let address = line.split("http://").nth(1).and_then(|rest| rest.split_whitespace().next());
    let address = address.context("no address")?.trim_end_matches('.').to_owned();
    Ok((child, address))
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn oras_logs_in_pushes_lists_attaches_discovers_and_pulls_also_after_a_kill() -> Result<()> {
    let mut registry = Registry::start()?;
    let file = |name: &str| -> PathBuf { registry.dir.path().join(name) };
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
    registry.restart_after_kill()?;
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
    ensure!(std::fs::read(registry.dir.path().join("out/plugin.bin"))? == layer, "other bytes");
    let manifest =
        registry.oras(&["manifest", "fetch", "--plain-http", "REGISTRY/acme/thing:1.0.0"])?;
    let manifest: Value = serde_json::from_str(&manifest)?;
    assert_eq!(manifest["layers"][0]["mediaType"], "application/wasm");
    Ok(())
}
