//! The sandbox that a process closes around itself before it runs plugins.

use anyhow::{Context, Result, ensure};
use sentinel_e2e::eventually;
use sentinel_e2e::sentinel::Home;
use std::fs;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

/// A field of every thread of a process, as the kernel has it.
fn of_threads(pid: u32, field: &str) -> Result<Vec<String>> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let status = threads.filter_map(|one| fs::read_to_string(one.ok()?.path().join("status")).ok());
    let found = status.map(|status| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        Ok(line.with_context(|| format!("{field} in {status}"))?.trim().to_owned())
    });
    found.collect()
}

#[tokio::test]
async fn up_is_locked_in_says_how_and_says_what_a_later_grant_cannot_reach() -> Result<()> {
    let home = Home::new()?;
    let (early, late) = (home.path().join("early"), home.path().join("late"));
    for folder in [&early, &late] {
        fs::create_dir(folder)?;
    }
    let ceiling =
        |paths: &str| format!("version: 1\nagent:\n  ceiling: {{files: {{paths: [{paths}]}}}}\n");
    // A folder of its own: where it is replaced is reached as a whole.
    let config = home.path().join("etc/sentinel.yaml");
    fs::create_dir(home.path().join("etc"))?;
    fs::write(&config, ceiling(&format!("'{}/*'", early.display())))?;
    let mut command = home.up_command();
    command.arg("--config").arg(&config);
    let up = home.start(command).await?;

    // Every thread, and nobody gets a right back.
    for (field, value) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let found = of_threads(up.pid(), field)?;
        ensure!(found.len() > 2 && found.iter().all(|one| one == value), "{field}: {found:?}");
    }
    let log = home.log();
    let status = eventually("a worker that says how it is locked in", SOON, || async {
        let status = up.get("/v1/status").await?;
        let sandbox = status["workers"][0]["status"]["sandbox"].clone();
        Ok(sandbox.is_object().then_some(sandbox))
    })
    .await?;
    ensure!(status["seccomp"] == "full", "{status}");
    let landlock = status["landlock"].as_str().context("landlock")?;
    ensure!(log.contains(&format!("sandbox: landlock {landlock}, seccomp full")), "{log}");
    let metrics = reqwest::get(format!("{}/metrics", up.server())).await?.text().await?;
    let held = format!("sentinel_sandbox_info{{landlock=\"{landlock}\",seccomp=\"full\"}} 1");
    ensure!(metrics.contains(&held), "{metrics}");
    let late_grant = late.display().to_string();
    if landlock == "none" {
        let text = home.sentinel(["status"])?.out;
        ensure!(text.contains("landlock"), "a wall that is missing is shown: {text}");
        return up.stop().await.map(drop);
    }

    // A later configuration: what was named at the start is no trouble, what was not is said.
    fs::write(&config, ceiling(&format!("'{}/*.log', '{}/*'", early.display(), late_grant)))?;
    let warned = eventually("the warning", SOON, || async {
        let text = home.sentinel(["status"])?.out;
        Ok(text.contains("does not reach").then_some(text))
    })
    .await
    .with_context(|| home.log())?;
    ensure!(warned.contains(&late_grant) && warned.contains("restart it"), "{warned}");
    ensure!(!warned.contains(&early.display().to_string()), "{warned}");
    ensure!(up.stop().await?.success(), "{}", home.log());
    Ok(())
}

#[test]
fn whoever_asks_for_no_sandbox_has_none_and_it_is_said() -> Result<()> {
    let home = Home::new()?;
    let data = home.path().join("data").display().to_string();
    let agent = ["agent", "--data", &data, "--config", "/nonexistent", "--sandbox", "off"];
    let said = home.sentinel(agent)?;
    ensure!(said.code != 0 && said.err.contains("sandbox: off"), "{said:?}");
    let said = home.sentinel(agent.map(|word| if word == "off" { "perhaps" } else { word }))?;
    ensure!(said.code == 2 && said.err.contains("best-effort"), "{said:?}");
    Ok(())
}
