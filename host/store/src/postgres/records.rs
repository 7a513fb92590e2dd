//! Committed records, by their streams and numbers.

use super::PostgresStore;
use super::failure::{Again, Did, retried};
use super::ledger;
use super::read::decoded;
use super::slots::dead_letter;
use crate::StoreError;
use crate::ingest::{AgentStream, DeadLetter, LedgerEntry, StreamState};
use crate::tail::TailBatch;
use sentinel_model::ids::{AgentId, Epoch, Position};
use sqlx::Row;
use sqlx::postgres::{PgConnection, PgRow};

/// Transactions before their 32-bit numbers begin anew.
const XIDS: i64 = 1 << 32;

/// A record's number as it is stored; none is above.
fn number(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Where the batch of a record lies: it has the transaction and the stream of its ledger row, and the place
/// among the batches of both that the record has among those that brought samples.
struct Place {
    stream: i64,
    xid: i64,
    rows: i64,
    before: i64,
    all: i64,
}

/// None where the ledger has no such record that brought samples, or does not tell its transaction: the rows of a
/// database that was restored from a dump all have that of the restore.
async fn place(conn: &mut PgConnection, agent: &AgentId, at: Position) -> Did<Option<Place>> {
    let sql = "WITH one AS (SELECT l.stream, l.rows, l.token, l.xmin::text::bigint AS made \
                 FROM ledger l JOIN streams s ON s.id = l.stream WHERE s.agent = $1 \
                 AND s.epoch = $2 AND l.seq = $3 AND l.state = 0 AND l.rows > 0), \
               beside AS (SELECT l.token = one.token AS same, l.state = 0 AND l.rows > 0 AS brought, \
                 l.seq < $3 AS before, l.xmin::text::bigint = one.made AS together, one.* \
                 FROM one JOIN ledger l ON l.stream = one.stream) \
               SELECT stream, made, pg_snapshot_xmax(pg_current_snapshot())::text::bigint, rows, \
               count(*) FILTER (WHERE same AND brought AND before), \
               count(*) FILTER (WHERE same AND brought), bool_and(same = together) \
               FROM beside GROUP BY stream, made, rows";
    let query = sqlx::query(sql).bind(agent.as_str()).bind(&at.epoch.0[..]).bind(number(at.seq));
    let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
    if !row.try_get::<bool, _>(6)? {
        return Ok(None);
    }
    let (made, next): (i64, i64) = (row.try_get(1)?, row.try_get(2)?);
    // The newest transaction with this number that has begun.
    let xid = next - next.rem_euclid(XIDS) + made;
    Ok(Some(Place {
        stream: row.try_get(0)?,
        xid: if xid < next { xid } else { xid - XIDS },
        rows: i64::from(row.try_get::<i32, _>(3)?),
        before: row.try_get(4)?,
        all: row.try_get(5)?,
    }))
}

impl PostgresStore {
    /// Where streams stand, in their order.
    pub(super) async fn states_of(
        &self,
        streams: &[(AgentId, Epoch)],
    ) -> Result<Vec<StreamState>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let mut conn = self.0.pool.acquire().await?;
            let found = ledger::read_streams(&mut conn, streams).await?;
            Ok(found.into_iter().map(|one| one.state).collect())
        })
        .await
    }

    pub(super) async fn read_brought(
        &self,
        agent: &AgentId,
        at: Position,
    ) -> Result<Option<TailBatch>, StoreError> {
        self.still_open()?;
        retried(Again::Whenever, || async move {
            let mut conn = self.0.pool.acquire().await?;
            let Some(place) = place(&mut conn, agent, at).await? else { return Ok(None) };
            let sql = "SELECT shape, times, values, among FROM (SELECT id, shape, times, values, \
                       count(*) OVER () AS among FROM batches WHERE xid = $1::text::xid8 \
                       AND stream = $2) AS b ORDER BY id OFFSET $3 LIMIT 1";
            let query = sqlx::query(sql).bind(place.xid.to_string()).bind(place.stream);
            let Some(row) = query.bind(place.before).fetch_optional(&mut *conn).await? else {
                return Ok(None);
            };
            let (shape, data) = (row.try_get(0)?, decoded(&row, 1, 2)?);
            let shapes = self.shapes(&mut conn, [shape]).await?;
            // Of those that were committed together some are packed, or of this one a part.
            let is_whole =
                row.try_get::<i64, _>(3)? == place.all && data.values.len() as i64 == place.rows;
            // A batch that was packed since has lost its shape.
            let Some(shape) = shapes.get(&shape).filter(|_| is_whole) else { return Ok(None) };
            let times = (0..data.values.len()).map(|row| data.times.at(row)).collect();
            let (series, values) = (shape.ids.to_vec(), data.values.into_vec());
            Ok(Some(TailBatch { series, times, values }))
        })
        .await
    }

    pub(super) async fn read_dead_letter(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        seq: u64,
    ) -> Result<Option<DeadLetter>, StoreError> {
        self.still_open()?;
        let row = retried(Again::Whenever, || async move {
            let sql = "SELECT s.agent, s.epoch, d.seq, d.at, d.reason, d.payload \
                       FROM dead_letters d JOIN streams s ON s.id = d.stream \
                       WHERE s.agent = $1 AND s.epoch = $2 AND d.seq = $3";
            let query = sqlx::query(sql).bind(agent.as_str()).bind(&epoch.0[..]);
            Ok(query.bind(number(seq)).fetch_optional(&self.0.pool).await?)
        });
        row.await?.as_ref().map(dead_letter).transpose()
    }

    pub(super) async fn read_streams(
        &self,
        agent: &AgentId,
        limit: u32,
    ) -> Result<Vec<AgentStream>, StoreError> {
        self.still_open()?;
        let rows = retried(Again::Whenever, || async move {
            let sql = "SELECT epoch, committed, last_commit FROM streams WHERE agent = $1 \
                       ORDER BY last_commit DESC, id DESC LIMIT $2";
            let query = sqlx::query(sql).bind(agent.as_str()).bind(i64::from(limit));
            Ok(query.fetch_all(&self.0.pool).await?)
        });
        let stream = |row: &PgRow| {
            let what = "an epoch is not 16 bytes".to_owned();
            let epoch: &[u8] = row.try_get(0)?;
            Ok(AgentStream {
                epoch: Epoch(epoch.try_into().map_err(|_| StoreError::Damaged { what })?),
                committed: row.try_get::<i64, _>(1)? as u64,
                last_commit: row.try_get(2)?,
            })
        };
        rows.await?.iter().map(stream).collect()
    }

    pub(super) async fn read_ledger(
        &self,
        agent: &AgentId,
        epoch: Epoch,
        from: u64,
        limit: u32,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.still_open()?;
        let rows = retried(Again::Whenever, || async move {
            let sql = "SELECT seq, last, rows, state, hash FROM ledger WHERE seq >= $1 AND stream = \
                       (SELECT id FROM streams WHERE agent = $2 AND epoch = $3) ORDER BY seq LIMIT $4";
            let query = sqlx::query(sql).bind(number(from)).bind(agent.as_str());
            let query = query.bind(&epoch.0[..]).bind(i64::from(limit));
            Ok(query.fetch_all(&self.0.pool).await?)
        });
        let entry = |row: &PgRow| {
            let rows = i64::from(row.try_get::<i32, _>(2)?);
            let state = i64::from(row.try_get::<i16, _>(3)?);
            let numbers = (row.try_get(0)?, row.try_get(1)?, rows);
            LedgerEntry::stored(numbers, state, row.try_get(4)?)
        };
        rows.await?.iter().map(entry).collect()
    }
}
