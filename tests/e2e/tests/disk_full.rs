//! A full disk is said, survived, and costs nothing that was synced.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::eventually;
use sentinel_e2e::sentinel::{Home, Up};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

const CONFIG: &str = "version: 1
agent:
  interval: 100ms
  heartbeat: 500ms
  log: {max_bytes: 8388608}
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {slot: counter, rows: 200, series: 7}
      grants: {kv: {max_bytes: 4096}}
";

/// Larger records, and a log of eight segments of 256 KiB.
const BUSY_CONFIG: &str = "version: 1
agent:
  interval: 100ms
  heartbeat: 500ms
  log: {max_bytes: 2097152}
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {slot: counter, rows: 500, series: 500}
      grants: {kv: {max_bytes: 4096}}
";

/// `up` in a mount namespace of its own, where each folder is a file system of so many MiB.
fn on_small_disks(home: &Home, disks: &[(&Path, u32)]) -> Command {
    let up = home.up_command();
    let mut command = Command::new("unshare");
    command.env_clear().envs(up.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let mount = "mkdir -p \"$1\" && mount -t tmpfs -o \"size=${2}m,mode=700\" sentinel \"$1\" && shift 2 && ";
    let script = format!("{}exec \"$@\"", mount.repeat(disks.len()));
    command.args(["-r", "-m", "sh", "-c", &script, "sh"]);
    for (folder, mebibytes) in disks {
        command.arg(folder).arg(mebibytes.to_string());
    }
    command.arg(up.get_program()).args(up.get_args());
    command
}

/// Takes all that is left of a file system.
fn fill(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("fill");
    let mut file = File::options().create(true).append(true).open(&path)?;
    let block = vec![0; 64 << 10];
    while file.write_all(&block).is_ok() {}
    while file.write_all(&block[..512]).is_ok() {}
    Ok(path)
}

async fn beyond(up: &Up<'_>, since: i64, value: u64) -> Result<u64> {
    eventually("the counter goes on", SOON, || async {
        let last = Counted::since(up, since).await?.last().unwrap_or(0);
        Ok((last > value).then_some(last))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_said_survived_and_loses_and_doubles_nothing() -> Result<()> {
    let home = Home::new()?;
    home.configure(CONFIG)?;
    let began = now() - 60_000;
    let up = home.start(on_small_disks(&home, &[(&home.data(), 96)])).await?;
    let inside = PathBuf::from(format!("/proc/{}/root", up.pid()));
    let data = inside.join(home.data().strip_prefix("/")?);
    let before = beyond(&up, began, 1000).await?;

    let filled = fill(&data)?;
    let said = eventually("the full disk is said", SOON, || async {
        let log = home.log();
        let line = log.lines().find(|l| {
            let l = l.to_lowercase();
            l.contains("full") || l.contains("no space") || l.contains("no room")
        });
        Ok(line.map(str::to_owned))
    })
    .await?;
    println!("said: {said}");
    // Alive and answering while nothing can be written.
    ensure!(
        up.get("/v1/status").await.is_ok() || home.log().contains("database"),
        "{}",
        home.log()
    );

    std::fs::remove_file(filled)?;
    let last = beyond(&up, began, before + 4000).await.with_context(|| home.log())?;
    Counted::since(&up, began).await?.assert_each_once(last, "after the full disk");
    assert!(up.stop().await?.success());
    Ok(())
}

/// Whether the program said a line with all of these words.
fn said(home: &Home, words: &[&str]) -> Option<String> {
    let log = home.log();
    log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_log_is_said_survived_and_loses_and_doubles_nothing() -> Result<()> {
    let home = Home::new()?;
    home.configure(BUSY_CONFIG)?;
    let began = now() - 60_000;
    let folder = home.data().join("agent/log");
    let up = home.start(on_small_disks(&home, &[(&home.data(), 96), (&folder, 8)])).await?;
    let root = PathBuf::from(format!("/proc/{}/root", up.pid()));
    let (data, inside) =
        (root.join(home.data().strip_prefix("/")?), root.join(folder.strip_prefix("/")?));
    beyond(&up, began, 5000).await?;
    ensure!(said(&home, &["no space left"]).is_none(), "{}", home.log());

    // While records are committed the log goes round in the files that it has: nothing else is to go on either.
    let filled = fill(&data)?;
    let refused = eventually("the log says that it has no room", SOON, || {
        let filled = fill(&inside);
        let line = said(&home, &["collection not kept", "no space left on the device", ".seg"]);
        async move { filled.map(|_| line) }
    })
    .await?;
    println!("said: {refused}");

    // Everything else goes on, and what was in the log arrives.
    std::fs::remove_file(filled)?;
    let before = eventually("the status is told again", SOON, || async {
        if up.get("/v1/status").await.is_err() {
            return Ok(None);
        }
        Ok(Counted::since(&up, began).await.ok().and_then(|counted| counted.last()))
    })
    .await?;
    std::fs::remove_file(fill(&inside)?)?;
    let last = beyond(&up, began, before + 20_000).await.with_context(|| home.log())?;
    Counted::since(&up, began).await?.assert_each_once(last, "after the log had no room");
    assert!(up.stop().await?.success());
    Ok(())
}
