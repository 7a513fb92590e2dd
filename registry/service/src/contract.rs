//! Whether a component is what its kind's world says, type by type.
//!
//! `sentinel_trust` compares names; here the signatures behind the names are compared too, so
//! that a plugin that no host could link is refused when it is pushed.

use sentinel_trust::{ComponentShape, Kind};
use wasmparser::{Validator, WasmFeatures};
use wit_parser::{Resolve, UnresolvedPackageGroup};

/// The files of the contract, as `wit/` has them.
const FILES: [(&str, &str); 3] = [
    ("host.wit", include_str!("../../../wit/sentinel-plugin-0.1.0/host.wit")),
    ("types.wit", include_str!("../../../wit/sentinel-plugin-0.1.0/types.wit")),
    ("worlds.wit", include_str!("../../../wit/sentinel-plugin-0.1.0/worlds.wit")),
];

/// Everything of the contract in one text: packages of several files are read as one.
fn contract() -> Result<(Resolve, wit_parser::PackageId), String> {
    let mut sources = wit_parser::SourceMap::new();
    for (name, text) in FILES {
        sources.push_str(name, text);
    }
    let group: UnresolvedPackageGroup = sources.parse().map_err(|(_, error)| error.to_string())?;
    let mut resolve = Resolve::default();
    let package = resolve.push_group(group).map_err(|error| format!("{error:#}"))?;
    Ok((resolve, package))
}

/// Checks that `bytes` are a valid component and, where it imports nothing but the contract,
/// that every import and export has the types of the kind's world. A component that brings
/// WASI along is not of that world by name; its own interfaces are then checked by name alone.
///
/// # Errors
/// What is wrong, in words.
pub(crate) fn check(bytes: &[u8], shape: &ComponentShape, kind: Kind) -> Result<(), String> {
    Validator::new_with_features(WasmFeatures::default())
        .validate_all(bytes)
        .map_err(|error| format!("it is not a valid component: {error}"))?;
    if shape.imports().iter().any(|import| import.name.starts_with("wasi:")) {
        return Ok(());
    }
    let (resolve, package) = contract()?;
    let world = resolve
        .select_world(&[package], Some(kind.as_str()))
        .map_err(|error| format!("{error:#}"))?;
    wit_component::targets(&resolve, world, bytes)
        .map_err(|error| format!("it is not of the world `{kind}`: {error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_has_a_world_for_every_kind() {
        let (resolve, package) = contract().unwrap();
        for kind in Kind::ALL {
            assert!(resolve.select_world(&[package], Some(kind.as_str())).is_ok(), "{kind}");
        }
    }
}
