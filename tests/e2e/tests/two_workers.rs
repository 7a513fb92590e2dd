//! Two workers over one store, one of them killed at each step of firing: every alert is in the
//! journal once, and a receiver that honours the key is told of it once.

use anyhow::{Context, Result, ensure};
use rand::seq::SliceRandom as _;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_e2e::receiver::{Received, Receiver};
use sentinel_e2e::roles::{Apart, Role};
use sentinel_e2e::sentinel::Home;
use sentinel_e2e::told::{conclusion, judge};
use sentinel_e2e::{count, eventually, given};
use sentinel_test_services::{Nats, Postgres, Services};
use std::collections::BTreeSet;
use std::time::Duration;

const KEY: &[u8] = b"known to the workers and the receiver";
const SOON: Duration = Duration::from_secs(90);
/// What a worker says that waits for the other's end.
const STANDS_BY: &str = "this one stands by";

/// What one says that went on after another one took over.
const LOST: &str = "another worker keeps alerts by now";

/// What one says that begins to evaluate, and out of how many parts it has its windows.
const CAME_BACK: &str = "windows are there";

/// The most attempts that a notifier makes at once.
const AT_ONCE: usize = 4;

/// They fire and resolve all the time: some at once, one after it was pending.
const RULES: &str = "version: 1
rules:
  - name: waves
    interval: 1s
    condition: {metric: sentinel_test_wave, window: 1m, above: 0.5}
  - name: held
    interval: 1s
    for: 1s
    condition: {metric: sentinel_test_wave, match: {wave: \"7\"}, window: 1m, below: 0.5}
";

/// At which step of firing the worker that works is killed.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Anywhere: most of the time it decides, stores or waits.
    Any,
    /// The receiver has the notification, and its answer never comes.
    Arrived,
    /// The receiver has taken it, and nobody has written that down, or just so.
    Taken,
    /// The receiver has refused it for now.
    Refused,
}

impl Step {
    const ALL: [Self; 4] = [Self::Any, Self::Arrived, Self::Taken, Self::Refused];

    /// Waits for it.
    async fn wait(self, lot: &mut StdRng, receiver: &Receiver) -> Result<()> {
        let before = receiver.received().len();
        let wanted = match self {
            Self::Any => {
                tokio::time::sleep(Duration::from_millis(lot.random_range(0..2000))).await;
                return Ok(());
            }
            Self::Arrived => {
                receiver.mute(true);
                0
            }
            Self::Taken => 200,
            Self::Refused => {
                receiver.answer_next(&[503, 503]);
                503
            }
        };
        let deadline = tokio::time::Instant::now() + SOON;
        // Looked for more often than `eventually` does: the step is over in a moment.
        while !receiver.received()[before..].iter().any(|one| one.answered == wanted) {
            ensure!(tokio::time::Instant::now() < deadline, "{self:?} did not happen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

/// Starts a worker, and waits until it stands by.
async fn stand_by(apart: &Apart<'_>, name: &str) -> Result<Role> {
    let said = || apart.log(name).matches(STANDS_BY).count();
    let before = said();
    let role = apart.worker(name)?;
    eventually("it stands by", SOON, || async { Ok((said() > before).then_some(())) })
        .await
        .with_context(|| apart.log(name))?;
    Ok(role)
}

fn config(receiver: &Receiver, database: &str, nats: &Nats) -> String {
    format!(
        "version: 1
store: {database}
bus: {}
nats: {{partitions: 3, max_bytes: 67108864}}
agent:
  interval: 100ms
  heartbeat: 500ms
  collectors:
    - slot: counter
      plugin: sentinel/counter
      config: {{slot: counter, rows: 20, series: 3, waves: 8}}
      grants: {{kv: {{max_bytes: 4096}}}}
worker:
  settle: 0s
  self_watch: {{enabled: false}}
  evaluators: [{{slot: alert-dsl, plugin: sentinel/alert-dsl, grants: {{series: true}}}}]
{}",
        nats.url(),
        receiver.notifiers()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_at_each_step_of_firing_leaves_one_entry_and_one_effect() -> Result<()> {
    let kills = count("SENTINEL_KILLS", Step::ALL.len());
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    println!("{hint}");
    let mut lot = StdRng::seed_from_u64(seed);
    let mut steps = Step::ALL;
    steps.shuffle(&mut lot);
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?;
    let nats = Nats::start(&services, &home.path().join("nats"))?;
    let postgres = Postgres::start(&services, &[])?;
    let database = postgres.database()?;
    let receiver = Receiver::start(KEY).await?;
    // It lends its registry, to which the checkout's plugins are published.
    home.configure("version: 1\n")?;
    let up = home.up().await?;
    let apart = Apart::new(&home, &up, &config(&receiver, &database, &nats))?;
    let logs = || ["server", "one", "two"].map(|name| apart.log(name)).join("\n");
    let server = apart.server().await?;
    apart.apply(&server, RULES)?;
    let names = ["one", "two"];
    for name in names {
        apart.keep_secret(name, "webhook-key", KEY)?;
    }
    let mut works = apart.worker(names[0])?;
    let _agent = apart.agent(&server).await?;
    let told = || async { Ok((!receiver.received().is_empty()).then_some(())) };
    eventually("alerts are told", SOON, told).await.with_context(logs)?;
    for kill in 0..kills {
        let next = names[(kill + 1) % 2];
        let came_back = || apart.log(next).matches(CAME_BACK).count();
        let came_back_before = came_back();
        let waits = stand_by(&apart, next).await?;
        // The next one has the windows that this one kept.
        let kept = || async {
            let parts = postgres.query(&database, "SELECT count(*) FROM window_parts")?;
            Ok((parts != "0").then_some(()))
        };
        eventually("windows are kept", SOON, kept).await.with_context(logs)?;
        let step = steps[kill % steps.len()];
        step.wait(&mut lot, &receiver).await.with_context(|| format!("{hint}\n{}", logs()))?;
        // Dropping it is `kill -9`; the other has the work once the lease is over.
        drop(std::mem::replace(&mut works, waits));
        let before = receiver.received().len();
        receiver.mute(false);
        eventually("the other goes on to tell", SOON, || async {
            let new = receiver.received().split_off(before);
            let tells = new.iter().any(|one| one.answered == 200);
            // What was open it tells before it has the windows.
            Ok((tells && came_back() > came_back_before).then_some(()))
        })
        .await
        .with_context(|| format!("{step:?}, {hint}\n{}", logs()))?;
    }
    apart.apply(&server, "version: 1\nrules: []\n")?;
    let news = conclusion(&server).await.with_context(|| format!("{hint}\n{}", logs()))?;
    let told = judge(&news, &receiver.received()).with_context(|| hint.clone())?;
    println!("{} transitions told, {} repeats", news.len(), told.repeats);
    let log = logs();
    let came_back: Vec<&str> = log.lines().filter(|line| line.contains(CAME_BACK)).collect();
    let from_kept = came_back.iter().filter(|line| !line.contains("parts=0")).count();
    ensure!(from_kept >= kills, "{hint}: windows were read from history: {came_back:#?}");
    // What arrived without an answer, and what was refused, came again.
    assert!(told.repeats >= kills / 2, "{hint}: {} repeats", told.repeats);
    assert!(news.len() >= 2 * kills, "{hint}: {} transitions", news.len());
    Ok(())
}

fn may_be_repeat(request: &Received) -> bool {
    request.body["data"]["may_be_repeat"] == true
}

/// All that came, but for what one sent that stood still in the middle of an attempt until the
/// `woken`th came: nobody can call that back. The other alone has told it by then, as a possible
/// repeat, and the one that stood still cannot know that what it sends is one.
fn without_what_stood_still(requests: Vec<Received>, woken: usize) -> Result<Vec<Received>> {
    let (mut first, mut again) = (BTreeSet::<String>::new(), BTreeSet::<String>::new());
    let mut late = 0;
    let mut others = Vec::with_capacity(requests.len());
    for (at, one) in requests.into_iter().enumerate() {
        let repeat = may_be_repeat(&one);
        let by_the_other_alone = again.contains(&one.id) && !first.contains(&one.id);
        if at >= woken && !repeat && by_the_other_alone {
            late += 1;
            continue;
        }
        let told = if repeat { &mut again } else { &mut first };
        told.insert(one.id.clone());
        others.push(one);
    }
    ensure!(late <= AT_ONCE, "{late} were told again by the one that had lost the lease");
    Ok(others)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_and_lost_the_lease_changes_and_tells_nothing_more() -> Result<()>
{
    let services = Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?;
    let home = Home::new()?;
    let nats = Nats::start(&services, &home.path().join("nats"))?;
    let postgres = Postgres::start(&services, &[])?;
    let receiver = Receiver::start(KEY).await?;
    home.configure("version: 1\n")?;
    let up = home.up().await?;
    let apart = Apart::new(&home, &up, &config(&receiver, &postgres.database()?, &nats))?;
    let logs = || ["server", "one", "two"].map(|name| apart.log(name)).join("\n");
    let server = apart.server().await?;
    apart.apply(&server, RULES)?;
    for name in ["one", "two"] {
        apart.keep_secret(name, "webhook-key", KEY)?;
    }
    let one = apart.worker("one")?;
    let _agent = apart.agent(&server).await?;
    let taken = |before: usize| {
        let new = receiver.received().split_off(before);
        new.iter().filter(|one| one.answered == 200).count()
    };
    let told = || async { Ok((taken(0) > 0).then_some(())) };
    eventually("alerts are told", SOON, told).await.with_context(logs)?;
    let _two = stand_by(&apart, "two").await?;
    one.signal("STOP")?;
    let before = receiver.received().len();
    let told =
        || async { Ok((taken(before) > 1 && apart.log("two").contains(CAME_BACK)).then_some(())) };
    eventually("the other tells", SOON, told).await.with_context(logs)?;
    let woken = receiver.received().len();
    one.signal("CONT")?;
    let stepped = || async { Ok(apart.log("one").contains(LOST).then_some(())) };
    eventually("the first steps down", SOON, stepped).await.with_context(logs)?;
    let before = receiver.received().len();
    let told = || async { Ok((taken(before) > 1).then_some(())) };
    eventually("the other goes on to tell", SOON, told).await.with_context(logs)?;
    apart.apply(&server, "version: 1\nrules: []\n")?;
    let news = conclusion(&server).await.with_context(logs)?;
    let requests = without_what_stood_still(receiver.received(), woken)?;
    let told = judge(&news, &requests).with_context(logs)?;
    println!("{} transitions told, {} repeats", news.len(), told.repeats);
    Ok(())
}
