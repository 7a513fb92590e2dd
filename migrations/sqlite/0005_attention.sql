-- Since when a notification's budget runs.
ALTER TABLE notifications ADD COLUMN opened_at INTEGER NOT NULL DEFAULT 0;
UPDATE notifications SET opened_at = decided_at;

-- What was told of which group of alerts; JSON that only routing reads.
CREATE TABLE alert_groups (
    key TEXT PRIMARY KEY,
    body TEXT NOT NULL
) WITHOUT ROWID;

-- Every attempt at a notification, JSON; they go with it.
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    notification TEXT NOT NULL,
    attempt TEXT NOT NULL
);
CREATE INDEX attempts_notification ON attempts (notification, id);

-- What people decided, JSON. Each decision makes `decisions` in meta one more.
CREATE TABLE silences (
    id TEXT PRIMARY KEY,
    ends_at INTEGER NOT NULL,
    silence TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE acknowledgements (
    fingerprint INTEGER PRIMARY KEY,
    acknowledgement TEXT NOT NULL
);
INSERT INTO meta (key, value) VALUES ('decisions', 0);
