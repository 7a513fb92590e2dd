//! A TCP proxy that a test can turn against what goes through it.
//!
//! It passes bytes of TCP and Unix sockets on. What it does to them is a [`Rule`], which holds for
//! all connections at once and can be changed at any time. TCP promises that no byte in the middle
//! is missing: so what is swallowed is followed by the end of its connection, at the latest when
//! the rule changes.

use anyhow::Result;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// How many bytes go through at a time.
const PIECE: usize = 16 << 10;

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Everything passes.
    Pass,
    /// Each piece waits for so long at the most, by lot.
    Delay(Duration),
    /// Nothing passes in either direction; it comes when the rule changes, as after a route was
    /// lost for a while.
    Hold,
    /// What is said to the server passes, what it answers is swallowed: who is there does not
    /// know it. Connections on which something was swallowed end when the rule changes.
    HalfOpen,
    /// Connections are ended, and new ones at once.
    Cut,
}

/// Where a proxy listens, and where it connects to.
#[derive(Debug, Clone)]
pub enum Place {
    /// A port on 127.0.0.1.
    Port(u16),
    /// A Unix socket.
    Socket(PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn connect(place: &Place) -> io::Result<Self> {
        Ok(match place {
            Place::Port(port) => {
                let stream = TcpStream::connect(("127.0.0.1", *port))?;
                stream.set_nodelay(true)?;
                Self::Tcp(stream)
            }
            Place::Socket(path) => Self::Unix(UnixStream::connect(path)?),
        })
    }

    fn another(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
        })
    }

    fn end(&self) {
        // One that is gone already needs no end.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(into),
            Self::Unix(stream) => stream.read(into),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pair {
    number: u64,
    client: Stream,
    server: Stream,
    swallowed: bool,
}

impl Pair {
    fn end(&self) {
        self.client.end();
        self.server.end();
    }
}

struct State {
    rule: Rule,
    closed: bool,
    next: u64,
    lot: StdRng,
    pairs: Vec<Pair>,
    to: Place,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A proxy. It ends, with all its connections, when it is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    at: Place,
}

impl Proxy {
    /// Listens on a port that nobody has, and connects to `to`.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub fn on_port(to: Place, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let at = Place::Port(listener.local_addr()?.port());
        Ok(Self::begin(at, to, seed, move || {
            let (stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            Ok(Stream::Tcp(stream))
        }))
    }

    /// Listens on a Unix socket.
    ///
    /// # Errors
    /// Where it cannot listen.
    pub fn on_socket(at: &Path, to: Place, seed: u64) -> Result<Self> {
        let listener = UnixListener::bind(at)?;
        let accept = move || Ok(Stream::Unix(listener.accept()?.0));
        Ok(Self::begin(Place::Socket(at.to_owned()), to, seed, accept))
    }

    fn begin(
        at: Place,
        to: Place,
        seed: u64,
        accept: impl Fn() -> io::Result<Stream> + Send + 'static,
    ) -> Self {
        let state = State {
            rule: Rule::Pass,
            closed: false,
            next: 0,
            lot: StdRng::seed_from_u64(seed),
            pairs: Vec::new(),
            to,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let listening = Arc::clone(&shared);
        thread::spawn(move || {
            loop {
                let accepted = accept();
                if listening.state().closed {
                    return;
                }
                // One that could not be accepted was its client's to try again.
                if let Ok(client) = accepted {
                    let shared = Arc::clone(&listening);
                    thread::spawn(move || join(&shared, client));
                }
            }
        });
        Self { shared, at }
    }

    /// Where it listens.
    #[must_use]
    pub fn at(&self) -> &Place {
        &self.at
    }

    /// The port on which it listens; 0 where it has a socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        if let Place::Port(port) = self.at { port } else { 0 }
    }

    /// From now on.
    pub fn set(&self, rule: Rule) {
        let mut state = self.shared.state();
        state.rule = rule;
        state.pairs.retain(|pair| {
            let ends = rule == Rule::Cut || (pair.swallowed && rule != Rule::HalfOpen);
            if ends {
                pair.end();
            }
            !ends
        });
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Who connects from now on comes to somebody else.
    pub fn lead_to(&self, to: Place) {
        self.shared.state().to = to;
    }

    /// How many connections went through it so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.state().next
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Rule::Cut);
        self.shared.state().closed = true;
        // Wakes the thread that accepts.
        let _ = Stream::connect(&self.at);
    }
}

