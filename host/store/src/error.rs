//! What SQLite's answers mean for callers.

use crate::StoreError;
use crate::format::FormatError;

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

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let text = error.to_string();
        match &error {
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
