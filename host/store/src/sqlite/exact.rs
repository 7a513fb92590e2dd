//! Values that come back bit by bit from a column of reals.
//!
//! SQLite takes what is not a number for NULL and forgets the sign of zero. Both are stored as
//! their eight bytes, little-endian; a column of reals leaves a blob as it is.

use super::script::Script;
use crate::StoreError;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, TypeInfo, ValueRef};

impl Script {
    /// Binds a value so that [`get`] gives the same bits.
    pub(super) fn bind_exact(&mut self, value: f64) -> &mut Self {
        if value.is_nan() || value.to_bits() == (-0.0_f64).to_bits() {
            self.bind(value.to_le_bytes().to_vec())
        } else {
            self.bind(value)
        }
    }
}

/// The value of a column.
pub(super) fn get(row: &SqliteRow, column: usize) -> Result<f64, StoreError> {
    let raw = row.try_get_raw(column)?;
    if raw.is_null() {
        // From before such values were stored as blobs.
        return Ok(f64::NAN);
    }
    if raw.type_info().name() != "BLOB" {
        return Ok(row.try_get(column)?);
    }
    let bytes: &[u8] = row.try_get_unchecked(column)?;
    let bytes = bytes.try_into().map_err(|_| StoreError::Damaged {
        what: format!("a value of {} bytes where 8 are needed", bytes.len()),
    })?;
    Ok(f64::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sqlx::Connection;
    use sqlx::sqlite::SqliteConnection;

    async fn there_and_back(values: &[f64]) -> Vec<u64> {
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let mut script = Script::new();
        script.sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v REAL);");
        for value in values {
            script.sql("INSERT INTO t (v) VALUES (?);").bind_exact(*value);
        }
        script.run(&mut conn).await.unwrap();
        let rows = sqlx::query("SELECT v FROM t ORDER BY id").fetch_all(&mut conn).await.unwrap();
        rows.iter().map(|row| get(row, 0).unwrap().to_bits()).collect()
    }

    #[tokio::test]
    async fn odd_values_come_back_bit_by_bit_and_what_is_missing_is_not_a_number() {
        let stale = f64::from_bits(0x7ff0_0000_0000_0002);
        let odd = [f64::NAN, -f64::NAN, stale, 0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY];
        let bits: Vec<u64> = odd.iter().map(|v| v.to_bits()).collect();
        assert_eq!(there_and_back(&odd).await, bits);
        let mut conn = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let row = sqlx::query("SELECT NULL, x'0102'").fetch_one(&mut conn).await.unwrap();
        assert!(get(&row, 0).unwrap().is_nan());
        assert!(matches!(get(&row, 1), Err(StoreError::Damaged { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_bits_come_back(bits in proptest::collection::vec(any::<u64>(), 1..50)) {
            let values: Vec<f64> = bits.iter().map(|b| f64::from_bits(*b)).collect();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(there_and_back(&values)), bits);
        }
    }
}
