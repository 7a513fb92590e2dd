//! The statements of a commit.

use super::failure::{Did, Failure};
use super::plan::{LedgerRow, NewBatch, Plan, SKIPPED, Stream, StreamKey, Verdict};
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

/// Moves the streams, which must stand where they were seen, and adds their ledger rows.
pub(super) async fn write_streams(
    conn: &mut PgConnection,
    plan: &Plan,
    token: i64,
    now: i64,
) -> Did<()> {
    let (mut ids, mut from, mut to) = (Vec::new(), Vec::new(), Vec::new());
    for change in plan.moved() {
        ids.push(change.id);
        from.push(change.from as i64);
        to.push(change.to as i64);
    }
    let sql = "UPDATE streams s SET committed = n.last, last_commit = $4 \
               FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS n(id, first, last) \
               WHERE s.id = n.id AND s.committed = n.first";
    let query = sqlx::query(sql).bind(&ids).bind(from).bind(to).bind(now);
    if query.execute(&mut *conn).await?.rows_affected() != ids.len() as u64 {
        return Err(Failure::Moved);
    }
    let column = |value: fn(&LedgerRow) -> i64| plan.ledger.iter().map(value).collect::<Vec<_>>();
    let rows: Vec<i32> = plan.ledger.iter().map(|row| row.rows as i32).collect();
    let states: Vec<i16> = plan.ledger.iter().map(|row| row.state).collect();
    let hashes: Vec<&[u8]> = plan.ledger.iter().map(|row| &row.hash[..]).collect();
    let sql = "INSERT INTO ledger (stream, seq, last, rows, state, hash, token) \
               SELECT n.*, $7 FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], \
               $5::smallint[], $6::bytea[]) AS n";
    sqlx::query(sql)
        .bind(column(|row| row.stream))
        .bind(column(|row| row.seq as i64))
        .bind(column(|row| row.last as i64))
        .bind(rows)
        .bind(states)
        .bind(hashes)
        .bind(token)
        .execute(conn)
        .await?;
    Ok(())
}

/// The times of a batch as they are stored: one where all rows have the same.
pub(super) fn stored_times(data: &Decoded) -> Vec<i64> {
    match &data.times {
        Times::One(time) => vec![*time],
        Times::Many(times) => times.to_vec(),
    }
}

pub(super) async fn write_batch(
    conn: &mut PgConnection,
    new: &NewBatch,
    hour: i64,
    now: i64,
) -> Did<i64> {
    let (first, last) = new.data.times.span();
    let sql = "INSERT INTO batches (hour, stream, shape, committed_at, first, last, times, values) \
               VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING id";
    let query = sqlx::query_scalar(sql)
        .bind(hour)
        .bind(new.stream)
        .bind(new.shape.row.get())
        .bind(now)
        .bind(first)
        .bind(last)
        .bind(stored_times(&new.data))
        .bind(&new.data.values[..]);
    Ok(query.fetch_one(conn).await?)
}
