//! What whole-system tests share: real `sentinel` processes, real services, a receiver of
//! webhooks. Everything listens on loopback, on free ports, in folders of its own, and ends
//! with its owner.
//!
//! `cargo xtask test` says where things are: `SENTINEL_BIN`, `SENTINEL_PLUGINS`,
//! `SENTINEL_PUBLISHER_KEY`, `SENTINEL_SERVICES`.

pub mod counter;
pub mod fleet;
pub mod guide;
pub mod machine;
pub mod receiver;
pub mod registry;
pub mod roles;
pub mod sentinel;
pub mod told;

use anyhow::{Result, bail};
use sentinel_test_services::{Nginx, Services};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A path that `cargo xtask test` gives, or where it would be in the checkout.
///
/// # Panics
/// Where there is none: these tests never pass by being left out.
#[must_use]
pub fn given(variable: &str, in_target: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target").join(in_target),
        PathBuf::from,
    );
    assert!(
        path.exists(),
        "{} is not there; run these tests with `cargo xtask test`",
        path.display()
    );
    path
}

/// A real nginx in a folder of its own.
///
/// # Errors
/// Where it does not come up.
pub fn nginx(folder: &Path) -> Result<Nginx> {
    Nginx::start(&Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?, folder)
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// Where there is none after `within`; says what was waited for.
pub async fn eventually<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    within: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = ask().await;
        if let Ok(Some(answer)) = last {
            return Ok(answer);
        }
        if start.elapsed() > within {
            match last {
                Err(error) => bail!("{what}: not within {within:?}: {error:#}"),
                _ => bail!("{what}: not within {within:?}"),
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// How often something is done: `normal` times, unless the environment says otherwise.
#[must_use]
pub fn count(variable: &str, normal: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(normal)
}
