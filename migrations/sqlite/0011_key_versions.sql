-- Keys of agents have versions: when one was made, and until when it may sign. Unix milliseconds.
ALTER TABLE agent_keys ADD COLUMN made_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agent_keys ADD COLUMN valid_until INTEGER;

UPDATE agent_keys SET made_at = (SELECT registered_at FROM agents WHERE id = agent);
