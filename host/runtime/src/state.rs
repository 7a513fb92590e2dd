//! State that a plugin keeps in memory, handed from one instance of it to another.

use crate::call::{Instance, Setup, work};
use crate::error::Cause;
use crate::slot::cut;

/// Most bytes of such a state (1 MiB).
const MAX_STATE_BYTES: usize = 1 << 20;

/// What a plugin kept in memory, on its way to another instance of it.
#[derive(Clone)]
pub(crate) struct Carried {
    /// The version that gave it.
    pub(crate) version: semver::Version,
    pub(crate) bytes: Vec<u8>,
}

/// Asks an instance for its state.
pub(crate) async fn snapshot(instance: &mut Instance) -> Result<Vec<u8>, Cause> {
    let run = work(|instance| {
        Box::pin(async move {
            let Some(state) = &instance.exports.state else {
                return Ok(Err(Cause::NotCallable("the plugin keeps no state".into())));
            };
            let bytes = state.call_snapshot(&mut instance.store).await?;
            if bytes.len() > MAX_STATE_BYTES {
                let why = format!("its state has {} bytes; at most {MAX_STATE_BYTES}", bytes.len());
                return Ok(Err(Cause::Rejected(why)));
            }
            Ok(Ok(bytes))
        })
    });
    instance.run(Setup::of("snapshot"), run).await.result
}

/// Hands an instance that has its config the state of another.
pub(crate) async fn restore(instance: &mut Instance, carried: Carried) -> Result<(), Cause> {
    let run = work(move |instance| {
        Box::pin(async move {
            let Some(state) = &instance.exports.state else {
                return Ok(Err(Cause::NotCallable("the plugin keeps no state".into())));
            };
            let version = carried.version.to_string();
            let taken = state.call_restore(&mut instance.store, &version, &carried.bytes).await?;
            Ok(taken.map_err(|why| Cause::Rejected(cut(why))))
        })
    });
    instance.run(Setup::of("restore"), run).await.result
}
