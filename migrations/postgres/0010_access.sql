-- Who may call the API: tokens by their SHA-256 alone.
CREATE TABLE api_tokens (
    id text PRIMARY KEY,
    hash bytea NOT NULL UNIQUE,
    name text NOT NULL,
    role text NOT NULL,
    made_by text NOT NULL,
    made_at bigint NOT NULL,
    -- NULL: until it is revoked.
    expires_at bigint
);

-- Who may enrol agents, likewise. One that waits was asked for by an agent itself, which shows its
-- id as a code, and serves once it is approved.
CREATE TABLE enrolment_tokens (
    hash bytea PRIMARY KEY,
    id text NOT NULL UNIQUE,
    uses_left bigint NOT NULL,
    expires_at bigint NOT NULL,
    made_by text NOT NULL,
    made_at bigint NOT NULL,
    waiting boolean NOT NULL,
    -- What the agent that asks said of itself; JSON.
    asked text
);

-- A use belongs to an enrolment: the same one again is no other use.
CREATE TABLE enrolment_uses (
    hash bytea NOT NULL REFERENCES enrolment_tokens (hash) ON DELETE CASCADE,
    claim bytea NOT NULL,
    PRIMARY KEY (hash, claim)
);

-- Every change, written down before it is made. Without an outcome: nobody lived to say it.
CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at bigint NOT NULL,
    who text NOT NULL,
    role text NOT NULL,
    address text NOT NULL,
    what text NOT NULL,
    outcome text
);
CREATE INDEX audit_at ON audit (at);
