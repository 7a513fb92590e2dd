//! What an agent begins with: where its plugins come from, whom to trust for them, and who
//! decides what runs. A token that promises all of it is enough the first time; from then on
//! it is kept beside the agent's identity.

use super::StopSignal;
use super::config::shape;
use super::data::DataFolder;
use crate::commands::fleet::operators_file;
use crate::files;
use anyhow::{Context, Result};
use sentinel_agent::enrol::{self, ENROLMENT, EnrolError, GivenToken};
use sentinel_agent::{IDENTITY, LinkTls, ServerAddress};
use sentinel_fleet::{HostEnrolment, Pins};
use sentinel_server::access::hash;
use sentinel_server::code::code;
use sentinel_server::enrolment::{ASKING, fresh};
use sentinel_trust::fleet::Operators;
use sentinel_trust::repository::{Enrolment, MAX_ENROLMENT_BYTES};
use std::path::{Path, PathBuf};
use std::time::Duration;
use url::Url;
use zeroize::Zeroizing;

/// Where a registry is unless anybody says otherwise.
const REGISTRY: &str = "http://127.0.0.1:5000";
/// The file of a token that the host made itself.
const CLAIM: &str = "claim.token";
/// Most bytes of a token's file.
const MAX_TOKEN: usize = 4096;
/// How long it waits for a server that does not take it yet.
const AGAIN: Duration = Duration::from_secs(2);

/// What an operator says on the command line.
pub(super) struct Said<'a> {
    pub(super) config: &'a Path,
    pub(super) servers: &'a [ServerAddress],
    pub(super) tls: &'a LinkTls,
    pub(super) registry: Option<&'a Url>,
    pub(super) enrolment: Option<&'a PathBuf>,
    pub(super) operators: Option<&'a PathBuf>,
    pub(super) token: Option<&'a Zeroizing<String>>,
}

/// What an agent begins with.
pub(super) struct Beginning {
    pub(super) registry: Url,
    pub(super) enrolment: Option<Enrolment>,
    pub(super) operators: Option<Operators>,
}

/// The token in a file.
pub(super) fn token(file: &Path) -> Result<Zeroizing<String>> {
    let read = files::read(file, MAX_TOKEN);
    let bytes = Zeroizing::new(read.map_err(|failure| anyhow::Error::msg(failure.message))?);
    let text = std::str::from_utf8(&bytes);
    let text = text.with_context(|| format!("the token file {} is no text", file.display()))?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A token that this host made itself, whose code it shows; `None` where it is enrolled. The same
/// after a restart, so that what was approved meanwhile counts.
pub(super) fn claimed(data: &DataFolder) -> Result<Option<Zeroizing<String>>> {
    let file = data.join(CLAIM);
    if data.join(IDENTITY).exists() {
        // Good for nothing any more.
        let _ = std::fs::remove_file(file);
        return Ok(None);
    }
    let made = data.secret_text(CLAIM, || fresh(ASKING))?;
    eprintln!(
        "This agent asks to be let in. Where its server is: sentinel agents approve {}",
        code(&hash(&made))
    );
    Ok(Some(Zeroizing::new(made)))
}

/// What was kept, or is got from the server now; `None` where it is to stop before.
pub(super) async fn begin(
    data: &DataFolder,
    said: &Said<'_>,
    stop: &mut StopSignal,
) -> Result<Option<Beginning>> {
    let file = data.join(ENROLMENT);
    let mut kept = HostEnrolment::load(&file)?;
    if let (None, None, Some(token)) = (&kept, said.enrolment, said.token)
        && Pins::split(token)?.1.is_some()
    {
        if !join(data, said, token, stop).await? {
            return Ok(None);
        }
        kept = HostEnrolment::load(&file)?;
        // It has an identity already, and so was given nothing: outside its fleet it must not run.
        anyhow::ensure!(
            kept.is_some(),
            "this host is enrolled, and {ENROLMENT}, which says into which fleet, is gone from {}: put it back, or remove {IDENTITY} there too, start again with a new token, and approve the host (`sentinel agents approve`)",
            data.path().display()
        );
    }
    let registry = match (said.registry, &kept) {
        (Some(url), _) => url.clone(),
        (None, Some(kept)) => kept.registry().parse().context("the address of the registry")?,
        (None, None) => REGISTRY.parse().context("the address of the registry")?,
    };
    let enrolment = match said.enrolment {
        None => kept.as_ref().map(|kept| kept.enrolment().clone()),
        Some(file) => {
            let json = files::read(file, MAX_ENROLMENT_BYTES);
            let json = json.map_err(|failure| anyhow::Error::msg(failure.message))?;
            let read = Enrolment::from_json(&json);
            Some(read.with_context(|| format!("{} is no enrolment", file.display()))?)
        }
    };
    let operators = operators(said.operators, kept.map(|kept| kept.operators()))?;
    Ok(Some(Beginning { registry, enrolment, operators }))
}

/// Who decides here: whom the host's owner names, else whom the token promised.
fn operators(file: Option<&PathBuf>, kept: Option<Operators>) -> Result<Option<Operators>> {
    let Some(file) = file else { return Ok(kept) };
    let said = operators_file(file).map_err(|failure| anyhow::anyhow!(failure.message))?;
    if let Some(kept) = kept {
        anyhow::ensure!(
            kept.fleet == said.fleet,
            "{} is of fleet {}, and this host was enrolled into {} by its token; start it without --operators, or remove {ENROLMENT} in its data folder",
            file.display(),
            said.fleet,
            kept.fleet
        );
    }
    Ok(Some(said))
}

/// Enrols, as soon as the server takes it; whether it did before it was to stop.
async fn join(
    data: &DataFolder,
    said: &Said<'_>,
    token: &Zeroizing<String>,
    stop: &mut StopSignal,
) -> Result<bool> {
    let config = shape(said.config)?.agent;
    let given = GivenToken(Some(token.clone()));
    let mut told = String::new();
    loop {
        let error = tokio::select! {
            () = stop.asked() => return Ok(false),
            joined = enrol::join(data.path(), &config, said.servers, said.tls, &given) => match joined {
                Ok(identity) => {
                    tracing::info!(agent = %identity.id, "enrolled");
                    return Ok(true);
                }
                Err(error @ EnrolError::Server { .. }) => error.to_string(),
                Err(error) => return Err(error.into()),
            },
        };
        if error != told {
            tracing::warn!("{error}; tried again until it is");
            told = error;
        }
        tokio::select! {
            () = stop.asked() => return Ok(false),
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_asks_with_one_token_until_it_is_enrolled() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataFolder::open(dir.path()).unwrap();
        let first = claimed(&data).unwrap().unwrap();
        assert!(first.starts_with(ASKING), "{}", first.len());
        assert_eq!(claimed(&data).unwrap().unwrap(), first, "after a restart");
        std::fs::write(data.join(IDENTITY), "{}").unwrap();
        assert!(claimed(&data).unwrap().is_none());
        assert!(!data.join(CLAIM).exists());
    }
}
