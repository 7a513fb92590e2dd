//! What the targets key decides.

use std::path::PathBuf;

use clap::Args;
use sentinel_registry_client::{PluginRef, RegistryClient};
use sentinel_trust::repository::{
    Interest, KeyPurpose, MetadataFile, Publishers, PublishersError, Role, RootSpec, TargetsSpec,
    root_file, targets_file,
};
use sentinel_trust::{Digest, KeyId, PublicKey, PublisherName};
use serde_json::json;
use std::collections::BTreeSet;

use super::keys;
use crate::commands::now;
use crate::commands::reach::{Reach, role_key};
use crate::failure::Failure;
use crate::files;
use crate::output::{Printer, human};

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// Where what was signed goes.
#[derive(Debug, Args)]
pub(super) struct Delivery {
    /// Write the signed file into this folder instead of sending it to the registry
    #[arg(long, value_name = "DIR")]
    pub(super) out: Option<PathBuf>,
}

/// What every change needs.
#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    delivery: Delivery,
    /// The offline key; of several that must sign, each [default: that of the running `sentinel up`]
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// Days until it must be renewed [default: 90 for targets, 365 for root]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: Option<i64>,
}

/// Options of `sentinel registry approve`.
#[derive(Debug, Args)]
pub(crate) struct Approve {
    /// The publisher: the half of its plugins' names before the slash
    publisher: PublisherName,
    /// Its public key, as `sentinel plugin keygen` printed it
    public: PublicKey,
    #[command(flatten)]
    change: Change,
}

/// Options of `sentinel registry revoke`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
pub(crate) struct Revoke {
    /// Whose
    publisher: PublisherName,
    /// A plugin, by its digest: it stops wherever it runs
    #[arg(long, group = "what")]
    digest: Vec<Digest>,
    /// A key, by its id: what it alone signed stops wherever it runs
    #[arg(long, group = "what")]
    revoked_key: Vec<KeyId>,
    #[command(flatten)]
    change: Change,
}

/// Options of `sentinel plugin revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeRelease {
    /// publisher/name@1.2.3, or publisher/name and --digest
    #[arg(value_name = "NAME[@VERSION]")]
    plugin: PluginRef,
    /// The plugin by its digest, whatever its version
    #[arg(long)]
    digest: Option<Digest>,
    #[command(flatten)]
    change: Change,
}

/// Options of `sentinel registry renew`.
#[derive(Debug, Args)]
pub(crate) struct Renew {
    /// `root` or `targets`
    #[arg(value_parser = offline_role)]
    role: Role,
    #[command(flatten)]
    change: Change,
}

fn offline_role(text: &str) -> Result<Role, String> {
    let role = Role::ALL.into_iter().find(|role| role.is_offline() && role.as_str() == text);
    role.ok_or_else(|| "write root or targets; the registry renews the others itself".to_owned())
}

pub(super) async fn approve(command: Approve, printer: &Printer) -> Result<(), Failure> {
    let Approve { publisher, public, change } = command;
    let id = public.id();
    edit(&change, printer, |all| all.approve(&publisher, public.clone())).await?;
    printer.say(&format!("{publisher} may publish with the key {id}"));
    Ok(())
}

pub(super) async fn revoke(command: Revoke, printer: &Printer) -> Result<(), Failure> {
    let Revoke { publisher, digest, revoked_key, change } = command;
    edit(&change, printer, |all| {
        digest.iter().try_for_each(|digest| all.revoke_digest(&publisher, *digest))?;
        revoked_key.iter().try_for_each(|key| all.revoke_key(&publisher, *key))
    })
    .await?;
    printer.say("hosts stop it when they next ask the registry, within the hour");
    if !revoked_key.is_empty() {
        printer.hint(&format!(
            "what that key signed and is good runs again once {publisher} has published it with another: approve that key"
        ));
    }
    Ok(())
}

