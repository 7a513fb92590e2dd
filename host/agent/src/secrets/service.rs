//! The secret service of the desktop (`org.freedesktop.secrets` on the session bus), as far as
//! one key needs it.
//!
//! Asked on a thread of its own, within [`LIMIT`]: a service that hangs, or waits for a person,
//! holds nothing up, and nothing of it stays in memory. It is never asked to unlock anything,
//! since that shows a window.

use secret_service::{EncryptionType, Error, SecretService};
use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long the service may take for one key.
pub(super) const LIMIT: Duration = Duration::from_secs(2);
const CONTENT: &str = "text/plain";

/// The address of the user's session bus, if there is one.
pub(super) fn session_bus() -> Option<String> {
    if let Some(address) = std::env::var_os("DBUS_SESSION_BUS_ADDRESS") {
        return address.into_string().ok().filter(|address| !address.is_empty());
    }
    let socket = Path::new(&std::env::var_os("XDG_RUNTIME_DIR")?).join("bus");
    socket.exists().then(|| format!("unix:path={}", socket.display()))
}

/// The text that was put under an id.
pub(super) fn get(bus: &str, id: &str) -> Result<Zeroizing<String>, String> {
    let id = id.to_owned();
    ask(bus, async move |service| {
        let found = service.search_items(attributes(&id)).await?;
        match (found.unlocked.first(), found.locked.is_empty()) {
            (Some(item), _) => Ok(Some(Zeroizing::new(item.get_secret().await?))),
            (None, false) => Err(Error::Locked),
            (None, true) => Ok(None),
        }
    })?
    .ok_or_else(|| "it does not have the key".to_owned())
    .and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).map_err(|_| "it has another key".to_owned())?;
        Ok(Zeroizing::new(text.to_owned()))
    })
}

/// Puts a text under an id, into the collection that is the user's default.
pub(super) fn put(bus: &str, id: &str, label: &str, text: &str) -> Result<(), String> {
    let (id, label) = (id.to_owned(), label.to_owned());
    let text = Zeroizing::new(text.to_owned());
    ask(bus, async move |service| {
        let collection = service.get_default_collection().await?;
        if collection.is_locked().await? {
            return Err(Error::Locked);
        }
        let put = collection.create_item(&label, attributes(&id), text.as_bytes(), true, CONTENT);
        put.await.map(drop)
    })
}

fn attributes(id: &str) -> HashMap<&str, &str> {
    HashMap::from([("application", "sentinel"), ("store", id)])
}

/// Asks on a thread of its own.
fn ask<T: Send + 'static>(
    bus: &str,
    work: impl AsyncFnOnce(&SecretService<'_>) -> Result<T, Error> + Send + 'static,
) -> Result<T, String> {
    let bus = bus.to_owned();
    let (answer, answered) = mpsc::sync_channel(1);
    let thread = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let outcome = match runtime {
            Ok(runtime) => {
                let outcome = runtime.block_on(async {
                    let asked = async { work(&connect(&bus).await?).await };
                    tokio::time::timeout(LIMIT, asked).await
                });
                // Whatever is still under way is left behind.
                runtime.shutdown_background();
                outcome.map_err(|_| silent()).and_then(|done| done.map_err(|e| said(&e)))
            }
            Err(error) => Err(error.to_string()),
        };
        let _ = answer.send(outcome);
    };
    let spawned = std::thread::Builder::new().name("secret-service".to_owned()).spawn(thread);
    spawned.map_err(|error| error.to_string())?;
    // A little longer than the thread allows itself; it may be stuck where nothing is awaited.
    answered.recv_timeout(LIMIT + LIMIT / 4).unwrap_or_else(|_| Err(silent()))
}

async fn connect(bus: &str) -> Result<SecretService<'static>, Error> {
    let connection = zbus::connection::Builder::address(bus)?.build().await?;
    SecretService::connect_with_existing(EncryptionType::Dh, connection).await
}

fn silent() -> String {
    format!("it did not answer within {} seconds", LIMIT.as_secs())
}

/// In words; never what was sent.
fn said(error: &Error) -> String {
    match error {
        Error::Locked => "its keyring is locked; log in, or unlock it".to_owned(),
        Error::NoResult => "it has no default keyring".to_owned(),
        Error::Unavailable => "there is none on the session bus".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    #[test]
    fn a_bus_that_is_not_there_or_does_not_answer_costs_a_moment() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let address = format!("unix:path={}", path.display());
        assert!(get(&address, "x").is_err());
        assert!(get("nonsense", "x").is_err());
        // Connections wait in the backlog for ever.
        let _silent = UnixListener::bind(&path).unwrap();
        let began = Instant::now();
        assert_eq!(get(&address, "x").unwrap_err(), silent());
        assert!(began.elapsed() < 3 * LIMIT, "{:?}", began.elapsed());
        assert_eq!(put(&address, "x", "label", "text").unwrap_err(), silent());
    }
}
