//! A host made of values, for unit tests of a plugin's logic: plain `cargo test`, no component.
//!
//! ```
//! use sentinel_sdk::{files, http, testing::Host};
//!
//! let host = Host::new()
//!     .file("/proc/loadavg", "0.5 0.4 0.3 1/100 4242\n")
//!     .answer("http://127.0.0.1/status", 200, "ok")
//!     .install();
//! assert_eq!(files::read("/proc/loadavg", 64).unwrap().len(), 23);
//! assert_eq!(http::send(&http::Request::get("http://127.0.0.1/status")).unwrap().status, 200);
//! assert_eq!(host.requests().len(), 1);
//! ```
//!
//! The host belongs to the thread that installed it, until the guard is dropped. Where none is
//! installed, an empty one answers: nothing is granted, the time is 0.

mod aggregates;
mod estimates;
mod series;
mod system;

use std::cell::RefCell;
use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::files::{Entry, EntryKind, FileError};
use crate::http::{HttpError, Request, Response};
use crate::kv::KvError;
use crate::log::Level;
use crate::mac::MacError;
use crate::mail::{MailError, Message, Receipt};

pub use series::Series;
pub use system::System;

/// Longest key of `kv`, in bytes.
const MAX_KV_KEY: usize = 128;
/// Longest value of `kv`, in bytes.
const MAX_KV_VALUE: usize = 64 * 1024;
/// Keys that `kv::keys` returns at most.
const MAX_KV_KEYS: usize = 1_000;

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::new());
}

pub(crate) fn with_host<R>(work: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(work)
}

type HttpServer = Box<dyn FnMut(&Request) -> Result<Response, HttpError>>;

type MailRelay = Box<dyn FnMut(&Message) -> Result<Receipt, MailError>>;

/// What the doubles of the host's functions answer.
pub struct Host {
    now: i64,
    monotonic: u64,
    files: BTreeMap<String, Result<Vec<u8>, FileError>>,
    answers: BTreeMap<String, Result<Response, HttpError>>,
    server: Option<HttpServer>,
    relay: Option<MailRelay>,
    mails: Vec<Message>,
    keys: BTreeMap<String, Vec<u8>>,
    kv_limit: usize,
    requests: Vec<Request>,
    logs: Vec<(Level, String)>,
    pub(crate) kv: BTreeMap<String, Vec<u8>>,
    pub(crate) system: System,
    pub(crate) series: Series,
}

impl Default for Host {
    fn default() -> Self {
        Self::new()
    }
}

impl Host {
    /// A host that grants nothing, at time 0.
    pub fn new() -> Self {
        Self {
            now: 0,
            monotonic: 0,
            files: BTreeMap::new(),
            answers: BTreeMap::new(),
            server: None,
            relay: None,
            mails: Vec::new(),
            keys: BTreeMap::new(),
            kv_limit: 1024 * 1024,
            requests: Vec::new(),
            logs: Vec::new(),
            kv: BTreeMap::new(),
            system: System::default(),
            series: Series::default(),
        }
    }

    /// The time that `clock::now` says (unix milliseconds), and as of which `series` answers.
    #[must_use]
    pub fn at(mut self, now: i64) -> Self {
        self.set_time(now);
        self
    }

