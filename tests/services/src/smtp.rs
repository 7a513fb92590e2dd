//! A real SMTP server: aiosmtpd, with TLS and users.

use crate::{Process, Services, wait};
use anyhow::{Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What is run: it takes the folder of the server as its one argument.
const PROGRAM: &str = include_str!("smtp.py");

/// How connections to an [`SmtpServer`] are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SmtpTls {
    /// Not at all.
    None,
    /// By STARTTLS, without which it takes nothing.
    Starttls,
    /// From the first byte.
    Tls,
}

/// A server on loopback that keeps every message. Recipients whose address begins with `refused`
/// get a 550, those with `later` a 450.
#[derive(Debug)]
pub struct SmtpServer {
    folder: PathBuf,
    port: u16,
    _process: Process,
}

/// A message that a server has taken, as Python's parser of mail reads it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Mail {
    /// The sender of its envelope.
    pub sender: String,
    /// The recipients of its envelope that were taken.
    pub recipients: Vec<String>,
    /// Headers and body as they came, in base64.
    content: String,
    /// The headers, decoded, in order.
    pub headers: Vec<(String, String)>,
    /// The plain text, decoded, its lines ended by LF.
    pub text: String,
    /// The HTML, decoded.
    pub html: Option<String>,
    /// Whoever gave a password, if anybody had to.
    pub user: Option<String>,
    /// Whether it came over TLS.
    pub tls: bool,
}

impl Mail {
    /// The first header of a name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Headers and body as they came.
    ///
    /// # Errors
    /// Where they are not ASCII.
    pub fn content(&self) -> Result<String> {
        let content = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, &self.content)?;
        ensure!(content.is_ascii(), "a message that is not ASCII");
        Ok(String::from_utf8(content)?)
    }
}

#[derive(Serialize)]
struct Options<'a> {
    tls: SmtpTls,
    user: &'a str,
    password: &'a str,
}

impl SmtpServer {
    /// Starts it in a folder of its own, which is made; `user` and password, if any, are needed
    /// from everybody.
    ///
    /// # Errors
    /// Where it is not among the services or does not come up.
    pub fn start(
        services: &Services,
        folder: &Path,
        tls: SmtpTls,
        user: Option<(&str, &str)>,
    ) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        certificates(folder)?;
        let (user, password) = user.unwrap_or_default();
        let options = Options { tls, user, password };
        std::fs::write(folder.join("options.json"), serde_json::to_vec(&options)?)?;
        let program = folder.join("smtp.py");
        std::fs::write(&program, PROGRAM)?;
        let mut command = services.command("aiosmtpd")?;
        command.arg(program).arg(folder);
        let process = Process::start(&mut command, &folder.join("log"))?;
        let port = folder.join("port");
        wait("the SMTP server", || port.exists())?;
        let port = std::fs::read_to_string(port)?.trim().parse()?;
        Ok(Self { folder: folder.to_owned(), port, _process: process })
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The authority of its certificate, which is for `localhost` and 127.0.0.1.
    #[must_use]
    pub fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Every message so far, the oldest first.
    ///
    /// # Errors
    /// Where what was kept cannot be read.
    pub fn messages(&self) -> Result<Vec<Mail>> {
        let kept = match std::fs::read_to_string(self.folder.join("messages")) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read?,
        };
        // A line that is being written has no end yet.
        let whole = kept.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

/// `ca.pem`, and `server.pem` with the server's key and certificate.
fn certificates(folder: &Path) -> Result<()> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let server = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    std::fs::write(folder.join("ca.pem"), authority.pem())?;
    std::fs::write(folder.join("server.pem"), server.pem() + &key.serialize_pem())?;
    Ok(())
}
