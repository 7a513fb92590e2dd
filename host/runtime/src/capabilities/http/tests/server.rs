//! A server that answers as a test says, byte by byte.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is done with one request, in order; the connection is closed afterwards.
pub(super) enum Act {
    Send(Vec<u8>),
    Do(Box<dyn FnOnce() + Send>),
    /// Until as many requests as the barrier asks for are there.
    Meet(Arc<tokio::sync::Barrier>),
    /// Until the client gives up.
    Wait,
}

/// Listens on a free port of loopback and remembers every request.
pub(super) struct Server {
    pub(super) origin: String,
    seen: Arc<Mutex<Vec<String>>>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(super) async fn acting(answer: impl Fn(&str) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let answer = Arc::new(answer);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                tokio::spawn(async move {
                    let _ = serve(stream, &kept, &*answer).await;
                });
            }
        });
        Self { origin, seen, accepting }
    }

    /// Answers every request alike.
    pub(super) async fn answering(answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::acting(move |request| vec![Act::Send(answer(request).into_bytes())]).await
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.origin)
    }

    /// Heads and bodies of the requests so far.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().clone()
    }

    pub(super) fn port(&self) -> &str {
        self.origin.rsplit(':').next().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<String>>,
    answer: &(impl Fn(&str) -> Vec<Act> + Send + Sync),
) -> std::io::Result<()> {
    let mut text = Vec::new();
    let whole = loop {
        let read = stream.read_buf(&mut text).await?;
        let request = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = request.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                break request;
            }
        }
        if read == 0 {
            return Ok(());
        }
    };
    seen.lock().push(whole.clone());
    for act in answer(&whole) {
        match act {
            Act::Send(bytes) => stream.write_all(&bytes).await?,
            Act::Do(action) => action(),
            Act::Meet(barrier) => {
                barrier.wait().await;
            }
            Act::Wait => {
                let mut rest = [0; 16];
                while stream.read(&mut rest).await? > 0 {}
            }
        }
    }
    stream.shutdown().await
}

/// A whole response with a body.
pub(super) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

/// A redirect.
pub(super) fn moved(status: u16, location: &str) -> String {
    format!(
        "HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 5\r\nconnection: close\r\n\r\nmoved"
    )
}
