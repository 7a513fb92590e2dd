//! How a bus on JetStream is reached, and what its stream is like.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;

/// The most partitions a stream may have.
pub const MAX_PARTITIONS: u16 = 256;
/// The most addresses of one cluster that may be given.
const MAX_SERVERS: usize = 16;

/// How a bus on JetStream is opened.
#[derive(Debug, Clone)]
pub struct JetStreamOptions {
    /// Where NATS is.
    pub address: NatsAddress,
    /// A file with the user's credentials, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// Certificates (PEM) that are trusted in place of the system's; TLS is then required.
    pub ca: Option<PathBuf>,
    /// The stream.
    pub stream: StreamOptions,
}

impl JetStreamOptions {
    /// Everything but the address as it is by default.
    #[must_use]
    pub fn new(address: NatsAddress) -> JetStreamOptions {
        JetStreamOptions { address, credentials: None, ca: None, stream: StreamOptions::default() }
    }
}

/// What the stream is like. All processes of an installation say the same; what differs from the stream that there is comes
/// into force by [`set_up`](super::set_up) only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamOptions {
    /// Its subjects are this and `.0` up to the number of partitions; its name is this with `_` for each dot.
    pub name: String,
    /// How many partitions agents are spread over, at most [`MAX_PARTITIONS`]: as many workers can share the work. Fixed when
    /// the stream is made.
    pub partitions: u16,
    /// Messages that may wait. At the bound: [`BusError::Busy`](crate::BusError::Busy).
    pub max_messages: u64,
    /// Bytes of messages that may wait, as NATS counts them. At the bound: [`BusError::Busy`](crate::BusError::Busy).
    pub max_bytes: u64,
    /// On how many servers of a cluster each message lies: 1, 3 or 5.
    pub replicas: u8,
    /// For how long a message that is published again with the same id is taken once.
    pub duplicate_window: Duration,
}

impl Default for StreamOptions {
    fn default() -> StreamOptions {
        StreamOptions {
            name: "sentinel.metrics".to_owned(),
            partitions: 16,
            max_messages: 1_000_000,
            max_bytes: 4 << 30,
            replicas: 1,
            duplicate_window: Duration::from_secs(120),
        }
    }
}

/// The address of a NATS server or of several of one cluster, `nats://[USER[:PASSWORD]@]HOST[:PORT][,…]`; `tls://` requires
/// TLS. Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsAddress {
    servers: Vec<ServerAddr>,
    login: Option<Login>,
}

/// A user, and the password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// Why a text is no address of NATS. It does not say the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write nats://HOST:PORT, or tls://HOST:PORT")]
pub struct AddressError(String);

impl FromStr for NatsAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<NatsAddress, AddressError> {
        let wrong = |why: &str| AddressError(why.to_owned());
        let (mut servers, mut login) = (Vec::new(), None);
        for one in text.split(',').map(str::trim) {
            if one.is_empty() {
                return Err(wrong("an address of the bus is empty"));
            }
            let server: ServerAddr =
                one.parse().map_err(|_| wrong("an address of the bus is no URL"))?;
            if !matches!(server.scheme(), "nats" | "tls") {
                return Err(AddressError(format!(
                    "the bus is reached by nats:// or tls://, not {}://",
                    server.scheme()
                )));
            }
            let mut url = server.into_inner();
            if url.host_str().is_none_or(str::is_empty) {
                return Err(wrong("an address of the bus has no host"));
            }
            if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some()
            {
                return Err(wrong("an address of the bus has more than a host and a port"));
            }
            if !url.username().is_empty() {
                let user = decoded(url.username())?;
                let password = decoded(url.password().unwrap_or_default())?;
                login.get_or_insert(Login { user, password });
            }
            let bare = url.set_password(None).and_then(|()| url.set_username(""));
            bare.map_err(|()| wrong("an address of the bus has no host"))?;
            let server = ServerAddr::from_url(url);
            servers.push(server.map_err(|_| wrong("an address of the bus is no URL"))?);
        }
        if servers.len() > MAX_SERVERS {
            return Err(AddressError(format!("more than {MAX_SERVERS} addresses of the bus")));
        }
        Ok(NatsAddress { servers, login })
    }
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let decoded = percent_decode_str(text).decode_utf8();
    let wrong = |_| AddressError("the bus's user or password is not UTF-8".to_owned());
    decoded.map(std::borrow::Cow::into_owned).map_err(wrong)
}

impl NatsAddress {
    pub(super) fn servers(&self) -> &[ServerAddr] {
        &self.servers
    }

    pub(super) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Whether the connection must be encrypted.
    pub(super) fn requires_tls(&self) -> bool {
        self.servers.iter().any(ServerAddr::tls_required)
    }
}

impl fmt::Display for NatsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, server) in self.servers.iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            let login = match &self.login {
                Some(login) if n == 0 => format!("{}:***@", login.user),
                _ => String::new(),
            };
            let host = server.host();
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            write!(f, "{comma}{}://{login}{host}:{}", server.scheme(), server.port())?;
        }
        Ok(())
    }
}

impl fmt::Debug for NatsAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NatsAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_whole_but_without_its_password() {
        for (text, shown) in [
            ("nats://bus.example", "nats://bus.example:4222"),
            ("bus.example:4223", "nats://bus.example:4223"),
            ("tls://[::1]:4222", "tls://[::1]:4222"),
            ("nats://anna:s%2Fcret@bus:1", "nats://anna:***@bus:1"),
            ("nats://anna:secret@a, nats://b:7", "nats://anna:***@a:4222,nats://b:7"),
        ] {
            let address: NatsAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert!(!format!("{address:?}").contains("cret"));
            assert!(address.servers().iter().all(|server| !server.has_user_pass()));
        }
    }

    #[test]
    fn a_user_and_a_password_are_decoded() {
        let address: NatsAddress = "nats://an%40na:s%2Fcret@bus".parse().unwrap();
        let login = address.login().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("an@na", "s/cret"));
        assert!(!address.requires_tls());
        assert!("tls://bus".parse::<NatsAddress>().unwrap().requires_tls());
    }

    #[test]
    fn what_is_no_address_is_refused_without_being_repeated() {
        for text in [
            "",
            "http://bus:secret@x",
            "ws://bus",
            "nats://",
            "nats://u:secret@bus/path",
            "nats://bus?secret",
            "nats://a,,b",
            "nats://u:secret@bus:99999",
            "nats://u%ff:secret@bus",
        ] {
            let error = text.parse::<NatsAddress>().expect_err(text).to_string();
            assert!(error.contains("nats://HOST:PORT") && !error.contains("secret"), "{error}");
        }
    }
}
