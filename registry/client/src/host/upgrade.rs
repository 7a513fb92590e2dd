//! What operators do to a host's pins.

use std::collections::BTreeSet;

use sentinel_trust::PluginName;
use sentinel_trust::repository::{IndexedRelease, PluginRange, RequestsDifference};

use super::{HostPlugins, Pin};
use crate::source::SourceError;

/// A release that a pin could move to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The pin as it is.
    pub pin: Pin,
    /// The newest release in its range.
    pub to: IndexedRelease,
    /// What that one asks for beyond what the pinned one did. Of a pinned release that nobody
    /// lists any more it is not known what it asked for: then all counts as more.
    pub difference: RequestsDifference,
}

/// A pin that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The range.
    pub range: PluginRange,
    /// What it meant before; nothing where it meant nothing yet.
    pub from: Option<semver::Version>,
    /// What it means now.
    pub to: Pin,
}

impl HostPlugins {
    /// Which pins could move, of one plugin or of all: asks the registry first.
    ///
    /// # Errors
    /// A registry that does not answer, pins that cannot be read. A pin whose range has no
    /// release that may be installed is left out.
    pub async fn upgrades(&self, of: Option<&PluginName>) -> Result<Vec<Upgrade>, SourceError> {
        let pins = self.pins()?;
        let pins = pins.into_iter().filter(|pin| of.is_none_or(|name| pin.range.name == *name));
        let pins: Vec<Pin> = pins.collect();
        let publishers: BTreeSet<_> = pins.iter().map(|pin| pin.range.name.publisher()).collect();
        let interest = sentinel_trust::repository::Interest::Only(publishers);
        let view = self.client.refresh(interest, self.now()).await?;
        self.tell_of_what_differs();
        let mut found = Vec::new();
        for pin in pins {
            let Ok(to) = view.resolve(&pin.range, self.now()) else { continue };
            if to.digest == pin.digest {
                continue;
            }
            let before = view.releases().find(|one| one.digest == pin.digest);
            let before = before.map(|one| one.requests.clone()).unwrap_or_default();
            let difference = RequestsDifference::between(&before, &to.requests);
            found.push(Upgrade { pin, to: to.clone(), difference });
        }
        Ok(found)
    }

    /// Moves a pin, once the release is there; one that was moved meanwhile stays where it is,
    /// which is told by nothing.
    ///
    /// # Errors
    /// A release that is not to be had; then the pin stays.
    pub async fn upgrade(&self, upgrade: &Upgrade) -> Result<Option<Moved>, SourceError> {
        let to = &upgrade.to;
        self.client.fetch(&to.name, to.digest, self.now()).await?;
        let moved = self.pins.change(|pins| {
            let pin = pins.get_mut(&upgrade.pin.range.to_string())?;
            (*pin == upgrade.pin).then(|| go(pin, to))
        })?;
        if moved.is_some() {
            self.tell();
        }
        Ok(moved)
    }

    /// Moves every pin up to one of these releases, where its range has one above what it
    /// means: for who publishes what the host is to run.
    ///
    /// # Errors
    /// A release that is not to be had; then the pins before it are moved.
    pub async fn follow(&self, releases: &[IndexedRelease]) -> Result<Vec<Moved>, SourceError> {
        let mut all = Vec::new();
        for pin in self.pins()? {
            let above = |one: &&IndexedRelease| {
                one.name == pin.range.name
                    && pin.range.versions.matches(&one.version)
                    && one.version > pin.version
            };
            let highest = releases.iter().filter(above).max_by(|a, b| a.version.cmp(&b.version));
            let Some(to) = highest.cloned() else { continue };
            let difference = RequestsDifference::default();
            all.extend(self.upgrade(&Upgrade { pin, to, difference }).await?);
        }
        Ok(all)
    }

    /// Takes a release onto this host: it is fetched, every pin whose range has it moves to it,
    /// and where no range of this plugin is pinned, its bare name is.
    ///
    /// # Errors
    /// A release that is not to be had, or pins that cannot be written; then nothing moves.
    pub async fn install(&self, release: &IndexedRelease) -> Result<Vec<Moved>, SourceError> {
        self.client.fetch(&release.name, release.digest, self.now()).await?;
        let moved = self.pins.change(|pins| {
            let mut moved = Vec::new();
            let of_plugin = |pin: &&mut super::Pin| pin.range.name == release.name;
            let mut others = false;
            for pin in pins.values_mut().filter(of_plugin) {
                others = true;
                if pin.range.versions.matches(&release.version) && pin.digest != release.digest {
                    moved.push(go(pin, release));
                }
            }
            if !others {
                let pin = first(release);
                moved.push(Moved { range: pin.range.clone(), from: None, to: pin.clone() });
                pins.insert(pin.range.to_string(), pin);
            }
            moved
        })?;
        if !moved.is_empty() {
            self.tell();
        }
        Ok(moved)
    }

    /// Forgets what a plugin's ranges mean, of one version or of all: a slot that names one
    /// takes the newest release anew.
    ///
    /// # Errors
    /// Pins that cannot be written.
    pub fn unpin(
        &self,
        name: &PluginName,
        version: Option<&semver::Version>,
    ) -> Result<Vec<Pin>, SourceError> {
        let meant = |pin: &Pin| {
            pin.range.name == *name && version.is_none_or(|version| pin.version == *version)
        };
        let gone = self.pins.change(|pins| {
            let gone: Vec<Pin> = pins.values().filter(|pin| meant(pin)).cloned().collect();
            pins.retain(|_, pin| !meant(pin));
            gone
        })?;
        if !gone.is_empty() {
            self.tell();
        }
        Ok(gone)
    }
}

/// Moves a pin.
fn go(pin: &mut Pin, to: &IndexedRelease) -> Moved {
    let from = Some(pin.version.clone());
    (pin.version, pin.digest) = (to.version.clone(), to.digest);
    Moved { range: pin.range.clone(), from, to: pin.clone() }
}

/// The first pin of a plugin: by its bare name, or, of a pre-release, which a bare name never
/// means, by its version.
fn first(release: &IndexedRelease) -> Pin {
    let range = if release.version.pre.is_empty() {
        PluginRange { name: release.name.clone(), versions: semver::VersionReq::STAR }
    } else {
        PluginRange::exactly(release.name.clone(), &release.version)
    };
    Pin { range, version: release.version.clone(), digest: release.digest }
}
