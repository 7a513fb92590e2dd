//! The contract's imports over the gates of [`crate::capabilities`]: types are converted and
//! time is kept here, nothing is decided.

mod files;
mod http;
mod mail;
mod series;
mod small;
mod system;

use sentinel_trust::Capabilities;
use wasmtime::component::{HasSelf, Linker};

use crate::bindings::sentinel::plugin as contract;
use crate::host::Host;

pub(crate) use series::Selectors;

/// Links what a plugin may have and nothing else.
pub(crate) fn add_to_linker(
    linker: &mut Linker<Host>,
    capabilities: &Capabilities,
) -> wasmtime::Result<()> {
    type Own = HasSelf<Host>;
    contract::types::add_to_linker::<Host, Own>(linker, |host| host)?;
    contract::log::add_to_linker::<Host, Own>(linker, |host| host)?;
    contract::clock::add_to_linker::<Host, Own>(linker, |host| host)?;
    if capabilities.system() {
        contract::system::add_to_linker::<Host, Own>(linker, |host| host)?;
    }
    if capabilities.http().is_some() {
        contract::http::add_to_linker::<Host, Own>(linker, |host| host)?;
    }
    if capabilities.mail().is_some() {
        contract::mail::add_to_linker::<Host, Own>(linker, |host| host)?;
    }
    if capabilities.files().is_some() {
        contract::files::add_to_linker::<Host, Own>(linker, |host| host)?;
    }
    if capabilities.mac().is_some() {
        contract::mac::add_to_linker::<Host, Own>(linker, |host| host)?;
    }
    if capabilities.kv_bytes().is_some() {
        contract::kv::add_to_linker::<Host, Own>(linker, |host| host)?;
    }
    if capabilities.series() {
        contract::series::add_to_linker::<Host, Own>(linker, |host| host)?;
    }
    Ok(())
}

impl contract::types::Host for Host {}
