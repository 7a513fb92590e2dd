-- What people ask with SQL. `hour` is the hour in which a sample's time lies: chunks and batches
-- of other hours are passed over without being decoded, so a question about a time says both.
--
--     SELECT time, labels->>'host', value FROM metrics_time
--     WHERE name = 'system_load1' AND hour >= date_trunc('hour', now() - interval '1 hour')
--       AND time > now() - interval '1 hour';

-- Times that PostgreSQL cannot tell are shown as the nearest that it can.
CREATE FUNCTION unix_ms(ms bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_timestamp(least(greatest(ms, -200000000000000), 9000000000000000) / 1000.0::double precision);

CREATE FUNCTION unix_hour(bucket bigint) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN to_timestamp(least(greatest(bucket, -55000000), 2500000000) * 3600.0::double precision);

CREATE FUNCTION unix_bucket(ms bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN ms >= 0 THEN ms / 3600000 ELSE (ms + 1) / 3600000 - 1 END;

-- Samples as they were committed, until they are packed; whose they are.
CREATE VIEW metrics_raw AS
    -- Nearly all batches lie in one hour: their rows need not be looked at to know it.
    SELECT unix_ms(coalesce(u.time, b.times[1])) AS time, s.name, s.labels, u.value,
           unix_hour(unix_bucket(b.first)) AS hour, b.stream, unix_ms(b.committed_at) AS committed_at
    FROM batches b
    JOIN shapes h ON h.id = b.shape
    CROSS JOIN LATERAL unnest(h.series, b.values, b.times) AS u(series, value, time)
    JOIN series s ON s.id = u.series
    WHERE unix_bucket(b.first) = unix_bucket(b.last)
    UNION ALL
    SELECT unix_ms(coalesce(u.time, b.times[1])), s.name, s.labels, u.value,
           unix_hour(unix_bucket(coalesce(u.time, b.times[1]))), b.stream, unix_ms(b.committed_at)
    FROM batches b
    JOIN shapes h ON h.id = b.shape
    CROSS JOIN LATERAL unnest(h.series, b.values, b.times) AS u(series, value, time)
    JOIN series s ON s.id = u.series
    WHERE unix_bucket(b.first) <> unix_bucket(b.last);

CREATE VIEW metrics_time AS
    SELECT unix_ms(u.time) AS time, s.name, s.labels,
           coalesce(u.raw, (c.base + c.step * coalesce(u.small, u.wide, 0))::double precision / c.scale) AS value,
           unix_hour(c.bucket) AS hour
    FROM series s
    JOIN chunks c ON c.series = s.id
    JOIN chunk_times t ON t.bucket = c.bucket AND t.id = c.times
    CROSS JOIN LATERAL unnest(t.times, c.small, c.wide, c.raw) AS u(time, small, wide, raw)
    UNION ALL
    SELECT time, name, labels, value, hour FROM metrics_raw;

CREATE VIEW metrics_hourly AS
    SELECT unix_hour(r.bucket) AS hour, s.name, s.labels, r.count, r.min, r.max,
           r.sum / r.count AS avg, r.sum, r.last, unix_ms(r.bucket * 3600000 + r.last_at) AS last_time
    FROM rollups r JOIN series s ON s.id = r.series;

-- The newest value of each series that is not packed yet.
CREATE VIEW metrics_recent AS
    SELECT DISTINCT ON (name, labels) name, labels, value, time
    FROM metrics_raw ORDER BY name, labels, time DESC;

-- The metrics with the most samples in the last day.
CREATE VIEW metrics_top AS
    SELECT s.name, count(DISTINCT s.id) AS series, sum(r.count) AS samples
    FROM rollups r JOIN series s ON s.id = r.series
    WHERE r.bucket >= extract(epoch FROM now())::bigint / 3600 - 24
    GROUP BY s.name ORDER BY samples DESC;

CREATE VIEW alerts_active AS
    SELECT alert::jsonb->'what'->>'rule' AS rule, state, alert::jsonb->'what'->'labels' AS labels,
           alert::jsonb->'what'->>'summary' AS summary,
           unix_ms((alert::jsonb->'what'->>'active_since')::bigint) AS since
    FROM alerts WHERE state <> 'resolved';
