-- Many workers: what one of them has at a time, and how it sees what all of them commit.

-- `token` grows at each taking and each release; `until` is unix milliseconds of this server's clock.
CREATE TABLE leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    token bigint NOT NULL,
    until bigint NOT NULL
);

-- The transaction that committed a batch. Rows become visible in another order than that of their
-- ids; which transactions are to be seen at some moment is a snapshot, and the difference of two
-- snapshots leaves out none.
ALTER TABLE batches ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
CREATE INDEX batches_xid ON batches (xid);
