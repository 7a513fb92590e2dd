//! The statements of a commit.

use super::failure::{Did, Failure};
use super::plan::{NewBatch, Plan, SKIPPED, Stream, StreamKey, Verdict};
use crate::ingest::{Commit, StreamState};
use crate::samples::tail::{Decoded, Times};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// Streams from the database, in their order; one that is unknown has no id and all zeros.
pub(super) async fn read_streams(conn: &mut PgConnection, keys: &[StreamKey]) -> Did<Vec<Stream>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "SELECT coalesce(s.id, 0), coalesce(s.committed, 0), coalesce(s.rewind_attempt, 0) \
               FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS k(agent, epoch, place) \
               LEFT JOIN streams s ON s.agent = k.agent AND s.epoch = k.epoch ORDER BY k.place";
    let (agents, epochs) = columns(keys);
    let rows = sqlx::query(sql).bind(agents).bind(epochs).fetch_all(conn).await?;
    let stream = |row: &PgRow| -> Did<Stream> {
        let state = StreamState {
            committed: row.try_get::<i64, _>(1)? as u64,
            rewind_attempt: row.try_get::<i64, _>(2)? as u32,
        };
        Ok(Stream { id: row.try_get(0)?, state })
    };
    rows.iter().map(stream).collect()
}

/// Gives each stream a row, unless it has one.
pub(super) async fn add_streams(conn: &mut PgConnection, keys: &[StreamKey]) -> Did<()> {
    let sql = "INSERT INTO streams (agent, epoch, committed, rewind_attempt, last_commit) \
               SELECT k.*, 0, 0, 0 FROM unnest($1::text[], $2::bytea[]) AS k(agent, epoch) \
               ON CONFLICT DO NOTHING";
    let (agents, epochs) = columns(keys);
    sqlx::query(sql).bind(agents).bind(epochs).execute(conn).await?;
    Ok(())
}

fn columns(keys: &[StreamKey]) -> (Vec<&str>, Vec<&[u8]>) {
    keys.iter().map(|(agent, epoch)| (agent.as_str(), &epoch.0[..])).unzip()
}

/// Whether a record that was committed before was this one.
pub(super) async fn compare(conn: &mut PgConnection, stream: i64, commit: &Commit) -> Did<Verdict> {
    let sql = "SELECT last, state, hash FROM ledger WHERE stream = $1 AND seq <= $2 \
               ORDER BY seq DESC LIMIT 1";
    let query = sqlx::query(sql).bind(stream).bind(commit.seq as i64);
    Ok(match query.fetch_optional(conn).await? {
        Some(row) if row.try_get::<i64, _>(0)? >= commit.seq as i64 => {
            let same = row.try_get::<i16, _>(1)? != SKIPPED
                && row.try_get::<&[u8], _>(2)? == &commit.hash[..];
            if same { Verdict::Duplicate } else { Verdict::Contradiction }
        }
        // No longer in the ledger: nothing to compare with.
        _ => Verdict::Duplicate,
    })
}

/// What one statement writes, and all of it or nothing: streams move, if each stands where it was seen, and then their
/// ledger rows and batches are added. Every round trip of a commit keeps the streams of its agents locked.
const WRITE: &str = "\
WITH moved AS ( \
    UPDATE streams s SET committed = n.last, last_commit = $4 \
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(id, first, last) \
    WHERE s.id = n.id AND s.committed = n.first RETURNING 1), \
did AS (SELECT count(*) = cardinality($1::bigint[]) AS move FROM moved), \
kept AS ( \
    INSERT INTO ledger (stream, seq, last, rows, state, hash, token) \
    SELECT n.*, $5 FROM did, unnest($6::bigint[], $7::bigint[], $8::bigint[], $9::int[], \
    $10::smallint[], $11::bytea[]) AS n WHERE did.move), \
added AS ( \
    INSERT INTO batches (hour, stream, shape, committed_at, first, last, times, values) \
    SELECT $12, n.stream, n.shape, $4, n.first, n.last, \
    ($13::bigint[])[n.times_before + 1 : n.times_to], \
    ($14::float8[])[n.values_before + 1 : n.values_to] \
    FROM did, unnest($15::bigint[], $16::bigint[], $17::bigint[], $18::bigint[], $19::int[], \
    $20::int[], $21::int[], $22::int[]) WITH ORDINALITY \
    AS n(stream, shape, first, last, times_before, times_to, values_before, values_to, place) \
    WHERE did.move ORDER BY n.place RETURNING id) \
SELECT did.move, ARRAY(SELECT id FROM added ORDER BY id) FROM did";

