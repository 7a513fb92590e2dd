-- What one worker has at a time. `token` grows at each taking and each release; `until` is unix
-- milliseconds.
CREATE TABLE leases (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    token INTEGER NOT NULL,
    until INTEGER NOT NULL
) WITHOUT ROWID;
