//! Partitions: made before they are needed, dropped with everything in them. Hypertables make theirs
//! themselves.

use super::PostgresStore;
use super::failure::{Did, Failure};
use super::level::Layout;
use sqlx::postgres::PgConnection;
use sqlx::{Acquire, AssertSqlSafe, Row};

/// Held while partitions are made or dropped: two processes would meet half-way.
const LOCK: i64 = 0x53_454e_5449_0001;
/// How long a drop waits for those who read.
const PATIENCE: &str = "500ms";
/// The most hours that are remembered.
const MAX_HOURS: usize = 64;
/// How far ahead of now a time may lie and still get a partition of its own, in hours.
pub(super) const AHEAD: i64 = 24;

/// A table that is partitioned by ranges of hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parted {
    /// Its name.
    pub(super) table: &'static str,
    /// Hours of one partition.
    pub(super) hours: i64,
    /// Where rows stand that lie outside all others.
    ahead: Option<&'static str>,
    /// The hypertable that is there instead, of which `table` is then a view with `ahead`.
    hyper: Option<&'static str>,
}

/// These stay partitions on every level: one goes when its last row was deleted, not by its age.
pub(super) const BATCHES: Parted = Parted { table: "batches", hours: 1, ahead: None, hyper: None };
pub(super) const TIMES: Parted = Parted {
    table: "chunk_times",
    hours: 24,
    ahead: Some("chunk_times_ahead"),
    hyper: Some("chunk_times_hyper"),
};
pub(super) const CHUNKS: Parted =
    Parted { table: "chunks", hours: 24, ahead: Some("chunks_ahead"), hyper: Some("chunks_hyper") };
pub(super) const ROLLUPS: Parted = Parted {
    table: "rollups",
    hours: 168,
    ahead: Some("rollups_ahead"),
    hyper: Some("rollups_hyper"),
};

impl Parted {
    /// The table that stands for it in a layout; none where `table` itself does.
    fn hyper(self, layout: Layout) -> Option<&'static str> {
        self.hyper.filter(|_| layout != Layout::Partitions)
    }

    /// Where rows of an hour are written. PostgreSQL finds partitions itself.
    pub(super) fn home(self, layout: Layout, is_ahead: bool) -> &'static str {
        match self.hyper(layout) {
            Some(_) if is_ahead => self.ahead.unwrap_or(self.table),
            Some(hyper) => hyper,
            None => self.table,
        }
    }

    /// All tables in which rows of an hour may stand already.
    pub(super) fn homes(self, layout: Layout) -> impl Iterator<Item = &'static str> {
        let own = self.home(layout, false);
        [Some(own), self.ahead]
            .into_iter()
            .flatten()
            .filter(move |t| *t == own || own != self.table)
    }

    /// The first hour of the partition in which an hour lies.
    fn start(self, hour: i64) -> i64 {
        hour.div_euclid(self.hours) * self.hours
    }

    /// The name of a partition; hours before 1970 have an `m` for the sign.
    fn name(self, start: i64) -> String {
        let sign = if start < 0 { "m" } else { "" };
        format!("{}_{sign}{}", self.table, start.unsigned_abs())
    }

    fn start_of(self, name: &str) -> Option<i64> {
        let number = name.strip_prefix(self.table)?.strip_prefix('_')?;
        match number.strip_prefix('m') {
            Some(number) => number.parse::<i64>().ok().map(|n| -n),
            None => number.parse().ok(),
        }
    }
}

async fn run(conn: &mut PgConnection, sql: String) -> Did<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

async fn lock(conn: &mut PgConnection) -> Did<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(conn).await?;
    Ok(())
}

/// The partitions that there are, by their first hours, ascending.
pub(super) async fn list(conn: &mut PgConnection, parted: Parted) -> Did<Vec<i64>> {
    let sql = "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
               WHERE i.inhparent = $1::regclass";
    let rows = sqlx::query(sql).bind(parted.table).fetch_all(conn).await?;
    let names = rows.iter().map(|row| row.try_get::<&str, _>(0));
    let mut starts = Vec::new();
    for name in names {
        starts.extend(parted.start_of(name?));
    }
    starts.sort_unstable();
    Ok(starts)
}

/// Makes the partition for an hour, and moves into it what lay ahead.
pub(super) async fn ensure(
    conn: &mut PgConnection,
    layout: Layout,
    parted: Parted,
    hour: i64,
) -> Did<()> {
    match (parted.hyper(layout), parted.ahead) {
        (Some(hyper), Some(ahead)) => take_in(conn, parted, hour, ahead, hyper).await,
        _ => partition(conn, parted, hour).await,
    }
}

/// Moves what lay ahead into the hypertable, which makes a chunk for it.
async fn take_in(
    conn: &mut PgConnection,
    parted: Parted,
    hour: i64,
    ahead: &str,
    hyper: &str,
) -> Did<()> {
    let start = parted.start(hour);
    let rows =
        format!("FROM {ahead} WHERE bucket >= {start} AND bucket < {}", start + parted.hours);
    let sql = format!("SELECT EXISTS (SELECT 1 {rows})");
    if !sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *conn).await? {
        return Ok(());
    }
    let mut tx = conn.begin().await?;
    lock(&mut tx).await?;
    run(&mut tx, format!("INSERT INTO {hyper} SELECT * {rows}; DELETE {rows};")).await?;
    tx.commit().await?;
    Ok(())
}

