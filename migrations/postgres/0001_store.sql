-- What servers and workers keep, in PostgreSQL. Times are unix milliseconds and buckets unix
-- hours, except in views, which people read.
--
-- Texts of other people stand here with U+0000, which PostgreSQL cannot keep, written as
-- U+E000 '0', and U+E000 as U+E000 '1'.

CREATE TABLE meta (
    key text PRIMARY KEY,
    value bigint NOT NULL
);
-- Buckets below a floor are gone, whatever partitions are left of them. `changed` numbers the
-- changes of series; who holds its row adds or changes some.
INSERT INTO meta (key, value) VALUES
    ('raw_floor', -9223372036854775807),
    ('rollup_floor', -9223372036854775807),
    ('last_series', 0),
    ('changed', 0);

CREATE TABLE agents (
    id text PRIMARY KEY,
    hw_id text NOT NULL,
    hostname text NOT NULL,
    version text NOT NULL,
    labels text NOT NULL,
    state text NOT NULL,
    -- The number given last.
    key_id bigint NOT NULL,
    registered_at bigint NOT NULL,
    last_seen bigint,
    report text
);
CREATE INDEX agents_hw_id ON agents (hw_id);

-- Keys are numbered from 1 and never reused. One that waits may not sign yet. What is wrapped is
-- sealed with a key that is not in the database.
CREATE TABLE agent_keys (
    agent text NOT NULL REFERENCES agents (id),
    key_id bigint NOT NULL,
    wrapped bytea NOT NULL,
    waiting boolean NOT NULL,
    -- What the enrolment said, taken over when it is approved; JSON.
    enrolment text NOT NULL,
    PRIMARY KEY (agent, key_id)
);

CREATE TABLE series (
    id integer PRIMARY KEY CHECK (id BETWEEN 1 AND 16777215),
    -- SHA-256 of name and labels: those may be longer than an index takes.
    digest bytea NOT NULL UNIQUE,
    name text NOT NULL,
    labels jsonb NOT NULL,
    kind smallint NOT NULL,
    -- The last day (unix days) of which it has samples, or on which it was first seen.
    seen bigint NOT NULL,
    -- It has no samples any more. The row stays until every process has seen that.
    gone boolean NOT NULL DEFAULT false,
    -- The number of its last change.
    changed bigint NOT NULL
);
CREATE INDEX series_changed ON series (changed);
CREATE INDEX series_name ON series (name);

-- Where each opening of an agent's log stands.
CREATE TABLE streams (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent text NOT NULL,
    epoch bytea NOT NULL,
    committed bigint NOT NULL,
    rewind_attempt bigint NOT NULL,
    last_commit bigint NOT NULL,
    UNIQUE (agent, epoch)
) WITH (fillfactor = 50);

-- One row a committed record (or skipped range `seq` to `last`).
-- state: 0 samples, 1 skipped, 2 dead.
CREATE TABLE ledger (
    stream bigint NOT NULL REFERENCES streams (id),
    seq bigint NOT NULL,
    last bigint NOT NULL,
    rows integer NOT NULL,
    state smallint NOT NULL,
    hash bytea NOT NULL,
    -- Names the commit: who lost the connection meanwhile finds here whether it was made.
    token bigint NOT NULL,
    PRIMARY KEY (stream, seq)
);

CREATE TABLE dead_letters (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stream bigint NOT NULL REFERENCES streams (id),
    seq bigint NOT NULL,
    at bigint NOT NULL,
    reason text NOT NULL,
    payload bytea NOT NULL
);
CREATE INDEX dead_letters_at ON dead_letters (at);

-- The series of a batch's rows, in order: what the batches of one collector share. While a shape
-- is here, its series stay.
CREATE TABLE shapes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest bytea NOT NULL UNIQUE,
    series integer[] NOT NULL
);
CREATE INDEX shapes_series ON shapes USING gin (series) WITH (fastupdate = off);

CREATE SEQUENCE batch_ids;

-- Batches as they were committed, until they are packed: one partition an hour of commits, which
-- is dropped once all of it is packed. Ids grow in the order of commits of a stream.
CREATE TABLE batches (
    id bigint NOT NULL DEFAULT nextval('batch_ids'),
    hour bigint NOT NULL,
    stream bigint NOT NULL REFERENCES streams (id),
    shape bigint NOT NULL REFERENCES shapes (id),
    committed_at bigint NOT NULL,
    -- The first and the last of its times.
    first bigint NOT NULL,
    last bigint NOT NULL,
    -- One time a row, or one for all.
    times bigint[] NOT NULL,
    values double precision[] NOT NULL,
    PRIMARY KEY (id, hour)
) PARTITION BY RANGE (hour);
CREATE INDEX batches_last ON batches (last);
-- They are packed within two hours: compressing them first would cost more than it saves.
ALTER TABLE batches ALTER COLUMN values SET STORAGE EXTERNAL, ALTER COLUMN times SET STORAGE EXTERNAL;

