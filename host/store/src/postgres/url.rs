//! The address of a database. What it says of a password is never shown.

use crate::StoreError;
use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::str::FromStr;

/// `postgres://user:password@host:port/database?host=/folder/of/socket`. Shows itself without
/// the password and without options.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    url: String,
    shown: String,
}

/// Options that an address may have; anything else may be a password in the wrong place.
const KNOWN: &[&str] = &["host", "hostaddr", "port", "dbname", "user", "password", "sslmode"];

fn refuse(what: &str) -> StoreError {
    StoreError::Conflict(format!(
        "the database's address {what}; write postgres://USER@HOST:PORT/DATABASE, or \
         postgres://USER@localhost/DATABASE?host=/run/postgresql for a Unix socket"
    ))
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
        let host = socket.map_or_else(|| host.to_owned(), |s| s.replace("%2F", "/"));
        PgConnectOptions::from_str(url).map_err(|_| refuse("cannot be read"))?;
        Ok(Self { url: url.to_owned(), shown: format!("postgres://{user}{at}{host}/{database}") })
    }

    pub(super) fn options(&self) -> Result<PgConnectOptions, StoreError> {
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
}
