-- Packed samples and rollups as hypertables of TimescaleDB, in a database that has it before the
-- first sample. Both editions. Reading stays the same: the names of the partitioned tables become
-- views, and the views that people read are made again over them as they were.
--
-- A hypertable makes a chunk for whatever range a row lies in, and a wrong clock would make
-- thousands: what lies more than a day ahead waits beside it, as it does in the default partitions.

DO $$
DECLARE
    readers text[];
    reader text;
    parted text;
BEGIN
    SELECT array_agg(format('CREATE VIEW %I AS %s', viewname, definition)) INTO readers
    FROM pg_views WHERE schemaname = current_schema()
        AND viewname IN ('metrics_time', 'metrics_hourly', 'metrics_top');
    DROP VIEW metrics_time, metrics_hourly, metrics_top;
    FOREACH parted IN ARRAY ARRAY['chunk_times', 'chunks', 'rollups'] LOOP
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parted, parted || '_ahead');
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', parted || '_hyper', parted);
        EXECUTE format('DROP TABLE %I', parted);
        EXECUTE format('CREATE VIEW %I AS SELECT * FROM %I UNION ALL SELECT * FROM %I',
            parted, parted || '_hyper', parted || '_ahead');
    END LOOP;
    FOREACH reader IN ARRAY readers LOOP
        EXECUTE reader;
    END LOOP;
END
$$;

-- A day of samples, a week of rollups, in hours.
SELECT create_hypertable('chunk_times_hyper', 'bucket', chunk_time_interval => 24::bigint, create_default_indexes => false);
SELECT create_hypertable('chunks_hyper', 'bucket', chunk_time_interval => 24::bigint, create_default_indexes => false);
SELECT create_hypertable('rollups_hyper', 'bucket', chunk_time_interval => 168::bigint, create_default_indexes => false);