async fn partition(conn: &mut PgConnection, parted: Parted, hour: i64) -> Did<()> {
    let start = parted.start(hour);
    let (name, end, table) = (parted.name(start), start + parted.hours, parted.table);
    let mut tx = conn.begin().await?;
    lock(&mut tx).await?;
    if list(&mut tx, parted).await?.binary_search(&start).is_err() {
        let mut sql = format!("CREATE TABLE {name} (LIKE {table} INCLUDING ALL);");
        if let Some(ahead) = parted.ahead {
            let rows = format!("FROM {ahead} WHERE bucket >= {start} AND bucket < {end}");
            sql += &format!("INSERT INTO {name} SELECT * {rows}; DELETE {rows};");
        }
        sql += &format!(
            "ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end});"
        );
        run(&mut tx, sql).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Drops a partition. Where `if_empty`, one that has rows stays; whether it was dropped.
///
/// A drop needs the whole table for itself for a moment, and whoever comes while it waits for somebody who reads waits
/// behind it. So it waits [`PATIENCE`] at most, and the look before keeps writers alone away: a reader has the table
/// and asks for its partitions one by one, and would stand in the way of a drop that stands in its own.
pub(super) async fn drop_one(
    conn: &mut PgConnection,
    parted: Parted,
    start: i64,
    if_empty: bool,
) -> Did<bool> {
    let name = parted.name(start);
    let mut tx = conn.begin().await?;
    lock(&mut tx).await?;
    run(&mut tx, format!("SET LOCAL lock_timeout = '{PATIENCE}'")).await?;
    if if_empty {
        // Nobody adds a row between the look and the end.
        run(&mut tx, format!("LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")).await?;
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {name})");
        if sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *tx).await? {
            return Ok(false);
        }
    }
    run(&mut tx, format!("DROP TABLE {name}")).await?;
    tx.commit().await?;
    Ok(true)
}

async fn drop_partitions(conn: &mut PgConnection, parted: Parted, floor: i64) -> Did<()> {
    for start in list(conn, parted).await? {
        if start + parted.hours > floor {
            break;
        }
        match drop_one(conn, parted, start, false).await {
            Ok(_) => {}
            // Somebody reads it for long: it goes another time.
            Err(failure) if failure.is_locked_out() => break,
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

impl PostgresStore {
    /// Makes sure that batches of an hour of commits have their partition.
    pub(super) async fn ensure_hour(&self, conn: &mut PgConnection, hour: i64) -> Did<()> {
        if self.0.hours.lock().contains(&hour) {
            return Ok(());
        }
        partition(conn, BATCHES, hour).await?;
        let mut hours = self.0.hours.lock();
        if hours.len() >= MAX_HOURS {
            hours.clear();
        }
        hours.insert(hour);
        Ok(())
    }

    /// Drops the partitions that end at or below a floor.
    pub(super) async fn drop_below(
        &self,
        conn: &mut PgConnection,
        parted: Parted,
        floor: i64,
    ) -> Did<()> {
        let Some(hyper) = parted.hyper(self.0.found.layout) else {
            return drop_partitions(conn, parted, floor).await;
        };
        let sql = match self.0.found.layout {
            Layout::Hypertables => {
                format!("SELECT drop_chunks('{hyper}', older_than => {floor}::bigint)")
            }
            Layout::Partitions | Layout::Tables => {
                format!("DELETE FROM {hyper} WHERE bucket < {floor}")
            }
        };
        match run(conn, sql).await {
            Err(failure) if !failure.is_locked_out() => Err(failure),
            _ => Ok(()),
        }
    }

    /// Drops the partitions of batches of past hours that are packed.
    pub(super) async fn drop_packed(&self, conn: &mut PgConnection, now: i64) -> Did<()> {
        for start in list(conn, BATCHES).await? {
            if start >= now {
                break;
            }
            match drop_one(conn, BATCHES, start, true).await {
                Ok(true) => drop(self.0.hours.lock().remove(&start)),
                Ok(false) => {}
                Err(failure) if failure.is_locked_out() => break,
                Err(failure @ (Failure::Sql(_) | Failure::Moved | Failure::Store(_))) => {
                    return Err(failure);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_known_by_its_name() {
        for (parted, hour, name) in [
            (BATCHES, 482_136, "batches_482136"),
            (CHUNKS, 482_159, "chunks_482136"),
            (CHUNKS, -1, "chunks_m24"),
            (ROLLUPS, 168, "rollups_168"),
        ] {
            let start = parted.start(hour);
            assert_eq!(parted.name(start), name);
            assert_eq!(parted.start_of(name), Some(start));
        }
        assert_eq!(CHUNKS.start_of("chunks_ahead"), None);
        assert_eq!(CHUNKS.start_of("chunk_times_24"), None);
    }

    #[test]
    fn a_row_is_written_to_one_table_and_sought_in_all_that_may_have_it() {
        let homes = |layout| CHUNKS.homes(layout).collect::<Vec<_>>();
        assert_eq!(homes(Layout::Partitions), ["chunks"]);
        assert_eq!(CHUNKS.home(Layout::Partitions, true), "chunks");
        for layout in [Layout::Hypertables, Layout::Tables] {
            assert_eq!(homes(layout), ["chunks_hyper", "chunks_ahead"]);
            assert_eq!(CHUNKS.home(layout, false), "chunks_hyper");
            assert_eq!(CHUNKS.home(layout, true), "chunks_ahead");
        }
    }
}
