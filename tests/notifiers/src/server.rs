//! A fake service as a real server on loopback, with all that a socket can do wrong.

use crate::{Call, Reply, Service, Shared};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Most bytes of a head or a body that it reads.
const MAX_BYTES: u64 = 8 << 20;

/// A server on a free port. Connections that nobody answers stay open until it is dropped.
#[derive(Debug)]
pub struct Server<S> {
    /// The service behind it.
    pub service: Shared<S>,
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Service> Server<S> {
    /// Listens.
    ///
    /// # Errors
    /// Where no port is free.
    pub fn start(service: S) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (address, service) = (listener.local_addr()?, Shared::new(service));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopping) = (service.clone(), Arc::clone(&stop));
        let thread = std::thread::spawn(move || serve(&listener, &shared, &stopping));
        Ok(Self { service, address, stop, thread: Some(thread) })
    }

    /// Its origin, `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl<S> Drop for Server<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One request a connection; requests are short and come one after the other.
fn serve<S: Service>(listener: &TcpListener, service: &Shared<S>, stop: &AtomicBool) {
    let mut open = Vec::new();
    for stream in listener.incoming() {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        // Whoever breaks off its own request gets no answer.
        if let Ok(stream) = stream
            && let Ok(Some(stream)) = exchange(stream, service)
        {
            open.push(stream);
        }
    }
}

/// Reads a request and answers it; gives the connection back where it is to stay open.
fn exchange<S: Service>(
    stream: TcpStream,
    service: &Shared<S>,
) -> std::io::Result<Option<TcpStream>> {
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_BYTES));
    let call = read_call(&mut reader)?;
    if call.method.is_empty() {
        // Whoever went before it asked has asked nothing.
        return Ok(None);
    }
    let mut stream = stream;
    match service.look(|one| one.take(&call)) {
        Reply::Closed | Reply::Untrusted => Ok(None),
        Reply::Never => Ok(Some(stream)),
        Reply::Half => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"ok\":")?;
            Ok(Some(stream))
        }
        Reply::Answer { status, headers, body } => {
            let mut head = format!(
                "HTTP/1.1 {status} Answer\r\nconnection: close\r\ncontent-length: {}\r\n",
                body.len()
            );
            for (name, value) in headers {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
            stream.write_all(head.as_bytes())?;
            stream.write_all(b"\r\n")?;
            stream.write_all(&body)?;
            Ok(None)
        }
    }
}

fn read_call(reader: &mut impl BufRead) -> std::io::Result<Call> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ');
    let mut word = || words.next().unwrap_or_default().to_owned();
    let (method, path) = (word(), word());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = Vec::new();
    reader.take(length).read_to_end(&mut body)?;
    Ok(Call { method, path, headers, body })
}
