//! Secrets whose key a desktop's keyring keeps.

use anyhow::{Result, ensure};
use sentinel_e2e::sentinel::{Home, Said};
use sentinel_e2e::{eventually, given};
use sentinel_test_services::{Keyring, Services, SessionBus};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(90);

fn services() -> Result<Services> {
    Services::read(&given("SENTINEL_SERVICES", "services/services.json"))
}

fn secret(home: &Home, args: &[&str], input: &str) -> Result<Said> {
    let data = home.data();
    let data = data.to_string_lossy();
    home.sentinel_with(["secret", "--data", &data].iter().chain(args), input.as_bytes())
}

#[tokio::test]
async fn the_key_of_secrets_is_in_the_desktops_keyring_and_a_keyring_that_is_away_stops_nothing()
-> Result<()> {
    let home = Home::new()?;
    home.configure("version: 1\n")?;
    std::fs::create_dir(home.data())?;
    let services = services()?;
    let bus = SessionBus::start(&services, home.path())?;
    let keyring = Keyring::start(&services, &bus)?;

    let set = secret(&home, &["set", "token"], "hunter2\n")?;
    ensure!(set.code == 0, "{set:?}");
    ensure!(!set.err.contains("lies beside"), "no warning: {set:?}");
    ensure!(!home.data().join("secrets.key").exists(), "no key lies beside the store");
    let listed = secret(&home, &["list"], "")?;
    ensure!(listed.out == "token\n", "{listed:?}");

    drop(keyring);
    let listed = secret(&home, &["list"], "")?;
    ensure!(listed.code == 1 && listed.err.contains("secret service"), "{listed:?}");
    let up = home.up().await?;
    let warned = || async {
        let status = home.json(&["status"])?.to_string();
        Ok(status.contains("secrets are not available").then_some(()))
    };
    eventually("the warning", SOON, warned).await?;
    ensure!(!home.data().join("secrets.key").exists(), "no other key takes its place");

    let _keyring = Keyring::start(&services, &bus)?;
    let well = || async {
        let status = home.json(&["status"])?.to_string();
        Ok((!status.contains("secrets are not available")).then_some(()))
    };
    eventually("the secrets again", SOON, well).await?;
    let listed = secret(&home, &["list"], "")?;
    ensure!(listed.out == "token\n", "{listed:?}");
    up.stop().await?;
    Ok(())
}

#[tokio::test]
async fn without_a_keyring_the_key_lies_beside_the_store_and_that_is_said() -> Result<()> {
    let home = Home::new()?;
    std::fs::create_dir(home.data())?;
    // A bus without a keyring on it.
    let _bus = SessionBus::start(&services()?, home.path())?;
    let set = secret(&home, &["set", "token"], "hunter2\n")?;
    ensure!(set.code == 0 && set.err.contains("lies beside"), "{set:?}");
    ensure!(home.data().join("secrets.key").exists());
    Ok(())
}
