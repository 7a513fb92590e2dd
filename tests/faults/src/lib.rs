//! Faults on real processes: what is killed, stopped, cut off, filled up or lied to, by seed, and
//! afterwards the question whether anything was lost or doubled, and whether alerts are as they
//! should be, which `sentinel-oracle` answers.
//!
//! A [`Site`] is the production pair: NATS, PostgreSQL, two servers, two workers and two agents
//! that count, each a process of its own, joined by [`proxy::Proxy`]s. An [`Embedded`] is one
//! `sentinel up`, alone or with two agents that joined it. A [`schedule`] is drawn from a seed, which is printed and which `SENTINEL_SEED`
//! gives back; see README.md beside this crate.
//!
//! Everything is in a temporary folder and ends with its owner. Nothing here is asynchronous: a
//! process is killed, then it is dead.

pub mod agents;
pub mod embedded;
pub mod middle;
pub mod oracle;
pub mod proxy;
pub mod role;
pub mod rules;
pub mod schedule;
pub mod site;

pub use embedded::Embedded;
pub use site::Site;

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(120);

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

/// A number that the environment may give.
#[must_use]
pub fn number(variable: &str, normal: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(normal)
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// Where there is none within [`SOON`]; says what was waited for, and the last error.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        let last = ask();
        if let Ok(Some(answer)) = last {
            return Ok(answer);
        }
        if start.elapsed() > SOON {
            match last {
                Err(error) => bail!("{what}: not within {SOON:?}: {error:#}"),
                _ => bail!("{what}: not within {SOON:?}"),
            }
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