-- How much is packed of each hour.
CREATE TABLE hours (
    bucket bigint PRIMARY KEY,
    chunks bigint NOT NULL,
    samples bigint NOT NULL
);

-- Times shared by chunks of one hour. Partitions are days; the default one has what lies ahead
-- of the days that there are.
CREATE TABLE chunk_times (
    bucket bigint NOT NULL,
    id bigint NOT NULL,
    times bigint[] NOT NULL,
    PRIMARY KEY (bucket, id)
) PARTITION BY RANGE (bucket);
CREATE TABLE chunk_times_ahead PARTITION OF chunk_times DEFAULT;

-- One series in one hour. Values are `raw`, or (base + step * number) / scale with the numbers
-- of `small` or `wide`; without any of the three all are base / scale.
CREATE TABLE chunks (
    bucket bigint NOT NULL,
    times bigint NOT NULL,
    base bigint NOT NULL,
    step bigint NOT NULL,
    series integer NOT NULL,
    scale smallint NOT NULL,
    small smallint[],
    wide integer[],
    raw double precision[],
    PRIMARY KEY (series, bucket)
) PARTITION BY RANGE (bucket);
CREATE TABLE chunks_ahead PARTITION OF chunks DEFAULT;

-- The same in one row, kept for longer: partitions of a week.
CREATE TABLE rollups (
    bucket bigint NOT NULL,
    series integer NOT NULL,
    count integer NOT NULL,
    min double precision NOT NULL,
    max double precision NOT NULL,
    sum double precision NOT NULL,
    last double precision NOT NULL,
    -- Milliseconds after the bucket's start.
    last_at bigint NOT NULL,
    PRIMARY KEY (series, bucket)
) PARTITION BY RANGE (bucket);
CREATE TABLE rollups_ahead PARTITION OF rollups DEFAULT;

CREATE TABLE rules (
    version bigint PRIMARY KEY,
    applied_at bigint NOT NULL,
    rules text NOT NULL
);

CREATE TABLE alerts (
    fingerprint bigint PRIMARY KEY,
    state text NOT NULL,
    resolved_at bigint,
    alert text NOT NULL
);

CREATE TABLE transitions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    transition text NOT NULL
);
CREATE INDEX transitions_at ON transitions (at);
-- A change that is written again, since nobody heard that it was, adds nothing.
CREATE UNIQUE INDEX transitions_once ON transitions (md5(transition));

CREATE TABLE notifications (
    id text PRIMARY KEY,
    -- Order of decisions.
    number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    notifier text NOT NULL,
    decided_at bigint NOT NULL,
    state text NOT NULL,
    attempts bigint NOT NULL,
    may_be_repeat boolean NOT NULL,
    next_attempt bigint NOT NULL,
    opened_at bigint NOT NULL,
    message text NOT NULL,
    notification text NOT NULL
);
CREATE INDEX notifications_state ON notifications (state, number);
CREATE INDEX notifications_open ON notifications (notifier, number)
    WHERE state IN ('pending', 'sending');

CREATE TABLE slot_state (
    slot text NOT NULL,
    key text NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (slot, key)
);

CREATE TABLE statuses (
    name text PRIMARY KEY,
    json text NOT NULL,
    at bigint NOT NULL
);

-- Desired sets as their operators sealed them, numbered without a gap; the newest is in force.
CREATE TABLE fleet_sets (
    number bigint PRIMARY KEY,
    taken_at bigint NOT NULL,
    sealed text NOT NULL
);

-- What was told of which group of alerts; JSON that only routing reads.
CREATE TABLE alert_groups (
    key text PRIMARY KEY,
    body text NOT NULL
);

-- Every attempt at a notification, JSON; they go with it.
CREATE TABLE attempts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    notification text NOT NULL,
    attempt text NOT NULL
);
CREATE INDEX attempts_notification ON attempts (notification, id);
-- As with transitions.
CREATE UNIQUE INDEX attempts_once ON attempts (notification, md5(attempt));

-- What people decided, JSON. Each decision makes `decisions` in meta one more.
CREATE TABLE silences (
    id text PRIMARY KEY,
    ends_at bigint NOT NULL,
    silence text NOT NULL
);
CREATE TABLE acknowledgements (
    fingerprint bigint PRIMARY KEY,
    acknowledgement text NOT NULL
);
INSERT INTO meta (key, value) VALUES ('decisions', 0);
