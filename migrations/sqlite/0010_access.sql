-- Who may call the API: tokens by their SHA-256 alone.
CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    made_by TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    -- NULL: until it is revoked.
    expires_at INTEGER
);

-- Who may enrol agents, likewise. One that waits was asked for by an agent itself, which shows its
-- id as a code, and serves once it is approved.
CREATE TABLE enrolment_tokens (
    hash BLOB PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    uses_left INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    made_by TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    -- What the agent that asks said of itself; JSON.
    asked TEXT
);

-- A use belongs to an enrolment: the same one again is no other use.
CREATE TABLE enrolment_uses (
    hash BLOB NOT NULL REFERENCES enrolment_tokens (hash) ON DELETE CASCADE,
    claim BLOB NOT NULL,
    PRIMARY KEY (hash, claim)
) WITHOUT ROWID;

-- Every change, written down before it is made. Without an outcome: nobody lived to say it.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    role TEXT NOT NULL,
    address TEXT NOT NULL,
    what TEXT NOT NULL,
    outcome TEXT
);
CREATE INDEX audit_at ON audit (at);