    /// A file that may be read.
    #[must_use]
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files.insert(path.to_owned(), Ok(content.as_ref().to_vec()));
        self
    }

    /// A file whose reading fails.
    #[must_use]
    pub fn file_error(mut self, path: &str, error: FileError) -> Self {
        self.files.insert(path.to_owned(), Err(error));
        self
    }

    /// A URL that answers every method with a status and a body.
    #[must_use]
    pub fn answer(self, url: &str, status: u16, body: impl AsRef<[u8]>) -> Self {
        self.response(url, Response { status, headers: Vec::new(), body: body.as_ref().to_vec() })
    }

    /// A URL that answers every method with this response.
    #[must_use]
    pub fn response(mut self, url: &str, response: Response) -> Self {
        self.answers.insert(url.to_owned(), Ok(response));
        self
    }

    /// A URL that fails.
    #[must_use]
    pub fn http_error(mut self, url: &str, error: HttpError) -> Self {
        self.answers.insert(url.to_owned(), Err(error));
        self
    }

    /// A function that answers requests to URLs without an answer of their own.
    #[must_use]
    pub fn server(
        mut self,
        server: impl FnMut(&Request) -> Result<Response, HttpError> + 'static,
    ) -> Self {
        self.server = Some(Box::new(server));
        self
    }

    /// A relay that takes every message; the `Message-ID` is its idempotency key.
    #[must_use]
    pub fn takes_mail(self) -> Self {
        self.relay(|message| {
            let message_id = format!("{}@test", message.idempotency_key);
            Ok(Receipt { message_id, text: "taken".to_owned(), refused: Vec::new() })
        })
    }

    /// A function that answers messages.
    #[must_use]
    pub fn relay(
        mut self,
        relay: impl FnMut(&Message) -> Result<Receipt, MailError> + 'static,
    ) -> Self {
        self.relay = Some(Box::new(relay));
        self
    }

    /// A key with which `mac::sign` may sign.
    #[must_use]
    pub fn key(mut self, name: &str, key: impl AsRef<[u8]>) -> Self {
        self.keys.insert(name.to_owned(), key.as_ref().to_vec());
        self
    }

    /// State from an earlier run.
    #[must_use]
    pub fn kv(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.kv.insert(key.to_owned(), value.as_ref().to_vec());
        self
    }

    /// The bytes of keys and values that `kv` takes; 1 MiB unless said.
    #[must_use]
    pub fn kv_limit(mut self, bytes: usize) -> Self {
        self.kv_limit = bytes;
        self
    }

    /// What the machine reads like.
    #[must_use]
    pub fn system(mut self, system: System) -> Self {
        self.system = system;
        self
    }

    /// A stored series: name, labels, samples as (unix milliseconds, value), oldest first.
    #[must_use]
    pub fn series(mut self, name: &str, labels: &[(&str, &str)], samples: &[(i64, f64)]) -> Self {
        self.series.add(name, labels, samples);
        self
    }

    /// Makes this the thread's host until the guard is dropped.
    pub fn install(self) -> Installed {
        HOST.set(self);
        Installed(())
    }

    fn set_time(&mut self, now: i64) {
        self.now = now;
        self.series.at = now;
    }

    pub(crate) fn now(&self) -> i64 {
        self.now
    }

    /// One nanosecond more at each call.
    pub(crate) fn monotonic(&mut self) -> u64 {
        self.monotonic += 1;
        self.monotonic
    }

    pub(crate) fn write_log(&mut self, level: Level, message: String) {
        self.logs.push((level, message));
    }

    pub(crate) fn send(&mut self, request: &Request) -> Result<Response, HttpError> {
        self.requests.push(request.clone());
        if let Some(answer) = self.answers.get(&request.url) {
            return answer.clone();
        }
        match &mut self.server {
            Some(server) => server(request),
            None => Err(HttpError::Denied("not in the allow-list".to_owned())),
        }
    }

    pub(crate) fn send_mail(&mut self, message: &Message) -> Result<Receipt, MailError> {
        self.mails.push(message.clone());
        match &mut self.relay {
            Some(relay) => relay(message),
            None => Err(MailError::Denied("no mail is granted".to_owned())),
        }
    }

    pub(crate) fn read_file(&self, path: &str, max_bytes: u32) -> Result<Vec<u8>, FileError> {
        let content = self.files.get(path).cloned().unwrap_or(Err(FileError::NotFound))?;
        if content.len() > max_bytes as usize {
            return Err(FileError::TooLarge(content.len() as u64));
        }
        Ok(content)
    }

    pub(crate) fn read_file_at(
        &self,
        path: &str,
        offset: u64,
        max_bytes: u32,
    ) -> Result<Vec<u8>, FileError> {
        let content = self.files.get(path).cloned().unwrap_or(Err(FileError::NotFound))?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let end = start.saturating_add(max_bytes as usize).min(content.len());
        Ok(content[start..end].to_vec())
    }

    pub(crate) fn list_directory(&self, path: &str) -> Result<Vec<Entry>, FileError> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let mut entries: Vec<Entry> = self
            .files
            .keys()
            .filter_map(|file| file.strip_prefix(&prefix))
            .map(|below| match below.split_once('/') {
                Some((directory, _)) => (directory, EntryKind::Directory),
                None => (below, EntryKind::File),
            })
            .map(|(name, kind)| Entry { name: name.to_owned(), kind })
            .collect();
        entries.dedup();
        if entries.is_empty() {
            return Err(FileError::NotFound);
        }
        Ok(entries)
    }

    pub(crate) fn sign(&self, key: &str, data: &[u8]) -> Result<Vec<u8>, MacError> {
        let key = self.keys.get(key).ok_or(MacError::Denied)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of every length");
        mac.update(data);
        Ok(mac.finalize().into_bytes().to_vec())
    }

    pub(crate) fn set_kv(&mut self, key: &str, value: &[u8]) -> Result<(), KvError> {
        if key.len() > MAX_KV_KEY || value.len() > MAX_KV_VALUE {
            return Err(KvError::TooLarge);
        }
        let others: usize = self
            .kv
            .iter()
            .filter(|(other, _)| *other != key)
            .map(|(key, value)| key.len() + value.len())
            .sum();
        if others + key.len() + value.len() > self.kv_limit {
            return Err(KvError::Full);
        }
        self.kv.insert(key.to_owned(), value.to_vec());
        Ok(())
    }

    pub(crate) fn kv_keys(&self, prefix: &str) -> Vec<String> {
        self.kv.keys().filter(|key| key.starts_with(prefix)).take(MAX_KV_KEYS).cloned().collect()
    }
}

/// The thread's host while a test runs; the empty host comes back when it is dropped.
#[derive(Debug)]
#[must_use = "the host is gone when this is dropped"]
pub struct Installed(());

impl Installed {
    /// Sets the time (unix milliseconds).
    pub fn set_time(&self, now: i64) {
        with_host(|host| host.set_time(now));
    }

    /// Changes the machine's readings.
    pub fn change_system(&self, change: impl FnOnce(&mut System)) {
        with_host(|host| change(&mut host.system));
    }

    /// What was written to the log so far.
    pub fn logs(&self) -> Vec<(Level, String)> {
        with_host(|host| host.logs.clone())
    }

    /// Requests sent so far, secrets not filled in.
    pub fn requests(&self) -> Vec<Request> {
        with_host(|host| host.requests.clone())
    }

    /// Messages handed over so far.
    pub fn mails(&self) -> Vec<Message> {
        with_host(|host| host.mails.clone())
    }

    /// Calls a plugin as the host does: what it writes to `kv` counts only if the call succeeds.
    pub fn call<T, E>(&self, call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let before = with_host(|host| host.kv.clone());
        let result = call();
        if result.is_err() {
            with_host(|host| host.kv = before);
        }
        result
    }

    /// A value of `kv`.
    pub fn kv(&self, key: &str) -> Option<Vec<u8>> {
        with_host(|host| host.kv.get(key).cloned())
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        HOST.set(Host::new());
    }
}

#[cfg(test)]
mod tests;
