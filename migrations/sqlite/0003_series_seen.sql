-- The last day (unix days) of which a series has samples, or on which it was first seen: once
-- everything of that day is dropped, the series goes too. What is not known is taken for later.
ALTER TABLE series ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;
UPDATE series SET seen = max(
    CAST(strftime('%s', 'now') AS INTEGER) / 86400,
    coalesce((SELECT max(id) >> 24 FROM rollups) / 24, 0)
);
