//! An HTTP server that answers as a test wants it to: well, wrongly, slowly, or for ever.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod scene;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sentinel_registry_client::{FetchLimits, RegistryClient, RegistryOptions};
use sentinel_trust::repository::Enrolment;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::fixture::registry::Registry;

/// How one address is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// With this body.
    Body(Vec<u8>),
    /// With a length that is more than the body, which then ends.
    Truncated(Vec<u8>, usize),
    /// With bytes without an end and without a length.
    Endless,
    /// With a byte now and then.
    Trickle,
    /// Not at all, the connection staying open.
    Silent,
    /// With a redirect.
    Redirect(String),
    /// With this status and body.
    Status(u16, Vec<u8>),
}

#[derive(Debug, Default)]
struct Answers {
    files: BTreeMap<String, Reply>,
    asked: Vec<String>,
}

/// Listens on loopback until it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) url: String,
    answers: Arc<Mutex<Answers>>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answers = Arc::new(Mutex::new(Answers::default()));
        let shared = Arc::clone(&answers);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&shared)));
            }
        });
        Self { url, answers, task }
    }

    /// Serves what a registry serves, and nothing else.
    pub(crate) fn serve(&self, registry: &Registry) {
        let metadata = registry.files.iter();
        let metadata = metadata.map(|(path, bytes)| (format!("/metadata/{path}"), bytes.clone()));
        let releases =
            registry.indexes.values().flat_map(|index| index.index().releases.iter().cloned());
        let blobs = releases.filter_map(|release| {
            let bytes = registry.blobs.get(&release.digest)?;
            Some((format!("/v2/{}/blobs/{}", release.name, release.digest), bytes.to_vec()))
        });
        let files = metadata.chain(blobs).map(|(path, bytes)| (path, Reply::Body(bytes)));
        self.answers.lock().unwrap().files = files.collect();
    }

    /// Answers one address otherwise.
    pub(crate) fn set(&self, path: &str, reply: Reply) {
        self.answers.lock().unwrap().files.insert(path.to_owned(), reply);
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.answers.lock().unwrap().asked)
    }

    pub(crate) fn options(&self, folder: &std::path::Path) -> RegistryOptions {
        RegistryOptions {
            url: self.url.parse().unwrap(),
            folder: folder.to_owned(),
            ca: None,
            // Short where nothing comes, and longer than a busy machine needs for what does.
            limits: FetchLimits {
                connect_ms: 10_000,
                answer_ms: 5_000,
                window_ms: 2_000,
                window_bytes: 1_000,
                total_ms: 30_000,
            },
        }
    }

    pub(crate) fn client(&self, folder: &std::path::Path, enrolment: &Enrolment) -> RegistryClient {
        RegistryClient::open(self.options(folder), Some(enrolment)).unwrap()
    }
}

async fn answer(mut stream: TcpStream, answers: Arc<Mutex<Answers>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let reply = {
        let mut answers = answers.lock().unwrap();
        answers.asked.push(path.clone());
        answers.files.get(&path).cloned()
    };
    let _ = write(&mut stream, reply).await;
}

async fn write(stream: &mut TcpStream, reply: Option<Reply>) -> std::io::Result<()> {
    let head = |status: &str, more: &str| {
        format!("HTTP/1.1 {status} X\r\nconnection: close\r\n{more}\r\n").into_bytes()
    };
    match reply {
        None => stream.write_all(&head("404", "content-length: 0\r\n")).await,
        Some(Reply::Body(body)) => {
            stream.write_all(&head("200", &format!("content-length: {}\r\n", body.len()))).await?;
            stream.write_all(&body).await
        }
        Some(Reply::Truncated(body, length)) => {
            stream.write_all(&head("200", &format!("content-length: {length}\r\n"))).await?;
            stream.write_all(&body).await
        }
        Some(Reply::Endless) => {
            stream.write_all(&head("200", "")).await?;
            loop {
                stream.write_all(&[b' '; 4096]).await?;
            }
        }
        Some(Reply::Trickle) => {
            stream.write_all(&head("200", "content-length: 100000\r\n")).await?;
            loop {
                stream.write_all(b" ").await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Some(Reply::Silent) => std::future::pending().await,
        Some(Reply::Redirect(to)) => {
            stream
                .write_all(&head("302", &format!("location: {to}\r\ncontent-length: 0\r\n")))
                .await
        }
        Some(Reply::Status(status, body)) => {
            let length = format!("content-length: {}\r\n", body.len());
            stream.write_all(&head(&status.to_string(), &length)).await?;
            stream.write_all(&body).await
        }
    }
}
