-- What rules were evaluated over: a row for each call of an evaluator, written with what it decided. Kept for two
-- hours, so that alerts can be worked out anew from what was committed then: see sentinel_store::evaluations.
CREATE TABLE evaluations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Of whoever evaluated: a random number, and a count from 0. Evaluations are in order of ids within a term; what a
    -- term knew and did not write down, the next one does not know.
    term bigint NOT NULL,
    number bigint NOT NULL,
    evaluator text NOT NULL,
    -- The time as of which, unix milliseconds, and the version of the rules.
    at bigint NOT NULL,
    rules_version bigint NOT NULL,
    -- Which of that version's rules, by their places from 0 (0-4,7), and those of them that failed.
    rules text NOT NULL,
    failed text NOT NULL,
    -- Whether all samples that are to be expected after a start were there.
    settled boolean NOT NULL,
    -- A snapshot, and perhaps a part of what a second one sees besides: 'SEEN' or 'SEEN|SECOND|ID'. The batches are
    -- those of which xid is visible in SEEN, or visible in SECOND with an id up to ID. Where `until` is not NULL more
    -- came while it was being evaluated: those up to `until` may have been seen or not, and where
    -- it is '-' any that were committed by then: a new rule's windows were being read.
    position text NOT NULL,
    until text,
    UNIQUE (term, number)
);
CREATE INDEX evaluations_at ON evaluations (at);

-- The windows of rules as they were at some position of the tail, in parts that are written one by one; the bytes are
-- those of sentinel_worker::windows::checkpoint, and compressed already.
CREATE TABLE window_parts (
    part bigint PRIMARY KEY,
    made_at bigint NOT NULL,
    data bytea NOT NULL
);
ALTER TABLE window_parts ALTER COLUMN data SET STORAGE EXTERNAL;

-- The newest transaction of which a batch was packed, or a part of it: a position that does not see it has a tail that
-- is not whole any more.
INSERT INTO meta (key, value) VALUES ('packed_to', 0);
