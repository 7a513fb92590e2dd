//! The address of a database, and how a connection to it is secured. What it says of a password is
//! never shown.

use crate::StoreError;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// `postgres://user:password@host:port/database?host=/folder/of/socket`. Shows itself without
/// the password and without options.
///
/// `sslmode=verify-full` with `sslrootcert=FILE` proves who answers, by the name in the address;
/// `sslcert=FILE&sslkey=FILE` prove who asks. The public authorities are believed beside the file.
/// `sslmode=require` encrypts without proof, `prefer` (without one) does where the server offers it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    url: String,
    shown: String,
}

/// Options that an address may have; anything else may be a password in the wrong place.
const KNOWN: &[&str] = &[
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
];

/// Those that name files.
const FILES: [&str; 3] = ["sslrootcert", "sslcert", "sslkey"];

/// A path whose slashes may be escaped.
fn plain(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/")
}

fn refuse(what: &str) -> StoreError {
    StoreError::Conflict(format!(
        "the database's address {what}; write postgres://USER@HOST:PORT/DATABASE, or \
         postgres://USER@localhost/DATABASE?host=/run/postgresql for a Unix socket"
    ))
}

/// The value of an option, as it is written.
fn option<'a>(options: &'a str, key: &str) -> Option<&'a str> {
    options.split('&').find_map(|o| o.strip_prefix(key)?.strip_prefix('='))
}

/// What is asked for has to be what is got: nothing is left unproved in silence.
fn check_tls(options: &str) -> Result<(), StoreError> {
    let mode = option(options, "sslmode").unwrap_or("prefer");
    let (cert, key) = (option(options, "sslcert"), option(options, "sslkey"));
    for key in FILES {
        let path = option(options, key).unwrap_or_default();
        if plain(path).contains(['%', '+']) {
            return Err(refuse("names a file by characters that an address has to escape"));
        }
    }
    if mode == "verify-ca" {
        return Err(refuse(
            "has sslmode=verify-ca, which believes every server of every authority; use verify-full",
        ));
    }
    if option(options, "sslrootcert").is_some() && mode != "verify-full" {
        return Err(refuse("has an sslrootcert, which counts with sslmode=verify-full alone"));
    }
    if cert.is_some() != key.is_some() {
        return Err(refuse("has one of sslcert and sslkey; a client's certificate needs both"));
    }
    if cert.is_some() && !matches!(mode, "verify-full" | "require") {
        return Err(refuse("has an sslcert, which needs sslmode=verify-full (or require)"));
    }
    Ok(())
}

/// Says which file is missing or holds something else: the engine would name none.
fn check_file(key: &str, path: &str) -> Result<(), StoreError> {
    let path = Path::new(path);
    let found = match key {
        "sslkey" => PrivateKeyDer::from_pem_file(path).map(|_| true),
        _ => CertificateDer::pem_file_iter(path).and_then(|found| {
            found.collect::<Result<Vec<_>, _>>().map(|certificates| !certificates.is_empty())
        }),
    };
    let why = match found {
        Ok(true) => return Ok(()),
        Ok(false) => "it has no certificate".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(StoreError::Conflict(format!(
        "the database's address names {} as {key}, which cannot be used: {why}; name a PEM file \
         that this user may read",
        path.display()
    )))
}

impl PostgresUrl {
    /// Takes an address apart.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] where it is not one. The address itself is not in the message.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let rest = ["postgres://", "postgresql://"].into_iter().find_map(|s| url.strip_prefix(s));
        let rest = rest.ok_or_else(|| refuse("does not begin with postgres://"))?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        for option in options.split('&').filter(|o| !o.is_empty()) {
            let key = option.split('=').next().unwrap_or_default();
            if !KNOWN.contains(&key) {
                return Err(refuse("has an option that is not known"));
            }
        }
        let (authority, database) = place.split_once('/').unwrap_or((place, ""));
        if database.is_empty() {
            return Err(refuse("names no database"));
        }
        // A password may have an @ of its own: the last one ends it.
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        let user = user.split(':').next().unwrap_or_default();
        let at = if user.is_empty() { "" } else { "@" };
        let socket = options.split('&').find_map(|o| o.strip_prefix("host="));
        let host = socket.map_or_else(|| host.to_owned(), plain);
        PgConnectOptions::from_str(url).map_err(|_| refuse("cannot be read"))?;
        check_tls(options)?;
        Ok(Self { url: url.to_owned(), shown: format!("postgres://{user}{at}{host}/{database}") })
    }

    /// How to connect, with the files that the address names looked at.
    pub(super) fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let pairs = self.url.split_once('?').map_or("", |(_, options)| options);
        for key in FILES {
            if let Some(path) = option(pairs, key) {
                check_file(key, &plain(path))?;
            }
        }
        PgConnectOptions::from_str(&self.url).map_err(|_| refuse("cannot be read"))
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for (url, shown) in [
            ("postgres://u:s3cret@db:5433/m", "postgres://u@db:5433/m"),
            ("postgres://u:s3c%40ret@db/m", "postgres://u@db/m"),
            ("postgresql://db/m?user=u&password=s3cret", "postgres://db/m"),
            ("postgres://u:s3cret@localhost/m?host=%2Frun%2Fpg", "postgres://u@/run/pg/m"),
        ] {
            let url = PostgresUrl::new(url).unwrap();
            assert_eq!((url.to_string(), format!("{url:?}")), (shown.to_owned(), shown.to_owned()));
        }
        for wrong in [
            "mysql://u:s3cret@db/m",
            "postgres://u:s3cret@db",
            "postgres://u@db/m?passwort=s3cret",
            "postgres://u:s3cret@db:port/m",
            "postgres://u@db/m?sslmode=s3cret",
        ] {
            let error = PostgresUrl::new(wrong).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(error.contains("postgres://USER@"), "{error}");
        }
    }

    #[test]
    fn tls_that_would_prove_less_than_it_says_is_refused() {
        for (options, said) in [
            ("sslmode=verify-full", None),
            ("sslmode=verify-full&sslrootcert=/ca.pem", None),
            ("sslmode=require&sslcert=/c.pem&sslkey=/c.key", None),
            ("sslmode=disable", None),
            ("sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem", None),
            ("sslmode=verify-full&sslrootcert=/a%20b.pem", Some("has to escape")),
            ("sslmode=verify-ca", Some("use verify-full")),
            ("sslrootcert=/ca.pem", Some("sslmode=verify-full alone")),
            ("sslmode=require&sslrootcert=/ca.pem", Some("sslmode=verify-full alone")),
            ("sslmode=verify-full&sslcert=/c.pem", Some("needs both")),
            ("sslcert=/c.pem&sslkey=/c.key", Some("needs sslmode=verify-full")),
        ] {
            let made = PostgresUrl::new(&format!("postgres://u:s3cret@db/m?{options}"));
            match said {
                None => drop(made.unwrap()),
                Some(said) => {
                    let error = made.unwrap_err().to_string();
                    assert!(error.contains(said) && !error.contains("s3cret"), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        for content in [None, Some("no certificate")] {
            if let Some(content) = content {
                std::fs::write(&file, content).unwrap();
            }
            let url =
                format!("postgres://u@db/m?sslmode=verify-full&sslrootcert={}", file.display());
            let error = PostgresUrl::new(&url).unwrap().options().unwrap_err().to_string();
            assert!(error.contains(&file.display().to_string()), "{error}");
            assert!(error.contains("as sslrootcert"), "{error}");
        }
    }
}
