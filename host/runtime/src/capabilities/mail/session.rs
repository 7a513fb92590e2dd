//! One delivery: resolve, connect, TLS, user, envelope, content.

use std::fmt::Display;
use std::future::Future;
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::DEFAULT_MECHANISMS;
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::{Response, Severity};
use sentinel_trust::{MailGrant, MailTls};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::answers::{cut, done, failure, in_one_line, is_done};
use super::compose::Outgoing;
use super::stream::Careful;
use super::user::{User, masked, masked_reply, masked_text};
use super::{MailError, Receipt, Reply};
use crate::capabilities::SecretSource;
use crate::capabilities::http::address::{Resolver, may_reach};

/// Most addresses of a relay that are tried.
const MAX_ADDRESSES: usize = 4;
/// Most bytes of a file of authorities (1 MiB).
const MAX_CA_BYTES: u64 = 1 << 20;
/// How long the relay's answer to our leaving is waited for; nothing depends on it.
const QUIT_WAIT: Duration = Duration::from_secs(1);

/// What a delivery is made with.
pub(super) struct Delivery<'a> {
    grant: &'a MailGrant,
    secrets: &'a dyn SecretSource,
    resolver: &'a dyn Resolver,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(
        grant: &'a MailGrant,
        secrets: &'a dyn SecretSource,
        resolver: &'a dyn Resolver,
    ) -> Self {
        Self { grant, secrets, resolver }
    }

    /// Hands a message over within `limit`.
    pub(super) async fn deliver(
        &self,
        mail: &Outgoing,
        limit: Duration,
    ) -> Result<Receipt, MailError> {
        let deadline = Instant::now() + limit;
        let user = User::of(self.grant, self.secrets)?;
        let user = user.as_ref();
        let ready = timeout_at(deadline, self.ready(mail, user)).await.unwrap_or_else(|_| {
            Err(MailError::Unreachable("time ran out before the message was handed over".into()))
        });
        let (mut connection, refused) = ready.map_err(|error| masked(error, user))?;
        let refused = refused.into_iter().map(|(to, r)| (to, masked_reply(r, user))).collect();
        // From here on, only an answer tells.
        let handed = timeout(self.step(), connection.message(&mail.content));
        let answer = match timeout_at(deadline, handed).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Err(MailError::Unknown("time ran out".into())),
        };
        let result = match answer {
            Ok(response) if is_done(&response) => {
                let text = in_one_line(&response.message().collect::<Vec<_>>().join(" "));
                let text = masked_text(text, user);
                Ok(Receipt { message_id: mail.message_id.clone(), text, refused })
            }
            Ok(response) => {
                Err(MailError::Unknown(format!("the relay answered {}", response.code())))
            }
            Err(error) => Err(match failure("the message", &error) {
                refused @ (MailError::Temporary(_) | MailError::Rejected(_)) => refused,
                other => MailError::Unknown(other.to_string()),
            }),
        };
        // What is known is not to be lost by a relay that is slow to say good-bye.
        let leaving = deadline.min(Instant::now() + QUIT_WAIT);
        let _ = timeout_at(leaving, connection.quit()).await;
        result.map_err(|error| masked(error, user))
    }

    fn step(&self) -> Duration {
        Duration::from_millis(self.grant.step_ms)
    }

    /// Waits for one answer of the relay.
    async fn answer<T>(
        &self,
        what: &str,
        asked: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, MailError> {
        match timeout(self.step(), asked).await {
            Ok(result) => result.map_err(|error| failure(what, &error)),
            Err(_) => Err(MailError::Unreachable(format!("{what}: no answer in time"))),
        }
    }

    async fn command(
        &self,
        connection: &mut AsyncSmtpConnection,
        what: &str,
        command: impl Display,
    ) -> Result<Response, MailError> {
        self.answer(what, connection.command(command)).await
    }

    /// Everything up to the moment at which the relay waits for the content; and the recipients
    /// that it refused.
    async fn ready(
        &self,
        mail: &Outgoing,
        user: Option<&User>,
    ) -> Result<(AsyncSmtpConnection, Vec<(String, Reply)>), MailError> {
        let mut connection = self.connected().await?;
        if let Some(user) = user {
            self.authenticate(&mut connection, user).await?;
        }
        let sender = Mail::new(Some(mail.sender.clone()), Vec::new());
        let answer = self.command(&mut connection, "MAIL", sender).await?;
        done("MAIL", &answer)?;
        let mut refused = Vec::new();
        for recipient in &mail.recipients {
            let command = Rcpt::new(recipient.clone(), Vec::new());
            match self.command(&mut connection, "RCPT", command).await {
                Ok(answer) => done("RCPT", &answer)?,
                Err(MailError::Temporary(reply)) if reply.code == 421 => {
                    // It closes the connection: the others cannot be asked for.
                    return Err(MailError::Temporary(reply));
                }
                Err(MailError::Temporary(reply) | MailError::Rejected(reply)) => {
                    refused.push((recipient.to_string(), reply));
                }
                Err(error) => return Err(error),
            }
        }
        if refused.len() == mail.recipients.len() {
            let temporary = refused.iter().position(|(_, reply)| reply.code < 500);
            let (_, reply) = refused.swap_remove(temporary.unwrap_or(0));
            return Err(match temporary {
                Some(_) => MailError::Temporary(reply),
                None => MailError::Rejected(reply),
            });
        }
        let answer = self.command(&mut connection, "DATA", Data).await?;
        if answer.code().severity != Severity::PositiveIntermediate {
            return Err(MailError::Unreachable(format!("DATA: it answered {}", answer.code())));
        }
        Ok((connection, refused))
    }

    async fn authenticate(
        &self,
        connection: &mut AsyncSmtpConnection,
        user: &User,
    ) -> Result<(), MailError> {
        if connection.server_info().get_auth_mechanism(DEFAULT_MECHANISMS).is_none() {
            let why = "it offers neither PLAIN nor LOGIN; leave `mail.user` out if it wants none";
            return Err(MailError::Auth(why.into()));
        }
        let credentials = user.credentials();
        match self.answer("AUTH", connection.auth(DEFAULT_MECHANISMS, &credentials)).await {
            Ok(answer) => done("AUTH", &answer),
            Err(MailError::Rejected(reply)) => Err(MailError::Auth(reply.to_string())),
            Err(error) => Err(error),
        }
    }

    /// A connection on which everything may be said.
    async fn connected(&self) -> Result<AsyncSmtpConnection, MailError> {
        let tls = self.tls().await?;
        let mut last = None;
        for address in self.addresses().await? {
            let connected = match timeout(self.step(), self.connect(address, tls.clone())).await {
                Ok(connected) => connected,
                Err(_) => Err(MailError::Unreachable("connecting: no answer in time".into())),
            };
            match connected {
                Ok(connection) => return Ok(connection),
                // Somebody answered: another address is the same relay.
                Err(error @ (MailError::Temporary(_) | MailError::Rejected(_))) => {
                    return Err(error);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| MailError::Unreachable("the relay has no address".into())))
    }

    async fn connect(
        &self,
        address: SocketAddr,
        tls: Option<TlsParameters>,
    ) -> Result<AsyncSmtpConnection, MailError> {
        let (hello, none) = (hello(), None);
        if self.grant.protection() == MailTls::Tls {
            return AsyncSmtpConnection::connect_tokio1(address, none, &hello, tls, None)
                .await
                .map_err(|error| failure("connecting", &error));
        }
        let stream = TcpStream::connect(address).await;
        let stream = stream
            .map_err(|error| MailError::Unreachable(format!("connecting: {}", error.kind())))?;
        let _ = stream.set_nodelay(true);
        let careful = Box::new(Careful::new(stream));
        let mut connection = AsyncSmtpConnection::connect_with_transport(careful, &hello)
            .await
            .map_err(|error| failure("connecting", &error))?;
        if let Some(tls) = tls {
            if !connection.can_starttls() {
                return Err(MailError::Tls("the relay does not offer STARTTLS".into()));
            }
            let begun = connection.starttls(tls, &hello).await;
            begun.map_err(|error| match failure("STARTTLS", &error) {
                MailError::Unreachable(why) => MailError::Tls(why),
                other => other,
            })?;
        }
        Ok(connection)
    }

    /// Where the relay may be: the address that the grant names, or what its name leads to.
    async fn addresses(&self) -> Result<Vec<SocketAddr>, MailError> {
        let (relay, port) = (&self.grant.relay, self.grant.relay.port());
        if let Some(address) = relay.address() {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let found = match timeout(self.step(), self.resolver.resolve(relay.host())).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                return Err(MailError::Unreachable(format!(
                    "its name: {}",
                    cut(&error.to_string())
                )));
            }
            Err(_) => return Err(MailError::Unreachable("its name: no answer in time".into())),
        };
        let named = !found.is_empty();
        let mut addresses: Vec<_> = found
            .into_iter()
            .filter(|address| may_reach(relay.host(), *address))
            .map(|address| SocketAddr::new(address, port))
            .collect();
        if addresses.is_empty() && named {
            return Err(MailError::Denied(
                "the relay's name leads to an address of this machine, its link or a metadata service; such an address must itself stand in `mail.relay`".into(),
            ));
        }
        addresses.truncate(MAX_ADDRESSES);
        Ok(addresses)
    }

    /// Whom to trust, unless there is no TLS. Files are read each time: authorities change.
    async fn tls(&self) -> Result<Option<TlsParameters>, MailError> {
        if self.grant.protection() == MailTls::None {
            return Ok(None);
        }
        let host = self.grant.relay.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let file = self.grant.ca_file.clone();
        let read = tokio::task::spawn_blocking(move || {
            let builder = TlsParameters::builder(host);
            let builder = match file {
                None => builder,
                Some(file) => authorities(&file)?
                    .into_iter()
                    .fold(builder.certificate_store(CertificateStore::None), |builder, one| {
                        builder.add_root_certificate(one)
                    }),
            };
            builder.build().map_err(|error| cut(&error.to_string()))
        });
        let made = read.await.unwrap_or_else(|_| Err("reading authorities failed".into()));
        made.map(Some).map_err(MailError::Tls)
    }
}

/// The certificates in a PEM file.
fn authorities(path: &str) -> Result<Vec<Certificate>, String> {
    let said = |why: &dyn Display| format!("`mail.ca_file`: {}", cut(&why.to_string()));
    let mut pem = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| said(&error))?;
    file.take(MAX_CA_BYTES + 1).read_to_end(&mut pem).map_err(|error| said(&error))?;
    if pem.len() as u64 > MAX_CA_BYTES {
        return Err(said(&format!("more than {MAX_CA_BYTES} bytes")));
    }
    if !pem.windows(11).any(|part| part == b"-----BEGIN ") {
        return Err(said(&"it holds no certificate in PEM"));
    }
    Certificate::from_pem(&pem).map(|one| vec![one]).map_err(|error| said(&error))
}

/// How this machine calls itself; a literal where its name is none of the DNS.
fn hello() -> ClientId {
    match ClientId::default() {
        ClientId::Domain(name)
            if name.is_empty()
                || name.len() > 253
                || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)) =>
        {
            ClientId::Ipv4(std::net::Ipv4Addr::LOCALHOST)
        }
        name => name,
    }
}
