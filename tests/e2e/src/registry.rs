//! `sentinel registry` in a folder of its own, and what hosts and publishers do with it.

use crate::given;
use anyhow::Result;
use sentinel_registry_client::{FetchLimits, RegistryClient, RegistryOptions};
use sentinel_test_services::{RegistryFolder, RegistryProcess, Services};
use sentinel_trust::repository::Enrolment;
use sentinel_trust::{Manifest, PublisherKey, embed};
use std::ops::Deref;
use std::process::Command;
use tempfile::TempDir;

/// A registry's data, its owner's keys and whatever lies beside them.
pub struct Installation {
    folder: RegistryFolder,
    _dir: TempDir,
}

impl Deref for Installation {
    type Target = RegistryFolder;

    fn deref(&self) -> &RegistryFolder {
        &self.folder
    }
}

impl Installation {
    /// One with keys and first metadata.
    ///
    /// # Errors
    /// Where `sentinel registry init` fails.
    pub fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = given("SENTINEL_BIN", "debug/sentinel");
        Ok(Self { folder: RegistryFolder::new(&program, dir.path())?, _dir: dir })
    }

    /// One with nothing in it: it takes pushes and publishes nothing.
    ///
    /// # Errors
    /// Where no folder can be made.
    pub fn bare() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let program = given("SENTINEL_BIN", "debug/sentinel");
        Ok(Self { folder: RegistryFolder::bare(&program, dir.path())?, _dir: dir })
    }

    /// One with keys and first metadata, in a bucket of what speaks S3 at `endpoint`.
    ///
    /// # Errors
    /// Where `sentinel registry init` fails.
    pub fn in_bucket(bucket: &str, endpoint: &str) -> Result<Self> {
        let Self { folder, _dir } = Self::bare()?;
        let made = Self { folder: folder.in_bucket(bucket, endpoint), _dir };
        made.init()?;
        Ok(made)
    }

    /// A host's view of the registry that is served, kept in the folder `name`.
    ///
    /// # Errors
    /// Where there is no enrolment, or what is kept cannot be read.
    pub fn client(&self, serving: &RegistryProcess, name: &str) -> Result<RegistryClient> {
        let enrolment = std::fs::read(self.path("registry/enrolment.json"))?;
        let enrolment = Enrolment::from_json(&enrolment)?;
        let options = RegistryOptions {
            url: serving.url().parse()?,
            folder: self.path(name),
            ca: None,
            limits: FetchLimits::default(),
        };
        Ok(RegistryClient::open(options, Some(&enrolment))?)
    }
}

/// A collector that does nothing, of this name and version, with `filling` bytes more than it
/// needs.
///
/// # Errors
/// Where the name or the version is none.
pub fn plugin(name: &str, version: &str, filling: usize) -> Result<Vec<u8>> {
    let world = sentinel_test_components::world("collector");
    let mut component = world.component(|interface| interface.contains("/log@"));
    let mut content = vec![7; filling];
    content.splice(0..0, *b"\x07filling");
    component.push(0);
    let mut length = content.len();
    while length >= 0x80 {
        component.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    component.push(length as u8);
    component.extend(content);
    let manifest = serde_json::json!({
        "format": 1, "name": name, "version": version, "kind": "collector", "contract": "0.1.0",
        "description": "Does nothing.", "license": "Apache-2.0",
    });
    Ok(embed(&component, &Manifest::from_json(manifest.to_string().as_bytes())?)?)
}

/// A publisher's key.
///
/// # Errors
/// Where the name is none.
pub fn publisher_key(publisher: &str, seed: u8) -> Result<PublisherKey> {
    Ok(PublisherKey::from_secret(publisher.parse()?, &[seed; 32]))
}

/// The program of a service that `cargo xtask services` fetched.
///
/// # Errors
/// Where it is not among them.
pub fn service(name: &str) -> Result<Command> {
    Services::read(&given("SENTINEL_SERVICES", "services/services.json"))?.command(name)
}
