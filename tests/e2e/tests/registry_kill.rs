//! Kill -9 of the registry at random moments while somebody publishes to it.

use anyhow::{Context, Result, ensure};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use semver::Version;
use sentinel_e2e::count;
use sentinel_e2e::counter::now;
use sentinel_e2e::registry::{Installation, plugin, publisher_key};
use sentinel_registry_client::{Publisher, RegistryClient};
use sentinel_test_services::RegistryProcess;
use sentinel_trust::PublisherKey;
use sentinel_trust::repository::Interest;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use zeroize::Zeroizing;

const NAME: &str = "acme/probe";
/// The longest that a registry lives once somebody publishes: a few publications.
const LIFE: Duration = Duration::from_millis(1_500);
/// Most releases that a host that knows nothing fetches after each kill.
const FETCHED: usize = 4;

/// A publisher, and what it knows of what it did.
struct Acme<'a> {
    installation: &'a Installation,
    key: PublisherKey,
    token: Zeroizing<String>,
    /// Versions that the registry said are published.
    told: BTreeSet<Version>,
    next: u64,
}

impl Acme<'_> {
    fn version(&self) -> Version {
        Version::new(1, self.next, 0)
    }

    fn bytes(&self) -> Result<Vec<u8>> {
        // From small to what goes in several pieces.
        let filling = [10, 40_000, 1_500_000][self.next as usize % 3];
        plugin(NAME, &self.version().to_string(), filling)
    }

    /// Publishes the next version.
    async fn publish(&mut self, client: &RegistryClient) -> Result<()> {
        let bytes = self.bytes()?;
        let (key, token) = (&self.key, self.token.clone());
        let published = Publisher { client, key, token }.publish(&bytes, now()).await?;
        ensure!(published.release.version == self.version(), "another version");
        self.told.insert(self.version());
        self.next += 1;
        Ok(())
    }

    /// Publishes version after version until the registry is gone.
    async fn publish_until_gone(&mut self, client: &RegistryClient) {
        while self.publish(client).await.is_ok() {}
    }

    /// What a host sees that knows nothing, and one that has seen everything: all that was said
    /// to be published, nothing that cannot be had whole, and never less than before.
    async fn check(&self, serving: &RegistryProcess, kill: usize) -> Result<()> {
        let fresh = self.installation.client(serving, &format!("fresh-{kill}"))?;
        let known = self.installation.client(serving, "known")?;
        let view = known.refresh(Interest::All, now()).await.context("who knew it before")?;
        let listed: BTreeSet<Version> = view.releases().map(|one| one.version.clone()).collect();
        let lost: Vec<_> = self.told.difference(&listed).collect();
        ensure!(lost.is_empty(), "published and gone: {lost:?}");
        let view = fresh.refresh(Interest::All, now()).await.context("who knows nothing")?;
        ensure!(view.releases().count() == listed.len(), "two hosts see different releases");
        for publisher in view.publishers().values() {
            ensure!(publisher.problem.is_none(), "{:?}", publisher.problem);
        }
        let mut releases: Vec<_> = view.releases().cloned().collect();
        releases.sort_by(|a, b| b.version.cmp(&a.version));
        for release in releases.iter().take(FETCHED) {
            let fetched = fresh.fetch(&release.name, release.digest, now()).await;
            fetched.with_context(|| format!("{} is half published", release.release()))?;
            self.check_tag(serving, &release.version, &release.digest.to_string()).await?;
        }
        Ok(())
    }

    /// The tag of a release means it.
    async fn check_tag(
        &self,
        serving: &RegistryProcess,
        version: &Version,
        digest: &str,
    ) -> Result<()> {
        let url = format!("{}/v2/{NAME}/manifests/{version}", serving.url());
        let answer = reqwest::get(&url).await?.error_for_status()?;
        let manifest: Value = serde_json::from_slice(&answer.bytes().await?)?;
        ensure!(manifest["layers"][0]["digest"] == digest, "the tag {version}: {manifest}");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_the_registry_leaves_no_version_half_published() -> Result<()> {
    let kills = count("SENTINEL_KILLS", 5);
    let seed = count("SENTINEL_SEED", rand::random::<u32>() as usize) as u64;
    let hint = format!("SENTINEL_SEED={seed} SENTINEL_KILLS={kills}");
    println!("{hint}");
    let mut lot = StdRng::seed_from_u64(seed);
    let installation = Installation::new()?;
    let key = publisher_key("acme", 1)?;
    let serving = installation.serve()?;
    installation.approve(&serving, "acme", &key.public().to_string())?;
    let token = Zeroizing::new(installation.token("acme")?);
    drop(serving);
    let told = BTreeSet::new();
    let mut acme = Acme { installation: &installation, key, token, told, next: 0 };
    let mut cut = 0;
    for kill in 0..kills {
        let serving = installation.serve()?;
        let client = installation.client(&serving, "publisher")?;
        let life = LIFE.mul_f64(lot.random_range(0.0..1.0));
        let killed = async {
            tokio::time::sleep(life).await;
            serving.kill()
        };
        let (_, killed) = tokio::join!(acme.publish_until_gone(&client), killed);
        killed?;
        let serving = installation.serve()?;
        acme.check(&serving, kill).await.with_context(|| format!("kill {kill}, {hint}"))?;
        // What was cut short is published now, whether or not it had been already.
        let client = installation.client(&serving, "publisher")?;
        let again = acme.publish(&client).await;
        again.with_context(|| format!("publishing again after kill {kill}, {hint}"))?;
        acme.check(&serving, kill).await.with_context(|| format!("after kill {kill}, {hint}"))?;
        cut += 1;
    }
    println!("{cut} kills, {} versions published, none of them by halves", acme.told.len());
    Ok(())
}
