//! Whom a command or an agent trusts for a server at `https://`, and what it shows of itself.

use std::path::PathBuf;

use clap::Args;
use sentinel_agent::LinkTls;
use zeroize::Zeroizing;

use crate::commands::reach::MAX_CA_BYTES;
use crate::failure::Failure;
use crate::files;

/// The files for TLS, all of them PEM.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ClientTls {
    /// Certificates of CAs (PEM) that are trusted for the server.
    #[arg(long, global = true, env = "SENTINEL_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Certificate (PEM) to show to a server that asks for one.
    #[arg(
        long,
        global = true,
        env = "SENTINEL_CLIENT_CERT",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) client_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    #[arg(
        long,
        global = true,
        env = "SENTINEL_CLIENT_KEY",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) client_key: Option<PathBuf>,
}

impl ClientTls {
    /// What is said here, and else there.
    pub(crate) fn or(self, other: Self) -> Self {
        // A certificate and a key of two places would not go together.
        let own = self.client_cert.is_some() || self.client_key.is_some();
        let (client_cert, client_key) = if own {
            (self.client_cert, self.client_key)
        } else {
            (other.client_cert, other.client_key)
        };
        Self { ca: self.ca.or(other.ca), client_cert, client_key }
    }

    /// What the files hold.
    pub(crate) fn read(&self) -> Result<LinkTls, Failure> {
        let identity = match (&self.client_cert, &self.client_key) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some((
                files::read(certificate, MAX_CA_BYTES)?,
                Zeroizing::new(files::read(key, MAX_CA_BYTES)?),
            )),
            _ => {
                return Err(Failure::new("a client's certificate and its key go together")
                    .hint("give both --client-cert and --client-key"));
            }
        };
        let ca = self.ca.as_deref().map(|file| files::read(file, MAX_CA_BYTES)).transpose()?;
        Ok(LinkTls { ca, identity })
    }
}

/// The same for a client of REST.
pub(crate) fn applied(
    tls: &LinkTls,
    mut http: reqwest::ClientBuilder,
) -> Result<reqwest::ClientBuilder, Failure> {
    let refused = |what: &str, error: reqwest::Error| {
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        Failure::new(format!("{what} cannot be used: {}", cause.unwrap_or(error.to_string())))
    };
    if let Some(pem) = &tls.ca {
        let certificates = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|error| refused("the certificates of --ca", error))?;
        if certificates.is_empty() {
            return Err(Failure::new("there is no certificate in the file of --ca"));
        }
        http = http.tls_certs_only(certificates);
    }
    if let Some((certificate, key)) = &tls.identity {
        let pem = Zeroizing::new([key.as_slice(), b"\n", certificate.as_slice()].concat());
        let identity = reqwest::Identity::from_pem(&pem)
            .map_err(|error| refused("the client's certificate and key", error))?;
        http = http.identity(identity);
    }
    Ok(http)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_on_the_command_line_counts_and_a_pair_stays_together() {
        let file = |name: &str| Some(PathBuf::from(name));
        let config = ClientTls { ca: file("a"), client_cert: file("b"), client_key: file("c") };
        let said = ClientTls { client_cert: file("d"), ..ClientTls::default() };
        let both = said.or(config.clone());
        assert_eq!((both.ca.clone(), both.client_cert.clone()), (file("a"), file("d")));
        assert!(both.read().is_err_and(|failure| failure.message.contains("go together")));
        let config = ClientTls::default().or(config);
        assert_eq!((config.client_cert, config.client_key), (file("b"), file("c")));
    }
}