/// Connects a client with the server, and passes bytes until one of them ends.
fn join(shared: &Arc<Shared>, client: Stream) {
    let joined = || -> io::Result<(u64, [Stream; 2], [Stream; 2])> {
        // Whoever comes while nothing passes is not refused: it hears nothing.
        let state = shared.state();
        let held = shared.changed.wait_while(state, |state| state.rule == Rule::Hold);
        let to = held.unwrap_or_else(|poisoned| poisoned.into_inner()).to.clone();
        let server = Stream::connect(&to)?;
        let ways = ([client.another()?, server.another()?], [server.another()?, client.another()?]);
        let mut state = shared.state();
        if state.rule == Rule::Cut || state.closed {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        state.next += 1;
        let number = state.next;
        let client = client.another()?;
        state.pairs.push(Pair { number, client, server, swallowed: false });
        Ok((number, ways.0, ways.1))
    };
    let Ok((number, [from, to], [back_from, back_to])) = joined() else {
        client.end();
        return;
    };
    let other = Arc::clone(shared);
    let back = thread::spawn(move || pass(&other, number, back_from, back_to, true));
    pass(shared, number, from, to, false);
    let _ = back.join();
    shared.state().pairs.retain(|pair| pair.number != number);
}

/// Passes bytes one way; the end of one way is the end of both.
fn pass(shared: &Shared, number: u64, mut from: Stream, mut to: Stream, back: bool) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        let mut state = shared.state();
        while state.rule == Rule::Hold {
            state = shared.changed.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        let rule = state.rule;
        if rule == Rule::HalfOpen && back {
            let pairs = &mut state.pairs;
            if let Some(pair) = pairs.iter_mut().find(|pair| pair.number == number) {
                pair.swallowed = true;
            }
            continue;
        }
        let wait = match rule {
            Rule::Delay(most) => most.mul_f64(state.lot.random_range(0.0..1.0)),
            _ => Duration::ZERO,
        };
        drop(state);
        thread::sleep(wait);
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    from.end();
    to.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with the next one, and a connection to it by a proxy.
    fn beside() -> Result<(Proxy, u16)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(io::Result::ok) {
                thread::spawn(move || {
                    let mut stream = stream;
                    let mut byte = [0];
                    while let Ok(1) = stream.read(&mut byte) {
                        if stream.write_all(&[byte[0] + 1]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let proxy = Proxy::on_port(Place::Port(port), 1)?;
        let port = proxy.port();
        Ok((proxy, port))
    }

    fn ask(stream: &mut TcpStream, byte: u8) -> io::Result<u8> {
        stream.write_all(&[byte])?;
        answer(stream)
    }

    fn answer(stream: &mut TcpStream) -> io::Result<u8> {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte[0])
    }

    fn connect(port: u16, wait: u64) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_millis(wait)))?;
        Ok(stream)
    }

    #[test]
    fn bytes_pass_are_delayed_and_what_is_held_comes_later() -> Result<()> {
        let (proxy, port) = beside()?;
        let mut stream = connect(port, 30_000)?;
        assert_eq!(ask(&mut stream, 1)?, 2);
        proxy.set(Rule::Delay(Duration::from_millis(20)));
        assert_eq!(ask(&mut stream, 3)?, 4);
        proxy.set(Rule::Hold);
        stream.set_read_timeout(Some(Duration::from_millis(200)))?;
        assert!(ask(&mut stream, 5).is_err());
        proxy.set(Rule::Pass);
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        assert_eq!(answer(&mut stream)?, 6);
        Ok(())
    }

    #[test]
    fn what_is_cut_ends_and_new_connections_do_too() -> Result<()> {
        let (proxy, port) = beside()?;
        let mut stream = connect(port, 30_000)?;
        assert_eq!(ask(&mut stream, 1)?, 2);
        proxy.set(Rule::Cut);
        assert!(ask(&mut stream, 3).is_err());
        assert!(connect(port, 30_000).and_then(|mut stream| ask(&mut stream, 5)).is_err());
        proxy.set(Rule::Pass);
        assert_eq!(ask(&mut connect(port, 30_000)?, 5)?, 6);
        Ok(())
    }

    #[test]
    fn a_half_open_connection_hears_nothing_and_ends_with_the_rule() -> Result<()> {
        let (proxy, port) = beside()?;
        let mut stream = connect(port, 200)?;
        proxy.set(Rule::HalfOpen);
        let silent = ask(&mut stream, 1).unwrap_err().kind();
        assert!(matches!(silent, io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut), "{silent}");
        // The answer may be under way still: it is to be swallowed, not to pass later.
        while !proxy.shared.state().pairs.iter().any(|pair| pair.swallowed) {
            thread::sleep(Duration::from_millis(5));
        }
        proxy.set(Rule::Pass);
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        assert!(ask(&mut stream, 3).is_err());
        Ok(())
    }
}
