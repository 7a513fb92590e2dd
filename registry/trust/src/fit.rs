//! Whether a component is what its manifest says: contract, kind, imports.

use std::collections::BTreeSet;

use crate::capability::{
    CONTRACT, CONTRACT_PACKAGE, Kind, Need, contract_interface, need_of_import,
};
use crate::component::{ComponentShape, Extern, ExternKind};
use crate::error::{ExcessImport, TrustError};
use crate::manifest::Manifest;
use crate::text::excerpt;

/// Checks one thing of a component against its manifest.
type Check = fn(&Manifest, &ComponentShape) -> Result<(), TrustError>;

/// In the order in which they are checked: another contract explains every later mismatch.
const CHECKS: [Check; 3] = [contract, kind, imports];

/// The first reason for which the component does not fit its manifest.
pub(crate) fn check(manifest: &Manifest, shape: &ComponentShape) -> Result<(), TrustError> {
    CHECKS.iter().try_for_each(|check| check(manifest, shape))
}

/// Every reason.
pub(crate) fn problems(manifest: &Manifest, shape: &ComponentShape) -> Vec<TrustError> {
    CHECKS.iter().filter_map(|check| check(manifest, shape).err()).collect()
}

fn contract(manifest: &Manifest, shape: &ComponentShape) -> Result<(), TrustError> {
    let mut found = BTreeSet::new();
    if manifest.contract != CONTRACT {
        found.insert(manifest.contract.to_string());
    }
    for one in shape.imports().iter().chain(shape.exports()) {
        if need_of_import(&one.name) == Need::OtherContract
            && let Some((_, version)) = one.name.split_once('@')
        {
            found.insert(excerpt(version));
        }
    }
    if found.is_empty() {
        return Ok(());
    }
    Err(TrustError::WrongContract {
        release: Box::new(manifest.release()),
        found: found.into_iter().collect(),
    })
}

fn kind(manifest: &Manifest, shape: &ComponentShape) -> Result<(), TrustError> {
    let exports = |interface: &str| {
        let name = contract_interface(interface);
        shape
            .exports()
            .iter()
            .any(|export| export.name == name && export.kind == ExternKind::Instance)
    };
    let mut problems = Vec::new();
    for interface in ["plugin", manifest.kind.interface()] {
        if !exports(interface) {
            problems.push(format!(
                "it does not export `{}`: build it for the world `{CONTRACT_PACKAGE}/{}@{CONTRACT}`",
                contract_interface(interface),
                manifest.kind
            ));
        }
    }
    for other in Kind::ALL {
        if other != manifest.kind && exports(other.interface()) {
            problems.push(format!(
                "it exports `{}`, which makes a {other}: correct `kind`, or make two plugins of it",
                contract_interface(other.interface())
            ));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(TrustError::KindMismatch {
        release: Box::new(manifest.release()),
        kind: manifest.kind,
        problems,
    })
}

fn imports(manifest: &Manifest, shape: &ComponentShape) -> Result<(), TrustError> {
    let excess: Vec<_> =
        shape.imports().iter().filter_map(|import| excess(manifest, import)).collect();
    if excess.is_empty() {
        return Ok(());
    }
    Err(TrustError::AsksTooMuch { release: Box::new(manifest.release()), excess })
}

fn excess(manifest: &Manifest, import: &Extern) -> Option<ExcessImport> {
    let need = match import.kind {
        // An alias of a type gives nothing to do.
        ExternKind::Type => Need::Nothing,
        ExternKind::Instance => need_of_import(&import.name),
        ExternKind::Other => Need::Unknown,
    };
    let capability = match need {
        Need::Nothing => return None,
        Need::Capability(capability) if manifest.requests.asks_for(capability) => return None,
        Need::Capability(capability) => Some(capability),
        Need::OtherContract | Need::Unknown => None,
    };
    Some(ExcessImport { import: excerpt(&import.name), capability })
}
