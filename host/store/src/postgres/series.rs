//! Series and shapes: ids are given under the lock of one row, so that whoever reads changes by
//! their number misses none.

use super::failure::{Again, Did, Failure, retried};
use super::{PostgresStore, text};
use crate::StoreError;
use crate::samples::series::{MAX_SERIES_ID, NewSeries, Pending};
use crate::samples::tail::Shape;
use sentinel_model::batch::Batch;
use sentinel_model::series::{Labels, SeriesKey};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Acquire, Row};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Series read or written at once.
const PAGE: usize = 10_000;
/// How often a shape is made again, whose series went meanwhile.
const ATTEMPTS: usize = 4;

/// SHA-256 of a name and sorted labels, each with its length before it.
fn digest(key: &SeriesKey) -> Vec<u8> {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    };
    part(&key.name);
    for (label, value) in key.labels.iter() {
        part(label);
        part(value);
    }
    hash.finalize().to_vec()
}

fn shape_digest(ids: &[u32]) -> Vec<u8> {
    let mut hash = Sha256::new();
    for id in ids {
        hash.update(id.to_le_bytes());
    }
    hash.finalize().to_vec()
}

/// Ids as PostgreSQL has them; they are below 2^24.
pub(super) fn numbers(ids: &[u32]) -> Vec<i32> {
    ids.iter().map(|&id| id as i32).collect()
}

fn kept_labels(labels: &Labels) -> Result<String, serde_json::Error> {
    let kept = labels.iter().map(|(k, v)| (text::kept(k), text::kept(v)));
    serde_json::to_string(&kept.collect::<BTreeMap<_, _>>())
}

/// The number of a change, while whose transaction lasts nobody else changes series.
async fn next_change(conn: &mut PgConnection) -> Did<i64> {
    let sql = "UPDATE meta SET value = value + 1 WHERE key = 'changed' RETURNING value";
    Ok(sqlx::query_scalar(sql).fetch_one(conn).await?)
}

impl PostgresStore {
    /// Takes what other processes changed into the registry.
    pub(super) async fn refresh(&self) -> Result<(), StoreError> {
        retried(Again::Whenever, || async {
            let mut conn = self.0.pool.acquire().await?;
            self.refresh_with(&mut conn).await
        })
        .await
    }

    pub(super) async fn refresh_with(&self, conn: &mut PgConnection) -> Did<()> {
        let mut changed = self.0.changed.lock().await;
        let sql = "SELECT id, name, labels::text, kind, seen, gone, changed FROM series \
                   WHERE (changed, id) > ($1, $2) ORDER BY changed, id LIMIT $3";
        let mut last = (*changed, i32::MAX);
        loop {
            let query = sqlx::query(sql).bind(last.0).bind(last.1).bind(PAGE as i64);
            let rows = query.fetch_all(&mut *conn).await?;
            for row in &rows {
                self.take_in(row)?;
                last = (row.try_get(6)?, row.try_get(0)?);
            }
            // A page may end inside a change: it counts once the next one has begun.
            if rows.len() < PAGE {
                *changed = last.0;
                return Ok(());
            }
        }
    }

    fn take_in(&self, row: &PgRow) -> Did<()> {
        let id = row.try_get::<i32, _>(0)?.unsigned_abs();
        let mut registry = self.0.registry.write();
        let is_known = registry.info(id).is_some();
        if row.try_get(5)? {
            if is_known {
                registry.remove(&[id]);
            }
            return Ok(());
        }
        let kind = row.try_get::<i16, _>(3)? as u8;
        let seen = row.try_get(4)?;
        if is_known {
            let mut pending = Pending::default();
            pending.kinds.insert(id, kind);
            registry.publish(pending, seen);
            return Ok(());
        }
        let labels: BTreeMap<String, String> = serde_json::from_str(row.try_get(2)?)?;
        let labels = labels.iter().map(|(k, v)| (text::given(k), text::given(v))).collect();
        let key = SeriesKey { name: text::given(row.try_get(1)?), labels };
        registry.load(id, &key, kind, seen);
        Ok(())
    }

    /// The shapes of batches: their series, made where they are new, and the rows that keep them.
    /// For all of them it takes no more transactions than for one.
    pub(super) async fn shapes_of(
        &self,
        conn: &mut PgConnection,
        batches: &[&Batch],
        day: i64,
    ) -> Did<Vec<Arc<Shape>>> {
        if batches.is_empty() {
            return Ok(Vec::new());
        }
        for _ in 0..ATTEMPTS {
            let mut pending = Pending::default();
            let ids = self.resolve(batches, &mut pending)?;
            if !pending.new.is_empty() {
                self.create(conn, batches, day).await?;
                continue;
            }
            if !pending.kinds.is_empty() {
                self.change_kinds(conn, pending, day).await?;
            }
            if let Some(rows) = keep_shapes(conn, &ids).await? {
                return Ok(rows.into_iter().zip(ids).map(|row| self.shape(row)).collect());
            }
            self.refresh_with(conn).await?;
        }
        Err(Failure::Moved)
    }

