//! How many connections there are, from each address and in all, and what somebody is told for whom there is no
//! place: at once, in the words of what they speak, rather than a silence that looks like a server that is gone.
//!
//! | service | without TLS | with TLS |
//! |---|---|---|
//! | REST | `503` of HTTP/1.1 | the alert `access_denied`, before any handshake |
//! | gRPC | `GOAWAY` with `ENHANCE_YOUR_CALM` | the same alert |

use crate::rate::asker;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Most refusals that are being told at once; whoever comes beyond is cut off.
const MAX_TOLD: usize = 64;
/// The longest that telling one may take.
const TELLING: Duration = Duration::from_secs(2);
/// Most bytes that are read of somebody who is refused: what they sent before they heard of it.
const MAX_UNHEARD: u64 = 64 << 10;

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Rest,
    Grpc,
}

impl Service {
    /// As metrics name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Grpc => "grpc",
        }
    }
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// The address has as many as one may have.
    Address,
    /// All places are taken.
    All,
}

impl Full {
    /// As metrics name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::All => "all",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Address => "too many connections from this address",
            Self::All => "the server has as many connections as it takes",
        }
    }
}

/// The connections of one service.
pub(crate) struct Crowd {
    most: u32,
    most_of_one: u32,
    inside: Mutex<Inside>,
    telling: Arc<Semaphore>,
}

#[derive(Default)]
struct Inside {
    all: u32,
    /// As many keys as connections at most.
    of: HashMap<IpAddr, u32>,
}

/// One connection's place; dropped, it is free again.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    of: IpAddr,
}

impl Crowd {
    pub(crate) fn new(most: u32, most_of_one: u32) -> Arc<Self> {
        let telling = Arc::new(Semaphore::new(MAX_TOLD));
        Arc::new(Self { most, most_of_one, inside: Mutex::default(), telling })
    }

    /// A place for a connection from an address.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let of = asker(address);
        let mut inside = self.inside.lock();
        if inside.of.get(&of).is_some_and(|there| *there >= self.most_of_one) {
            return Err(Full::Address);
        }
        if inside.all >= self.most {
            return Err(Full::All);
        }
        inside.all += 1;
        *inside.of.entry(of).or_insert(0) += 1;
        Ok(Place { crowd: Arc::clone(self), of })
    }

    /// Tells somebody, unless too many are being told.
    pub(crate) fn tell(
        &self,
        mut stream: TcpStream,
        said: Vec<u8>,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let telling = Arc::clone(&self.telling).try_acquire_owned().ok()?;
        Some(async move {
            let told = async {
                stream.write_all(&said).await?;
                stream.shutdown().await?;
                // Closed with something unread, it would be taken back on the way.
                let (mut unheard, _) = stream.split();
                let mut unheard = (&mut unheard).take(MAX_UNHEARD);
                tokio::io::copy(&mut unheard, &mut tokio::io::sink()).await
            };
            // Who does not listen is cut off.
            let _ = tokio::time::timeout(TELLING, told).await;
            drop(telling);
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.crowd.inside.lock();
        inside.all -= 1;
        if let Some(there) = inside.of.get_mut(&self.of) {
            *there -= 1;
            if *there == 0 {
                inside.of.remove(&self.of);
            }
        }
    }
}

/// What is said to somebody for whom there is no place.
pub(crate) fn refusal(service: Service, tls: bool, full: Full) -> Vec<u8> {
    if tls {
        // A record of the type alert, TLS 1.2, 2 bytes: fatal, access_denied.
        return vec![21, 3, 3, 0, 2, 2, 49];
    }
    let words = full.words();
    match service {
        Service::Rest => {
            let body = serde_json::json!({ "error": format!("{words}; try again shortly") });
            let body = body.to_string();
            let length = body.len();
            format!(
                "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
                 content-length: {length}\r\nretry-after: 1\r\nconnection: close\r\n\r\n{body}"
            )
            .into_bytes()
        }
        Service::Grpc => {
            // SETTINGS that say nothing, as whoever serves HTTP/2 begins; then GOAWAY: no stream was
            // worked on, ENHANCE_YOUR_CALM, and the words.
            let mut said = vec![0, 0, 0, 4, 0, 0, 0, 0, 0];
            let length = 8 + words.len() as u32;
            said.extend_from_slice(&length.to_be_bytes()[1..]);
            said.extend_from_slice(&[7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11]);
            said.extend_from_slice(words.as_bytes());
            said
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_never_has_all_places_and_a_place_that_is_left_is_free() {
        let crowd = Crowd::new(3, 2);
        let enter = |address: &str| crowd.enter(at(address)).map_err(Full::as_str);
        let (one, _two) = (enter("10.0.0.1").unwrap(), enter("10.0.0.1").unwrap());
        assert_eq!(enter("10.0.0.1").err(), Some("address"));
        let _three = enter("10.0.0.2").unwrap();
        assert_eq!(enter("10.0.0.2").err(), Some("all"));
        assert_eq!(crowd.inside.lock().all, 3);
        drop(one);
        assert!(enter("10.0.0.1").is_ok());
        assert_eq!(crowd.inside.lock().all, 2, "the one that came and went");
        assert_eq!(crowd.inside.lock().of.len(), 2);
        drop((_two, _three));
        assert!(crowd.inside.lock().of.is_empty(), "nobody is remembered who is gone");
    }

    #[test]
    fn one_customer_of_ipv6_has_the_places_of_one_address() {
        let crowd = Crowd::new(9, 1);
        let _one = crowd.enter(at("2001:db8:1:2::1")).ok().unwrap();
        assert_eq!(crowd.enter(at("2001:db8:1:2::2")).err(), Some(Full::Address));
        assert!(crowd.enter(at("2001:db8:1:3::1")).is_ok());
    }
}
