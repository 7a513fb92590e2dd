//! Series and shapes: ids are given under the lock of one row, so that whoever reads changes by
//! their number misses none.

use super::failure::{Again, Did, Failure, retried};
use super::{PostgresStore, text};
use crate::StoreError;
use crate::samples::series::{MAX_SERIES_ID, NewSeries, Pending, Registry};
use crate::samples::tail::Shape;
use sentinel_model::batch::Batch;
use sentinel_model::series::{Labels, SeriesKey};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Acquire, Row};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Series read or written at once.
const PAGE: usize = 10_000;
/// As many labels as most series have at most.
const LABELS: usize = 8;
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

/// Series as [`take_in`] reads them, which are not gone.
async fn page(conn: &mut PgConnection, after: i32) -> Did<Vec<PgRow>> {
    let sql = "SELECT id, name, labels::text, kind, seen, gone, changed FROM series \
               WHERE id > $1 AND NOT gone ORDER BY id LIMIT $2";
    Ok(sqlx::query(sql).bind(after).bind(PAGE as i64).fetch_all(conn).await?)
}

fn take_in(registry: &mut Registry, row: &PgRow) -> Did<()> {
    let id = row.try_get::<i32, _>(0)?.unsigned_abs();
    let is_known = registry.has(id);
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
    let LabelsSeen(labels) = serde_json::from_str(row.try_get(2)?)?;
    let name = text::seen(row.try_get::<&str, _>(1)?.into());
    registry.load(id, &name, labels.iter().map(|(k, v)| (&**k, &**v)), (kind, seen));
    Ok(())
}

/// Labels as [`kept_labels`] wrote them, in order of keys.
struct LabelsSeen<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for LabelsSeen<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LabelsVisitor)
    }
}

/// A text that needs no memory of its own where JSON has it as it is.
#[derive(Deserialize)]
struct TextSeen<'a>(#[serde(borrow)] Cow<'a, str>);

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = LabelsSeen<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut labels = Vec::with_capacity(LABELS);
        while let Some((TextSeen(key), TextSeen(value))) = map.next_entry()? {
            labels.push((text::seen(key), text::seen(value)));
        }
        // PostgreSQL orders keys by their lengths first.
        labels.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(LabelsSeen(labels))
    }
}

impl PostgresStore {
    /// Takes all series into a registry that has none yet, in order of their ids: each page is read while the one before
    /// it is taken in.
    pub(super) async fn load(&self) -> Result<(), StoreError> {
        retried(Again::Whenever, || async {
            let mut conn = self.0.pool.acquire().await?;
            let mut changed = self.0.changed.lock().await;
            // Whoever gave this number, or one before it, has committed.
            let sql = "SELECT value FROM meta WHERE key = 'changed'";
            let seen: i64 = sqlx::query_scalar(sql).fetch_one(&mut *conn).await?;
            let mut rows = page(&mut conn, 0).await?;
            while let Some(last) = rows.last() {
                let last = last.try_get(0)?;
                let store = self.clone();
                let taking = tokio::task::spawn_blocking(move || store.take_all(&rows));
                let (taken, next) = tokio::join!(taking, page(&mut conn, last));
                taken.map_err(|e| StoreError::Engine(e.to_string()))??;
                rows = next?;
            }
            *changed = seen;
            Ok(())
        })
        .await
    }

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
        // Mostly nothing is new, and nothing is looked at: a change may have made all series that there are.
        let mut new = "changed > $1 AND $2 IS NOT NULL";
        let mut last = (*changed, i32::MAX);
        loop {
            let sql = format!(
                "SELECT id, name, labels::text, kind, seen, gone, changed FROM series \
                 WHERE {new} ORDER BY changed, id LIMIT $3"
            );
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(last.0).bind(last.1);
            let rows = query.bind(PAGE as i64).fetch_all(&mut *conn).await?;
            new = "(changed, id) > ($1, $2)";
            self.take_all(&rows)?;
            if let Some(row) = rows.last() {
                last = (row.try_get(6)?, row.try_get(0)?);
            }
            // A page may end inside a change: it counts once the next one has begun.
            if rows.len() < PAGE {
                *changed = last.0;
                return Ok(());
            }
        }
    }

    fn take_all(&self, rows: &[PgRow]) -> Did<()> {
        let mut registry = self.0.registry.write();
        rows.iter().try_for_each(|row| take_in(&mut registry, row))
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
    fn labels_come_in_order_of_their_keys_as_they_were_kept() {
        let labels: Labels =
            [("z", "1"), ("aa", "line\nand \"quote\""), ("b\0", "\u{e000}")].into_iter().collect();
        let kept = kept_labels(&labels).unwrap();
        // As jsonb has them: short keys first.
        let jsonb = kept.replace(r#""aa":"#, r#""aa" : "#);
        let LabelsSeen(seen) = serde_json::from_str(&jsonb).unwrap();
        let seen: Vec<_> = seen.iter().map(|(k, v)| (&**k, &**v)).collect();
        assert_eq!(seen, labels.iter().collect::<Vec<_>>());
        let LabelsSeen(turned) = serde_json::from_str(r#"{"b":"1","aa":"2"}"#).unwrap();
        assert_eq!(turned, [("aa".into(), "2".into()), ("b".into(), "1".into())]);
        assert!(serde_json::from_str::<LabelsSeen<'_>>(r#"{"b":1}"#).is_err());
    }

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
