//! `log`, `clock`, `mac` and `kv`: all answer at once.

use std::sync::OnceLock;
use std::time::Instant;

use crate::bindings::sentinel::plugin::{clock, kv, log, mac};
use crate::capabilities::kv::{KvError, KvView};
use crate::capabilities::log::{Level, MAX_MESSAGE_BYTES};
use crate::capabilities::mac::MacError;
use crate::host::{Host, Stop};
use crate::slot::now;

impl log::Host for Host {
    async fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        let started = Instant::now();
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        if level == Level::Error {
            let cut = message.floor_char_boundary(MAX_MESSAGE_BYTES);
            self.call.last_error = Some(message[..cut].to_owned());
        }
        // A panic while it describes itself is told too, so this is never refused.
        self.slot.log.lock().write(now(), level, &message);
        self.call.busy += started.elapsed();
        self.call.waited += started.elapsed();
        Ok(())
    }
}

impl clock::Host for Host {
    async fn now(&mut self) -> wasmtime::Result<i64> {
        self.at_once("clock.now", |host| Ok(host.slot.services.now()))
    }

    async fn monotonic(&mut self) -> wasmtime::Result<u64> {
        static START: OnceLock<Instant> = OnceLock::new();
        let start = *START.get_or_init(Instant::now);
        self.at_once("clock.monotonic", |_| Ok(start.elapsed().as_nanos() as u64))
    }
}

impl mac::Host for Host {
    async fn sign(
        &mut self,
        key: String,
        data: Vec<u8>,
    ) -> wasmtime::Result<Result<Vec<u8>, mac::MacError>> {
        self.at_once("mac.sign", |host| {
            let gate = host.gates.mac.as_ref().ok_or_else(|| not_granted("mac"))?;
            match gate.sign(&key, &data) {
                Ok(code) => Ok(Ok(code.to_vec())),
                Err(MacError::Denied) => Ok(Err(mac::MacError::Denied)),
                Err(MacError::NotFound) => Ok(Err(mac::MacError::NotFound)),
                Err(error @ MacError::TooLong(_)) => {
                    Err(Stop::Refused(format!("mac.sign: {error}")).into())
                }
            }
        })
    }
}

impl Host {
    fn view(&mut self) -> Result<&mut KvView, Stop> {
        let refused = "kv has no place in this call; it belongs to `collect` and `notify`";
        self.call.kv.as_mut().ok_or_else(|| Stop::Refused(refused.into()))
    }
}

impl kv::Host for Host {
    async fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        self.at_once("kv.get", |host| Ok(host.view()?.get(&key).map(<[u8]>::to_vec)))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), kv::KvError>> {
        self.at_once("kv.set", |host| {
            Ok(host.view()?.set(&key, value).map_err(|error| match error {
                KvError::TooLarge => kv::KvError::TooLarge,
                KvError::Full => kv::KvError::Full,
            }))
        })
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<()> {
        self.at_once("kv.delete", |host| {
            host.view()?.delete(&key);
            Ok(())
        })
    }

    async fn keys(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        self.at_once("kv.keys", |host| Ok(host.view()?.keys(&prefix)))
    }
}

/// What is not granted is not linked, so this is a mistake of the host.
pub(super) fn not_granted(capability: &str) -> Stop {
    Stop::Refused(format!("{capability} is linked and was not granted"))
}
