//! Hosts run what their operator signed: where it is for them, as a whole, whatever is killed.

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_e2e::count;
use sentinel_e2e::counter::{Counted, now};
use sentinel_e2e::fleet::{Host, Operator, counter, host, on, runs, wish};
use sentinel_e2e::sentinel::{Home, Up};
use sentinel_trust::fleet::{Group, Wish};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(90);
/// The promise for `disable`.
const AT_ONCE: Duration = Duration::from_secs(5);
const STATUS: &str = "/v1/fleet/status";

fn group(text: &str, slots: Vec<Wish>) -> Group {
    Group { on: on(text), slots }
}

/// Waits for something in `fleet/status`; what the hosts logged is in the message.
async fn until<T>(
    up: &Up<'_>,
    hosts: &[&Host<'_>],
    what: &str,
    find: impl Fn(&Value) -> Option<T>,
) -> Result<T> {
    let found = up.until(what, STATUS, SOON, find).await;
    match found {
        Ok(found) => Ok(found),
        Err(error) => {
            let status = up.get(STATUS).await.unwrap_or_default();
            let logs: Vec<String> = hosts.iter().map(|host| host.log()).collect();
            Err(error.context(format!("{status:#}\n{}", logs.join("\n"))))
        }
    }
}

/// A hostile plugin that panics while it is configured.
fn broken() -> Result<Wish> {
    let grants = json!({
        "http": {"origins": ["http://127.0.0.1:1"], "methods": ["GET"]},
        "kv": {"max_bytes": 65536}
    });
    let config = json!({ "mode": "panic-in-configure" });
    wish("broken", "fixtures/hostile.wasm", config, grants)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_reaches_the_hosts_it_is_for_and_a_broken_one_is_rolled_back() -> Result<()> {
    let home = Home::new()?;
    home.configure("version: 1\nworker: {settle: 0s}\n")?;
    let up = home.up().await?;
    let mut operator = Operator::of(&home, &up).await?;
    let web = Host::start(&home, &up, "web-1", "web").await?;
    let db = Host::start(&home, &up, "db-1", "db").await?;
    let hosts = [&web, &db];
    let pass = || wish("pass", "fixtures/pass.wasm", json!({ "version": "fleet" }), json!({}));

    let first = operator.next();
    let groups = || -> Result<Vec<Group>> {
        Ok(vec![group("", vec![pass()?]), group("role=web", vec![counter("count", first)?])])
    };
    operator.decide(&up, groups()?).await?;
    let running = until(&up, &hosts, "the set runs where it is for", |status| {
        let web = runs(status, "web-1", 1, &[("count", "running")]);
        let db = runs(status, "db-1", 1, &[]);
        let worker = runs(status, "local", 1, &[("pass", "running")]);
        (web && db && worker).then(|| host(status, "web-1").map(|it| it["slots"][0].clone()))
    })
    .await?;
    let running = running.context("slots")?;
    // Samples of the fleet's collector went through the fleet's transform.
    let began = now();
    up.until(
        "samples",
        &format!(
            "/v1/query?selector=sentinel_test_counter&start={}&end={}",
            began - 60_000,
            began + 600_000
        ),
        SOON,
        |found| {
            // Those of before the worker had the transform are a series of their own.
            let reshaped = |one: &Value| {
                let labels = one["labels"].to_string();
                labels.contains("fleet") && labels.contains("web-1")
            };
            found["series"].as_array()?.iter().any(reshaped).then_some(())
        },
    )
    .await?;

    let mut second = groups()?;
    second[1].slots.push(broken()?);
    operator.decide(&up, second).await?;
    until(&up, &hosts, "it is refused as a whole and says why", |status| {
        let web = host(status, "web-1")?;
        let why = web["problem"].as_str().unwrap_or_default();
        let said = web["state"] == "refused" && why.contains("broken") && why.contains("configure");
        let slot = &web["slots"][0];
        let same = slot["generation"] == running["generation"] && slot["state"] == "running";
        let alone = web["slots"].as_array()?.len() == 1;
        (said && same && alone && web["number"] == 1 && runs(status, "db-1", 2, &[])).then_some(())
    })
    .await?;

    // The rest of the set cannot be applied, and the operator's stop counts nevertheless.
    let mut third = groups()?;
    third[1].slots[0].disabled = true;
    third[1].slots.push(broken()?);
    let decided = Instant::now();
    operator.decide(&up, third).await?;
    until(&up, &hosts, "the slot is empty", |status| {
        let web = host(status, "web-1")?;
        let slots = web["slots"].as_array()?;
        (slots.iter().all(|slot| slot["state"] == "empty") && slots.len() == 1).then_some(())
    })
    .await?;
    let took = decided.elapsed();
    println!("disabled within {took:?}");
    ensure!(took < AT_ONCE, "disabled after {took:?}\n{}", web.log());
    until(&up, &hosts, "the rest is refused", |status| {
        let web = host(status, "web-1")?;
        let why = web["problem"].as_str().unwrap_or_default();
        let said = why.contains("stopped all the same: `count`") && why.contains("broken");
        (web["number"] == 1 && web["state"] == "refused" && said).then_some(())
    })
    .await?;

    operator.decide(&up, groups()?).await?;
    until(&up, &hosts, "it runs again", |status| {
        runs(status, "web-1", 4, &[("count", "running")]).then_some(())
    })
    .await?;
    // What the host's owner configures stands above the set: a name, and a ceiling of grants.
    let own = ", collectors: [{slot: count, plugin: sentinel/system, grants: {system: true}}]";
    web.configure("web", own)?;
    until(&up, &hosts, "the owner's slot of that name runs instead", |status| {
        let web = host(status, "web-1")?;
        let why = web["problem"].as_str().unwrap_or_default();
        let slots = web["slots"].as_array()?;
        let own = slots.len() == 1 && slots[0]["plugin"] == "sentinel/system";
        (own && why.contains("this host's own configuration")).then_some(())
    })
    .await?;
    web.configure("web", ", ceiling: {system: true}")?;
    until(&up, &hosts, "the fleet's slot asks for more than the ceiling", |status| {
        let web = host(status, "web-1")?;
        let why = web["problem"].as_str().unwrap_or_default();
        let none = web["slots"].as_array()?.is_empty();
        (none && why.contains("beyond what this host allows")).then_some(())
    })
    .await?;
    web.configure("web", "")?;
    until(&up, &hosts, "it runs again without them", |status| {
        runs(status, "web-1", 4, &[("count", "running")]).then_some(())
    })
    .await?;

    // One that loads and then fails at every call takes its whole set back with it.
    let mut failing = Wish { slot: "count".to_owned(), ..broken()? };
    failing.config = json!({ "mode": "panic" });
    let fifth = operator.next();
    let beside = counter("beside", fifth)?;
    operator.decide(&up, vec![group("role=web", vec![failing, beside])]).await?;
    until(&up, &hosts, "the whole set runs first", |status| {
        let slots = host(status, "web-1")?["slots"].as_array()?;
        slots.iter().any(|slot| slot["name"] == "beside").then_some(())
    })
    .await?;
    until(&up, &hosts, "it goes back as a whole and says why", |status| {
        let web = host(status, "web-1")?;
        let why = web["problem"].as_str().unwrap_or_default();
        let said = why.contains("rolled back as a whole, to set 4") && why.contains("`count`");
        let slots = web["slots"].as_array()?;
        let alone = slots.len() == 1 && slots[0]["plugin"] == "sentinel/counter";
        let back = alone && slots[0]["state"] == "running" && web["number"] == 4;
        (back && web["state"] == "refused" && web["refused"] == fifth && said).then_some(())
    })
    .await?;
    drop((web, db));
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_decide_by_commands_and_hosts_are_moved_to_another_key() -> Result<()> {
    let home = Home::on_ports_of_its_own()?;
    home.configure("version: 1\nworker: {settle: 0s}\n")?;
    let up = home.up().await?;
    let done = |arguments: &[&str]| -> Result<String> {
        let said = home.sentinel(arguments)?;
        ensure!(said.code == 0, "{arguments:?} ended with {}: {}", said.code, said.err);
        Ok(said.out)
    };
    let file = |name: &str, text: &str| -> Result<String> {
        let path = home.path().join(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    };
    // A host that was promised everything, and one whose owner says it by files.
    let one = file("one.json", &done(&["fleet", "operators"])?)?;
    let mut web = Host::start(&home, &up, "web-1", "web").await?;
    let db = Host::start_by_files(&home, &up, "db-1", "web", one.as_ref()).await?;
    let status = done(&["fleet", "status"])?;
    ensure!(status.contains("agent web-1") && status.contains("worker local"), "{status}");
    let mut install = vec!["plugin", "install", "sentinel/counter", "--on", "role=web"];
    install.extend(["--slot", "count", "--grant", "kv=4KiB", "--interval", "300ms"]);
    install.extend(["--set", "slot=count", "--set", "rows=5", "--timeout", "90s"]);
    done(&install).with_context(|| format!("{}\n{}", web.log(), db.log()))?;
    let count = [("count", "running")];
    let both = |status: &Value, number| {
        let all = runs(status, "web-1", number, &count) && runs(status, "db-1", number, &count);
        all.then_some(())
    };
    until(&up, &[&web, &db], "both run it", |status| both(status, 1)).await?;

    // Another operator joins, and servers are given both.
    let joined = done(&["fleet", "init", "--join", &one, "--key", "new.key"])?;
    let keys = |text: &str| -> Result<Vec<String>> {
        let pins: Value = serde_json::from_str(text)?;
        let keys = pins["keys"].as_array().context("keys")?;
        Ok(keys.iter().map(ToString::to_string).collect())
    };
    let old = keys(&std::fs::read_to_string(&one)?)?;
    let new = keys(&joined)?.into_iter().find(|key| !old.contains(key)).context("its key")?;
    let pinned = done(&["fleet", "operators", "--add", new.trim_matches('"')])?;
    let list = file("both.json", &pinned)?;
    assert!(up.stop().await?.success());
    let stopped = now();
    let mut command = home.up_command();
    command.arg("--operators").arg(&list);
    let up = home.start(command).await?;
    // They come back in their own time, and a command waits for nobody who is silent.
    up.until("both are heard of again", "/v1/agents", SOON, |agents| {
        let heard = |name: &str| {
            let one = agents.as_array()?.iter().find(|one| one["id"] == name)?;
            (one["last_seen"].as_i64()? > stopped).then_some(())
        };
        heard("web-1").and(heard("db-1"))
    })
    .await?;
    until(&up, &[&web, &db], "the worker is heard of again", |status| {
        (host(status, "local")?["state"] == "current").then_some(())
    })
    .await?;
    // The worker is told by `up`; hosts believe whom they enrolled with.
    let said = home.sentinel(["fleet", "resign", "--key", "new.key", "--timeout", "90s"])?;
    ensure!(said.code == 1 && said.err.contains("2 hosts refused set 2"), "{}", said.err);
    ensure!(said.err.contains("local runs set 2"), "{}", said.err);
    until(&up, &[&web, &db], "hosts refuse it, and go on", |status| {
        let refuses = |name| {
            let host = host(status, name)?;
            let why = host["problem"].as_str()?.contains("no operator of this fleet signed");
            (host["state"] == "refused" && host["number"] == 1 && why).then_some(())
        };
        refuses("web-1").and(refuses("db-1"))
    })
    .await?;
    let half = web.without_its_enrolment()?;
    ensure!(half.contains("remove identity.json there too"), "{half}");
    web.enrol_again().await?;
    std::fs::copy(&list, &one)?;
    let mut db = db;
    db.kill_and_start()?;
    until(&up, &[&web, &db], "both believe the new key", |status| both(status, 2)).await?;
    drop((web, db));
    assert!(up.stop().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_during_installs_leaves_whole_sets_and_running_slots() -> Result<()> {
    let kills = count("SENTINEL_KILLS", 5);
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    println!("{hint}");
    let mut lot = StdRng::seed_from_u64(seed);
    let home = Home::on_ports_of_its_own()?;
    home.configure("version: 1\nworker: {settle: 0s}\n")?;
    let mut up = home.up().await?;
    let mut operator = Operator::of(&home, &up).await?;
    let mut web = Host::start(&home, &up, "web-1", "web").await?;
    let began = now();
    let whole = [("a", "running"), ("b", "running")];
    for kill in 0..kills {
        let number = operator.next();
        // Now with the other slots' names, so that slots come and go and come again.
        let mut slots = vec![counter("a", number)?, counter("b", number)?];
        if kill % 2 == 0 {
            slots.push(counter("c", number)?);
        }
        let version = json!({ "version": number.to_string() });
        let pass = wish("pass", "fixtures/pass.wasm", version, json!({}))?;
        operator.decide(&up, vec![group("", vec![pass]), group("role=web", slots)]).await?;
        tokio::time::sleep(Duration::from_millis(lot.random_range(0..1500))).await;
        if lot.random_bool(0.5) {
            web.kill_and_start().with_context(|| hint.clone())?;
        } else {
            up.kill()?;
            up = home.up().await.with_context(|| hint.clone())?;
        }
        let mut wanted = whole.to_vec();
        if kill % 2 == 0 {
            wanted.push(("c", "running"));
        }
        until(&up, &[&web], "the newest set runs, whole", |status| {
            let worker = runs(status, "local", number, &[("pass", "running")]);
            (worker && runs(status, "web-1", number, &wanted)).then_some(())
        })
        .await
        .with_context(|| format!("{hint}: after kill {kill}"))?;
        // Every slot is called, all by the same set, and the worker reshapes by it.
        for (slot, _) in &wanted {
            let began = now();
            let selector = format!(
                "/v1/query?selector=sentinel_test_counter%7Bslot%3D%22{slot}%22,set%3D%22{number}%22,version%3D%22{number}%22%7D&start={}&end={}",
                began - 600_000,
                began + 600_000
            );
            up.until("samples of every slot", &selector, SOON, |found| {
                found["series"].as_array().is_some_and(|all| !all.is_empty()).then_some(())
            })
            .await
            .with_context(|| format!("{hint}: after kill {kill}, slot {slot}\n{}", web.log()))?;
        }
    }
    // Whatever came and went, in agent and worker: what was counted is there, each value once.
    for slot in ["a", "b"] {
        let counted = Counted::of_slot(&up, slot, began).await?;
        let last = counted.last().context("values")?;
        ensure!(last > 5 * kills as u64, "{hint}: slot {slot} counted to {last}");
        counted.assert_each_once(last, &hint);
    }
    drop(web);
    assert!(up.stop().await?.success());
    Ok(())
}
