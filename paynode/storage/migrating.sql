-- name: try_lock
-- A session lock, polled: a waiting lock would deadlock with CREATE INDEX CONCURRENTLY, which waits for its waiters.
SELECT pg_try_advisory_lock($1);

-- name: release_lock
-- Before the session ends, so that who waits need not wait for the server to notice that it ended.
SELECT pg_advisory_unlock($1);

-- name: create_history
-- Inside the lock: IF NOT EXISTS alone does not keep two sessions from creating the same table.
CREATE TABLE IF NOT EXISTS schema_migrations (
    version text PRIMARY KEY,
    name text NOT NULL,
    sha256 bytea NOT NULL CHECK (octet_length(sha256) = 32),
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- name: list_applied
-- What the schema is made of, in the order in which it was made.
SELECT version, name, sha256 FROM schema_migrations ORDER BY version;

-- name: insert_applied
-- In the transaction of the migration itself: both are there or neither.
INSERT INTO schema_migrations (version, name, sha256) VALUES ($1, $2, $3);

-- name: make_ledger_months
-- This month and the next twelve; the scheduler makes the others in time. What no month holds falls into the default
-- partition, so none is ever urgent.
SELECT made, held_up FROM make_ledger_months();

-- name: insert_partitions
-- Only into an empty table: the number is chosen once, because merchants are spread by it.
INSERT INTO partitions (partition)
SELECT generate_series(0, $1::integer - 1) WHERE NOT EXISTS (SELECT FROM partitions);

-- name: count_partitions
-- What the database was migrated with; the highest number as well, for a hole would leave merchants without an owner.
SELECT count(*) AS count, coalesce(max(partition), -1) + 1 AS width FROM partitions;
