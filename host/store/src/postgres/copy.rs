//! Rows as `COPY … (FORMAT binary)` reads them.

use crate::StoreError;
use sqlx::postgres::PgConnection;

/// Eleven bytes by which the format is known, flags, and the length of an extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What follows the last row.
const TRAILER: [u8; 2] = (-1i16).to_be_bytes();
/// Bytes sent at once.
const PART: usize = 256 << 10;

/// A number as it stands in a row or an array.
pub(super) trait Number: Copy {
    /// What PostgreSQL calls the type.
    const OID: u32;
    /// Appends its bytes.
    fn put(self, out: &mut Vec<u8>);
}

macro_rules! number {
    ($($rust:ty => $oid:literal),*) => {$(
        impl Number for $rust {
            const OID: u32 = $oid;
            fn put(self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }
        }
    )*};
}
number!(i16 => 21, i32 => 23, i64 => 20, f64 => 701);

/// Rows on their way into one table.
pub(super) struct Rows(Vec<u8>);

impl Rows {
    pub(super) fn new() -> Self {
        Self(HEADER.to_vec())
    }

    /// Begins a row of so many columns.
    pub(super) fn row(&mut self, columns: i16) -> &mut Self {
        self.0.extend_from_slice(&columns.to_be_bytes());
        self
    }

    pub(super) fn number<T: Number>(&mut self, value: T) -> &mut Self {
        self.0.extend_from_slice(&(size_of::<T>() as i32).to_be_bytes());
        value.put(&mut self.0);
        self
    }

    pub(super) fn null(&mut self) -> &mut Self {
        self.0.extend_from_slice(&(-1i32).to_be_bytes());
        self
    }

    pub(super) fn array<T: Number>(&mut self, values: &[T]) -> &mut Self {
        let size = size_of::<T>() as i32;
        let length = 20 + values.len() as i32 * (4 + size);
        for word in [length, 1, 0, T::OID as i32, values.len() as i32, 1] {
            self.0.extend_from_slice(&word.to_be_bytes());
        }
        for &value in values {
            self.0.extend_from_slice(&size.to_be_bytes());
            value.put(&mut self.0);
        }
        self
    }

    pub(super) fn optional<T: Number>(&mut self, values: Option<&[T]>) -> &mut Self {
        match values {
            Some(values) => self.array(values),
            None => self.null(),
        }
    }

    /// Sends them into columns of a table, in the order in which they were put.
    pub(super) async fn send(
        mut self,
        conn: &mut PgConnection,
        table: &str,
        columns: &str,
    ) -> Result<(), StoreError> {
        self.0.extend_from_slice(&TRAILER);
        let statement = format!("COPY {table} ({columns}) FROM STDIN (FORMAT binary)");
        let mut copy = conn.copy_in_raw(&statement).await?;
        for part in self.0.chunks(PART) {
            copy.send(part).await?;
        }
        copy.finish().await?;
        Ok(())
    }
}
