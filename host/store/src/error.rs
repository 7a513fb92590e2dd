//! What the engines' answers mean for callers.

use crate::StoreError;
use crate::format::FormatError;
use sqlx::postgres::PgDatabaseError;

const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const IOERR: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;
/// Growing the shared memory file failed, which in practice is a full disk.
const IOERR_SHMSIZE: i32 = IOERR | (19 << 8);

/// What an SQLSTATE means.
fn of_postgres(state: &str, text: String) -> StoreError {
    match (state.get(..2).unwrap_or_default(), state) {
        (_, "53100") => StoreError::Full(text),
        // Connections; resources; an operator; what may be asked again; a standby; no access.
        ("08" | "53" | "57" | "40" | "28" | "3D", _) | (_, "55P03" | "25006" | "25P03") => {
            StoreError::Unavailable(text)
        }
        ("XX", "XX001" | "XX002") => StoreError::Damaged { what: text },
        _ => StoreError::Engine(text),
    }
}

/// What TLS found wrong, in words of the address; none where it was not TLS.
fn of_tls(error: &sqlx::Error) -> Option<String> {
    use rustls::CertificateError::{NotValidForName, NotValidForNameContext, UnknownIssuer};
    let source: &(dyn std::error::Error + 'static) = match error {
        sqlx::Error::Io(error) => error.get_ref()?,
        sqlx::Error::Tls(error) => &**error,
        _ => return None,
    };
    Some(match source.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(UnknownIssuer)) => {
            "the database's certificate is from no authority that sslrootcert names".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(
            why @ (NotValidForName | NotValidForNameContext { .. }),
        )) => format!("the database's certificate is for another name than its address has: {why}"),
        Some(other) => format!("TLS to the database failed: {other}"),
        None if matches!(error, sqlx::Error::Tls(_)) => {
            format!("TLS to the database, which its address asks for, failed: {source}")
        }
        None => return None,
    })
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let text = of_tls(&error).unwrap_or_else(|| error.to_string());
        match &error {
            sqlx::Error::Database(database)
                if let Some(postgres) = database.try_downcast_ref::<PgDatabaseError>() =>
            {
                of_postgres(postgres.code(), text)
            }
            sqlx::Error::Database(database) => {
                let code = database.code().and_then(|c| c.parse::<i32>().ok()).unwrap_or(0);
                match (code, code & 0xff) {
                    (IOERR_SHMSIZE, _) | (_, FULL) => Self::Full(text),
                    (_, BUSY | LOCKED | READONLY | IOERR | CANTOPEN) => Self::Unavailable(text),
                    (_, CORRUPT | NOTADB) => Self::Damaged { what: text },
                    _ => Self::Engine(text),
                }
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(text),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Damaged { what: text }
            }
            _ => Self::Engine(text),
        }
    }
}

impl From<FormatError> for StoreError {
    fn from(error: FormatError) -> Self {
        Self::Damaged { what: error.to_string() }
    }
}

/// For JSON that the store wrote itself.
impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        Self::Damaged { what: format!("a stored JSON text: {error}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_postgresql_says_whether_to_try_again() {
        for (state, expected) in [
            ("53100", "full"),
            ("53300", "later"),
            ("57014", "later"),
            ("57P03", "later"),
            ("40001", "later"),
            ("55P03", "later"),
            ("25P03", "later"),
            ("28P01", "later"),
            ("XX001", "damaged"),
            ("XX000", "bug"),
            ("23505", "bug"),
            ("", "bug"),
        ] {
            let found = match of_postgres(state, String::new()) {
                StoreError::Full(_) => "full",
                StoreError::Unavailable(_) => "later",
                StoreError::Damaged { .. } => "damaged",
                _ => "bug",
            };
            assert_eq!(found, expected, "{state}");
        }
    }
}
