-- Desired sets as their operators sealed them, numbered without a gap. The newest is in force; the others
-- are kept to say who changed what and when.
CREATE TABLE fleet_sets (
    number INTEGER PRIMARY KEY,
    -- Unix milliseconds at which the server took it.
    taken_at INTEGER NOT NULL,
    sealed TEXT NOT NULL
);
