//! The registry over a real server that speaks S3: `moto`'s, as a process. `cargo xtask soak`
//! fetches it, since it and what it needs are 140 MB of Python; nothing else runs these tests.

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sentinel_e2e::counter::now;
use sentinel_e2e::registry::{Installation, plugin, publisher_key};
use sentinel_e2e::{count, eventually};
use sentinel_registry_client::{Publisher, RegistryClient};
use sentinel_test_services::S3;
use sentinel_trust::PublisherKey;
use sentinel_trust::repository::Interest;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

/// How long what one instance commits may take until another shows it.
const SOON: Duration = Duration::from_secs(90);

/// A server that speaks S3, with one bucket.
struct Bucket {
    s3: S3,
    _folder: tempfile::TempDir,
}

impl Bucket {
    fn start() -> Result<Self> {
        let program = std::env::var_os("SENTINEL_S3_SERVER");
        let program = program.context("run this with `cargo xtask soak`, which fetches moto")?;
        let folder = tempfile::tempdir()?;
        let s3 = S3::start(Path::new(&program), folder.path())?;
        s3.make("plugins")?;
        Ok(Self { s3, _folder: folder })
    }

    fn installation(&self) -> Result<Installation> {
        Installation::in_bucket("plugins", &self.s3.endpoint())
    }
}

async fn publish(
    client: &RegistryClient,
    key: &PublisherKey,
    token: &str,
    component: &[u8],
) -> Result<()> {
    let token = token.to_owned().into();
    Publisher { client, key, token }.publish(component, now()).await?;
    Ok(())
}

async fn names(client: &RegistryClient) -> Result<Vec<String>> {
    let view = client.refresh(Interest::All, now()).await?;
    let mut names: Vec<String> = Vec::new();
    for release in view.releases() {
        client.fetch(&release.name, release.digest, now()).await?;
        names.push(release.release().to_string());
    }
    names.sort();
    Ok(names)
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_two_registries_over_one_bucket_are_one() -> Result<()> {
    let bucket = Bucket::start()?;
    let installation = bucket.installation()?;
    let (one, other) = (installation.serve()?, installation.serve()?);
    let (acme, beta) = (publisher_key("acme", 1)?, publisher_key("beta", 2)?);
    for (key, name) in [(&acme, "acme"), (&beta, "beta")] {
        installation.approve(&one, name, &key.public().to_string())?;
    }
    let tokens = [installation.token("acme")?, installation.token("beta")?];
    let (at_one, at_other) =
        (installation.client(&one, "one")?, installation.client(&other, "other")?);
    // An instance may go by what it saw a second ago.
    eventually("the other knows who may publish", SOON, async || {
        let view = at_other.refresh(Interest::All, now()).await?;
        Ok((view.policy().publishers.len() == 2).then_some(()))
    })
    .await?;
    // Both commit at once, over both instances, again and again: the store says who was first.
    for version in 0..5 {
        let version = format!("1.{version}.0");
        let first = plugin("acme/probe", &version, 300_000)?;
        let second = plugin("beta/disks", &version, 7_000_000)?;
        let (a, b) = tokio::join!(
            publish(&at_one, &acme, &tokens[0], &first),
            publish(&at_other, &beta, &tokens[1], &second)
        );
        a.context("acme")?;
        b.context("beta")?;
    }
    let all = async |client: &RegistryClient| {
        let all = async || Ok(Some(names(client).await?).filter(|names| names.len() == 10));
        eventually("all that was published", SOON, all).await
    };
    ensure!(all(&at_one).await? == all(&at_other).await?, "they see different releases");
    // An upload begun here goes on there.
    let http = reqwest::Client::new();
    let begin = http.post(format!("{}/v2/acme/thing/blobs/uploads/", one.url()));
    let begin = begin.bearer_auth(&tokens[0]).send().await?;
    let upload = begin.headers()["location"].to_str()?.to_owned();
    let patch = http.patch(format!("{}{upload}", other.url())).bearer_auth(&tokens[0]);
    let patched = patch.body(vec![1; 6_000_000]).send().await?;
    ensure!(patched.status() == 202, "{}", patched.text().await?);
    let digest = sentinel_trust::Digest::of(&[1; 6_000_000]);
    let put = http.put(format!("{}{upload}?digest={digest}", one.url())).bearer_auth(&tokens[0]);
    ensure!(put.send().await?.status() == 201, "the upload was not closed");
    let blob = http.get(format!("{}/v2/acme/thing/blobs/{digest}", other.url())).send().await?;
    ensure!(blob.bytes().await?.len() == 6_000_000, "other bytes");
    let tags = http.get(format!("{}/v2/acme/probe/tags/list", other.url())).send().await?;
    let tags: Value = serde_json::from_slice(&tags.bytes().await?)?;
    ensure!(tags["tags"].as_array().map(Vec::len) == Some(5), "{tags}");
    let delete = http.delete(format!("{}/v2/acme/probe/manifests/1.0.0", one.url()));
    ensure!(delete.bearer_auth(&tokens[0]).send().await?.status() == 403, "a release went");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn soak_kill_9_of_a_registry_over_a_bucket_leaves_nothing_half_published() -> Result<()> {
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    println!("SENTINEL_SEED={seed}");
    let mut lot = StdRng::seed_from_u64(seed);
    let bucket = Bucket::start()?;
    let installation = bucket.installation()?;
    let acme = publisher_key("acme", 1)?;
    let serving = installation.serve()?;
    installation.approve(&serving, "acme", &acme.public().to_string())?;
    let token = installation.token("acme")?;
    drop(serving);
    for kill in 0..count("SENTINEL_KILLS", 5) {
        let serving = installation.serve()?;
        let client = installation.client(&serving, "publisher")?;
        let component = plugin("acme/probe", &format!("1.{kill}.0"), 7_000_000)?;
        let life = Duration::from_millis(lot.random_range(0..1_500));
        let killed = async {
            tokio::time::sleep(life).await;
            serving.kill()
        };
        // Whether it was published before the kill or not, it is so after the next attempt.
        let (_, killed) = tokio::join!(publish(&client, &acme, &token, &component), killed);
        killed?;
        let serving = installation.serve()?;
        let hosts = installation.client(&serving, &format!("fresh-{kill}"))?;
        let seen = names(&hosts).await.with_context(|| format!("kill {kill}"))?;
        ensure!(seen.len() == kill || seen.len() == kill + 1, "{seen:?}");
        let client = installation.client(&serving, "publisher")?;
        publish(&client, &acme, &token, &component).await.context("publishing again")?;
        ensure!(names(&hosts).await?.len() == kill + 1, "not published");
    }
    Ok(())
}