    fn resolve(&self, batches: &[&Batch], pending: &mut Pending) -> Did<Vec<Vec<u32>>> {
        let registry = self.0.registry.read();
        let ids = batches.iter().map(|batch| registry.resolve(batch, pending));
        Ok(ids.collect::<Result<_, _>>()?)
    }

    /// A shape that is kept in this row.
    fn shape(&self, (row, ids): (i64, Vec<u32>)) -> Arc<Shape> {
        let mut cache = self.0.cache.lock();
        let shape = cache.shape(row).unwrap_or_else(|| Shape::new(ids));
        let _ = shape.row.set(row);
        cache.put_shape(row, &shape);
        shape
    }

    /// Gives ids to the series of batches that have none.
    async fn create(&self, conn: &mut PgConnection, batches: &[&Batch], day: i64) -> Did<()> {
        let mut tx = conn.begin().await?;
        let change = next_change(&mut tx).await?;
        self.refresh_with(&mut tx).await?;
        let mut pending = Pending::default();
        self.resolve(batches, &mut pending)?;
        if pending.new.is_empty() {
            return Ok(tx.rollback().await?);
        }
        let sql = "UPDATE meta SET value = value + $1 WHERE key = 'last_series' RETURNING value";
        let count = pending.new.len() as i64;
        let last: i64 = sqlx::query_scalar(sql).bind(count).fetch_one(&mut *tx).await?;
        if last > i64::from(MAX_SERIES_ID) {
            return Err(StoreError::Conflict(format!(
                "the database has had {MAX_SERIES_ID} series and takes no more; find the label \
                 with too many values among those of {:?} and drop it in a transform",
                pending.new[0].key.name
            ))
            .into());
        }
        let mut first = last - count + 1;
        for some in pending.new.chunks(PAGE) {
            insert(&mut tx, some, first, day, change).await?;
            first += some.len() as i64;
        }
        tx.commit().await?;
        // One that came back has the id that it had.
        self.refresh_with(conn).await
    }

    async fn change_kinds(&self, conn: &mut PgConnection, pending: Pending, day: i64) -> Did<()> {
        let mut tx = conn.begin().await?;
        let change = next_change(&mut tx).await?;
        let (ids, kinds): (Vec<i32>, Vec<i16>) =
            pending.kinds.iter().map(|(&id, &kind)| (id as i32, i16::from(kind))).unzip();
        let sql = "UPDATE series s SET kind = n.kind, changed = $3 \
                   FROM unnest($1::int[], $2::smallint[]) AS n(id, kind) WHERE s.id = n.id";
        sqlx::query(sql).bind(ids).bind(kinds).bind(change).execute(&mut *tx).await?;
        tx.commit().await?;
        self.0.registry.write().publish(pending, day);
        Ok(())
    }

    /// Shapes by their rows, from memory or from the database.
    pub(super) async fn shapes(
        &self,
        conn: &mut PgConnection,
        rows: impl IntoIterator<Item = i64>,
    ) -> Did<BTreeMap<i64, Arc<Shape>>> {
        let wanted: BTreeSet<i64> = rows.into_iter().collect();
        let mut found = BTreeMap::new();
        let mut absent = Vec::new();
        for row in wanted {
            match self.0.cache.lock().shape(row) {
                Some(shape) => drop(found.insert(row, shape)),
                None => absent.push(row),
            }
        }
        for rows in absent.chunks(PAGE) {
            let sql = "SELECT id, series FROM shapes WHERE id = ANY($1)";
            for row in sqlx::query(sql).bind(rows).fetch_all(&mut *conn).await? {
                let (id, series): (i64, Vec<i32>) = (row.try_get(0)?, row.try_get(1)?);
                let shape = Shape::new(series.into_iter().map(i32::unsigned_abs).collect());
                let _ = shape.row.set(id);
                self.0.cache.lock().put_shape(id, &shape);
                found.insert(id, shape);
            }
        }
        Ok(found)
    }
}