/// Revokes one release: what `sentinel registry revoke` does with its digest.
pub(crate) async fn revoke_release(
    command: RevokeRelease,
    printer: &Printer,
) -> Result<(), Failure> {
    let RevokeRelease { plugin: PluginRef { name, version }, digest, change } = command;
    let digest = match (digest, version) {
        (Some(digest), None) => digest,
        (None, Some(version)) => {
            let client = change.reach.open()?;
            let interest = Interest::Only(BTreeSet::from([name.publisher()]));
            let view = client.refresh(interest, now()).await?;
            let found = view.releases().find(|one| one.name == name && one.version == version);
            let found = found.ok_or_else(|| {
                Failure::new(format!("{name} has no release {version}"))
                    .hint("`sentinel plugin search` shows what there is; a release that its publisher does not list is named by --digest")
            })?;
            found.digest
        }
        _ => {
            return Err(Failure::new(format!(
                "say which release of {name}: its version, or its --digest"
            ))
            .hint(format!("write {name}@1.2.3")));
        }
    };
    printer.say(&format!("revoking {digest}"));
    let command = Revoke {
        publisher: name.publisher(),
        digest: vec![digest],
        revoked_key: Vec::new(),
        change,
    };
    revoke(command, printer).await
}

pub(super) async fn renew(command: Renew, printer: &Printer) -> Result<(), Failure> {
    let Renew { role, change } = command;
    if role == Role::Targets {
        return edit(&change, printer, |_| Ok(())).await;
    }
    let client = change.reach.open()?;
    let (root, _) = newest(&client).await?;
    let keys = change.keys(KeyPurpose::Root)?;
    let keys: Vec<_> = keys.iter().collect();
    let until = change.until(Role::Root);
    let next = root_file(Some(&root), &RootSpec::read(&root)?, &keys, until)?;
    deliver(&client, &[next], &change.delivery, printer).await
}

impl Change {
    /// When what is signed now expires, unix milliseconds.
    fn until(&self, role: Role) -> i64 {
        now() + self.days.map_or(role.lifetime_ms(), |days| days * DAY_MS)
    }

    fn keys(
        &self,
        purpose: KeyPurpose,
    ) -> Result<Vec<sentinel_trust::repository::RoleKey>, Failure> {
        if !self.key.is_empty() {
            return self.key.iter().map(|file| role_key(file, purpose)).collect();
        }
        let owner = self.reach.owner()?.ok_or_else(|| {
            Failure::new(format!("the {purpose} key of the registry is needed"))
                .hint("name it with --key; `sentinel registry init` said where it was put")
        })?;
        Ok(vec![role_key(&keys::path(&owner, purpose), purpose)?])
    }
}

async fn edit(
    change: &Change,
    printer: &Printer,
    edit: impl FnOnce(&mut Publishers) -> Result<(), PublishersError>,
) -> Result<(), Failure> {
    let client = change.reach.open()?;
    let (root, targets) = newest(&client).await?;
    let mut spec = TargetsSpec::read(&targets)?;
    edit(&mut spec.publishers)?;
    let keys = change.keys(KeyPurpose::Targets)?;
    let keys: Vec<_> = keys.iter().collect();
    let until = change.until(Role::Targets);
    let next = targets_file(&root, Some(&targets), &spec, &keys, until)?;
    deliver(&client, &[next], &change.delivery, printer).await
}

/// The root and targets that are in force, verified.
pub(super) async fn newest(
    client: &RegistryClient,
) -> Result<(MetadataFile, MetadataFile), Failure> {
    client.refresh(Interest::Only(BTreeSet::new()), now()).await?;
    let trusted = client.trusted().await?;
    let file = |role| trusted.files().into_iter().find(|file| file.role() == role).cloned();
    match (file(Role::Root), file(Role::Targets)) {
        (Some(root), Some(targets)) => Ok((root, targets)),
        _ => Err(Failure::new("the registry has no targets metadata yet")),
    }
}

/// Sends what was signed, or writes it where it was asked for.
pub(super) async fn deliver(
    client: &RegistryClient,
    signed: &[MetadataFile],
    delivery: &Delivery,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut shown = Vec::new();
    for file in signed {
        let until = human::moment(file.expires_at());
        let about = format!("{} {} (good until {until})", file.role(), file.version());
        match &delivery.out {
            Some(folder) => {
                let path = folder.join(file.path());
                files::create(&path, file.bytes(), 0o644)?;
                printer.say(&format!("signed {about} into {}", path.display()));
            }
            None => {
                client.offer(file).await?;
                printer.say(&format!("the registry took {about}"));
            }
        }
        shown.push(json!({ "role": file.role(), "version": file.version(), "expires_at": file.expires_at() }));
    }
    printer.data(&shown, |_| String::new())
}