/// Moves the streams, which must stand where they were seen, and adds their ledger rows and batches; the batches' ids, in
/// their order.
pub(super) async fn write(
    conn: &mut PgConnection,
    plan: &Plan,
    (token, hour, now): (i64, i64, i64),
) -> Did<Vec<i64>> {
    let moved = || plan.moved();
    let ledger = || plan.ledger.iter();
    let batches = Batches::of(&plan.batches);
    let new = || plan.batches.iter();
    let row = sqlx::query(WRITE)
        .bind(moved().map(|change| change.id).collect::<Vec<_>>())
        .bind(moved().map(|change| change.from as i64).collect::<Vec<_>>())
        .bind(moved().map(|change| change.to as i64).collect::<Vec<_>>())
        .bind(now)
        .bind(token)
        .bind(ledger().map(|row| row.stream).collect::<Vec<_>>())
        .bind(ledger().map(|row| row.seq as i64).collect::<Vec<_>>())
        .bind(ledger().map(|row| row.last as i64).collect::<Vec<_>>())
        .bind(ledger().map(|row| row.rows as i32).collect::<Vec<_>>())
        .bind(ledger().map(|row| row.state).collect::<Vec<_>>())
        .bind(ledger().map(|row| &row.hash[..]).collect::<Vec<_>>())
        .bind(hour)
        .bind(&batches.times[..])
        .bind(&batches.values[..])
        .bind(new().map(|new| new.stream).collect::<Vec<_>>())
        .bind(new().map(|new| new.shape.row.get().copied()).collect::<Vec<_>>())
        .bind(new().map(|new| new.data.times.span().0).collect::<Vec<_>>())
        .bind(new().map(|new| new.data.times.span().1).collect::<Vec<_>>())
        .bind(&batches.times_ends[..batches.times_ends.len() - 1])
        .bind(&batches.times_ends[1..])
        .bind(&batches.values_ends[..batches.values_ends.len() - 1])
        .bind(&batches.values_ends[1..])
        .fetch_one(conn)
        .await?;
    match row.try_get(0)? {
        true => Ok(row.try_get(1)?),
        false => Err(Failure::Moved),
    }
}

/// Columns of batches behind each other; the statement cuts them apart, since an array of arrays would need all of one
/// length.
struct Batches {
    times: Vec<i64>,
    /// Where each ends, after a 0.
    times_ends: Vec<i32>,
    values: Vec<f64>,
    values_ends: Vec<i32>,
}

impl Batches {
    fn of(all: &[NewBatch]) -> Self {
        let rows = all.iter().map(|new| new.data.values.len()).sum();
        let mut out = Self {
            times: Vec::new(),
            times_ends: vec![0],
            values: Vec::with_capacity(rows),
            values_ends: vec![0],
        };
        for NewBatch { data, .. } in all {
            out.times.extend(stored_times(data));
            out.times_ends.push(out.times.len() as i32);
            out.values.extend_from_slice(&data.values);
            out.values_ends.push(out.values.len() as i32);
        }
        out
    }
}

/// The times of a batch as they are stored: one where all rows have the same.
pub(super) fn stored_times(data: &Decoded) -> Vec<i64> {
    match &data.times {
        Times::One(time) => vec![*time],
        Times::Many(times) => times.to_vec(),
    }
}
