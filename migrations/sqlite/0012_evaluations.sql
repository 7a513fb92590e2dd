-- What rules were evaluated over: a row for each call of an evaluator, written with what it decided. Kept for two
-- hours, so that alerts can be worked out anew from what was committed then: see sentinel_store::evaluations.
CREATE TABLE evaluations (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- Of whoever evaluated: a random number, and a count from 0. Evaluations are in order of ids within a term; what a
    -- term knew and did not write down, the next one does not know.
    term INTEGER NOT NULL,
    number INTEGER NOT NULL,
    evaluator TEXT NOT NULL,
    -- The time as of which, unix milliseconds, and the version of the rules.
    at INTEGER NOT NULL,
    rules_version INTEGER NOT NULL,
    -- Which of that version's rules, by their places from 0 (0-4,7), and those of them that failed.
    rules TEXT NOT NULL,
    failed TEXT NOT NULL,
    -- Whether all samples that are to be expected after a start were there: 1 or 0.
    settled INTEGER NOT NULL,
    -- All batches with ids up to it, and none above. Where `until` is not NULL more came while it was being evaluated:
    -- those up to `until` may have been seen or not, and where
    -- it is '-' any that were committed by then: a new rule's windows were being read.
    position TEXT NOT NULL,
    until TEXT,
    UNIQUE (term, number)
);
CREATE INDEX evaluations_at ON evaluations (at);

-- The windows of rules as they were at some position of the tail, in parts that are written one by one; the bytes are
-- those of sentinel_worker::windows::checkpoint.
CREATE TABLE window_parts (
    part INTEGER PRIMARY KEY,
    made_at INTEGER NOT NULL,
    data BLOB NOT NULL
);

-- The last batch of which something was packed: up to there the tail is not whole any more, and no id is given again.
INSERT INTO meta (key, value) VALUES ('packed_to', 0);