async fn insert(
    conn: &mut PgConnection,
    new: &[NewSeries],
    first: i64,
    day: i64,
    change: i64,
) -> Did<()> {
    let ids: Vec<i32> = (first..).take(new.len()).map(|id| id as i32).collect();
    let digests: Vec<Vec<u8>> = new.iter().map(|n| digest(&n.key)).collect();
    let names: Vec<_> = new.iter().map(|n| text::kept(&n.key.name).into_owned()).collect();
    let labels: Vec<String> =
        new.iter().map(|n| kept_labels(&n.key.labels)).collect::<Result<_, _>>()?;
    let kinds: Vec<i16> = new.iter().map(|n| i16::from(n.kind)).collect();
    let sql = "INSERT INTO series (id, digest, name, labels, kind, seen, changed) \
               SELECT n.id, n.digest, n.name, n.labels::jsonb, n.kind, $6, $7 FROM \
               unnest($1::int[], $2::bytea[], $3::text[], $4::text[], $5::smallint[]) \
               AS n(id, digest, name, labels, kind) \
               ON CONFLICT (digest) DO UPDATE SET gone = false, kind = excluded.kind, \
               seen = excluded.seen, changed = excluded.changed";
    let query = sqlx::query(sql).bind(ids).bind(digests).bind(names).bind(labels).bind(kinds);
    query.bind(day).bind(change).execute(conn).await?;
    Ok(())
}

/// The rows of shapes; None where a series of one is gone.
pub(super) async fn keep_shapes(
    conn: &mut PgConnection,
    shapes: &[impl AsRef<[u32]>],
) -> Did<Option<Vec<i64>>> {
    let mut tx = conn.begin().await?;
    let distinct: BTreeSet<u32> = shapes.iter().flat_map(|ids| ids.as_ref()).copied().collect();
    let series = numbers(&distinct.into_iter().collect::<Vec<_>>());
    // Held until the shapes stand, which then keep them.
    let sql = "SELECT count(*) FROM (SELECT 1 FROM series WHERE id = ANY($1) AND NOT gone \
               ORDER BY id FOR SHARE) AS held";
    let held: i64 = sqlx::query_scalar(sql).bind(&series).fetch_one(&mut *tx).await?;
    if held != series.len() as i64 {
        tx.rollback().await?;
        return Ok(None);
    }
    let rows = insert_shapes(&mut tx, shapes).await?;
    tx.commit().await?;
    Ok(Some(rows))
}

/// Their rows, in their order. Each different shape is written once, and in one order everywhere,
/// so that no two transactions wait for each other.
async fn insert_shapes(conn: &mut PgConnection, shapes: &[impl AsRef<[u32]>]) -> Did<Vec<i64>> {
    let digests: Vec<Vec<u8>> = shapes.iter().map(|ids| shape_digest(ids.as_ref())).collect();
    let different: BTreeMap<&[u8], &[u32]> =
        digests.iter().map(Vec::as_slice).zip(shapes.iter().map(AsRef::as_ref)).collect();
    let keys: Vec<&[u8]> = different.keys().copied().collect();
    let mut ends = vec![0];
    let mut series = Vec::new();
    for ids in different.values() {
        series.extend(numbers(ids));
        ends.push(series.len() as i32);
    }
    let sql = "INSERT INTO shapes (digest, series) \
               SELECT n.digest, ($2::int[])[n.before + 1 : n.last] \
               FROM unnest($1::bytea[], $3::int[], $4::int[]) AS n(digest, before, last) \
               ON CONFLICT (digest) DO UPDATE SET digest = excluded.digest RETURNING digest, id";
    let query = sqlx::query(sql).bind(keys).bind(series);
    let rows = query.bind(&ends[..ends.len() - 1]).bind(&ends[1..]).fetch_all(conn).await?;
    let mut found = BTreeMap::new();
    for row in &rows {
        found.insert(row.try_get::<Vec<u8>, _>(0)?, row.try_get::<i64, _>(1)?);
    }
    let row = |digest| found.get(digest).copied().ok_or(Failure::Moved);
    digests.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_tell_where_a_text_ends() {
        let key = |name: &str, labels: &[(&str, &str)]| SeriesKey {
            name: name.into(),
            labels: labels.iter().copied().collect(),
        };
        let keys = [
            key("ab", &[("c", "d")]),
            key("a", &[("bc", "d")]),
            key("a", &[("b", "cd")]),
            key("a", &[("b", "c"), ("d", "")]),
            key("a", &[("b", ""), ("c", "d")]),
        ];
        let digests: BTreeSet<_> = keys.iter().map(digest).collect();
        assert_eq!(digests.len(), keys.len());
        assert_ne!(shape_digest(&[1, 2]), shape_digest(&[2, 1]));
    }
}
