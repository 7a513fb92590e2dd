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

/// `up` in a mount namespace of its own, where its data folder is a file system of 96 MiB.
fn on_small_disk(home: &Home) -> Result<Command> {
    std::fs::create_dir_all(home.data())?;
    let up = home.up_command();
    let mut command = Command::new("unshare");
    command.env_clear().envs(up.get_envs().filter_map(|(k, v)| Some((k, v?))));
    let script = "mount -t tmpfs -o size=96m,mode=700 sentinel \"$0\" && exec \"$@\"";
    command.args(["-r", "-m", "sh", "-c", script]).arg(home.data());
    command.arg(up.get_program()).args(up.get_args());
    Ok(command)
}

/// Takes all that is left of a file system.
fn fill(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("fill");
    let mut file = File::create(&path)?;
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
    let up = home.start(on_small_disk(&home)?).await?;
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
