-- What server and workers keep, in SQLite. The blobs are those of sentinel_store::format.

-- Facts about the database itself.
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

-- Sums that would otherwise have to be counted.
INSERT INTO meta (key, value) VALUES ('packed_samples', 0), ('raw_floor', -9223372036854775807);

CREATE TABLE agents (
    id TEXT PRIMARY KEY,
    hw_id TEXT NOT NULL,
    hostname TEXT NOT NULL,
    version TEXT NOT NULL,
    labels TEXT NOT NULL,
    state TEXT NOT NULL,
    -- The number given last.
    key_id INTEGER NOT NULL,
    registered_at INTEGER NOT NULL,
    last_seen INTEGER,
    report TEXT
) WITHOUT ROWID;
CREATE INDEX agents_hw_id ON agents (hw_id);

-- Keys are numbered from 1 and never reused. One that waits may not sign yet.
CREATE TABLE agent_keys (
    agent TEXT NOT NULL REFERENCES agents (id),
    key_id INTEGER NOT NULL,
    wrapped BLOB NOT NULL,
    waiting INTEGER NOT NULL,
    -- What the enrolment said, taken over when it is approved; JSON.
    enrolment TEXT NOT NULL,
    PRIMARY KEY (agent, key_id)
) WITHOUT ROWID;

CREATE TABLE series (
    id INTEGER PRIMARY KEY CHECK (id BETWEEN 1 AND 16777215),
    name TEXT NOT NULL,
    -- A JSON object, keys sorted.
    labels TEXT NOT NULL,
    kind INTEGER NOT NULL
);

-- Where each opening of an agent's log stands.
CREATE TABLE streams (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    epoch BLOB NOT NULL,
    committed INTEGER NOT NULL,
    rewind_attempt INTEGER NOT NULL,
    -- Unix milliseconds.
    last_commit INTEGER NOT NULL,
    UNIQUE (agent, epoch)
);

-- One row a committed record (or skipped range `seq` to `last`).
-- state: 0 samples, 1 skipped, 2 dead.
CREATE TABLE ledger (
    stream INTEGER NOT NULL REFERENCES streams (id),
    seq INTEGER NOT NULL,
    last INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    state INTEGER NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (stream, seq)
) WITHOUT ROWID;

CREATE TABLE dead_letters (
    stream INTEGER NOT NULL REFERENCES streams (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    reason TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (stream, seq)
);
CREATE INDEX dead_letters_at ON dead_letters (at);

-- Batches as they were committed, until they are packed. Ids grow in order of commits.
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL REFERENCES streams (id),
    committed_at INTEGER NOT NULL,
    data BLOB NOT NULL
);

-- Times shared by the chunks of one hour: id = bucket << 24 | number.
CREATE TABLE chunk_times (
    id INTEGER PRIMARY KEY,
    data BLOB NOT NULL
);

-- One series in one hour: id = bucket << 24 | series; bucket = unix hours.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY,
    times INTEGER NOT NULL,
    data BLOB NOT NULL
);

-- The same in one row: id as in chunks. A value that is not a number is NULL.
CREATE TABLE rollups (
    id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    min REAL,
    max REAL,
    sum REAL,
    last REAL,
    -- Milliseconds after the bucket's start.
    last_at INTEGER NOT NULL
);

CREATE TABLE rules (
    version INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL,
    rules TEXT NOT NULL
);

CREATE TABLE alerts (
    fingerprint INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    resolved_at INTEGER,
    alert TEXT NOT NULL
);

CREATE TABLE transitions (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    transition TEXT NOT NULL
);
CREATE INDEX transitions_at ON transitions (at);

CREATE TABLE notifications (
    id TEXT PRIMARY KEY,
    -- Order of decisions.
    number INTEGER NOT NULL UNIQUE,
    decided_at INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    may_be_repeat INTEGER NOT NULL,
    next_attempt INTEGER NOT NULL,
    message TEXT NOT NULL,
    notification TEXT NOT NULL
);
CREATE INDEX notifications_state ON notifications (state, number);

CREATE TABLE slot_state (
    slot TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (slot, key)
) WITHOUT ROWID;

CREATE TABLE statuses (
    name TEXT PRIMARY KEY,
    json TEXT NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
