-- What TimescaleDB's Community edition adds: rollups are compressed once nothing can change them
-- any more. A sample older than raw retention is refused, so below its floor rollups are final. The
-- floor is the time of the policy: the database's clock decides nothing of what is stored.

CREATE FUNCTION raw_floor() RETURNS bigint
    LANGUAGE sql STABLE
    RETURN (SELECT greatest(value, 0) FROM meta WHERE key = 'raw_floor');

SELECT set_integer_now_func('rollups_hyper', 'raw_floor');
ALTER TABLE rollups_hyper SET (
    timescaledb.compress,
    timescaledb.compress_segmentby = 'series',
    timescaledb.compress_orderby = 'bucket'
);
SELECT add_compression_policy('rollups_hyper', compress_after => 0::bigint);
