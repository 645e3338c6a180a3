-- name: beat_heart
-- Says that this worker lives, and counts those who do. Dead rows leave here too: nobody else would remove them.
WITH gone AS (
    DELETE FROM workers
    WHERE alive_until < clock_timestamp() - interval '1 minute'
),

beat AS (
    INSERT INTO workers (id, alive_until)
    VALUES ($1, clock_timestamp() + $2 * interval '1 second')
    ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until
)

-- The statement does not see its own insert, hence the one added.
SELECT 1 + count(*)
FROM workers
WHERE alive_until > clock_timestamp() AND id <> $1

-- name: stop_heart
-- A worker that ends cleanly is not waited for.
DELETE FROM workers
WHERE id = $1

-- name: end_sessions
-- An owner whose lease is over may have been stopped in the middle of a transaction: its locks would stop the next one
-- too, for as long as the server has patience, and in COPY it has no end of it. Its sessions bear its name. If it lives
-- after all, it loses a transaction that its epoch would refuse.
SELECT count(pg_terminate_backend(a.pid))
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.usename = current_user AND EXISTS (
    SELECT FROM partitions AS p
    WHERE p.owner <> $1 AND p.lease_until < clock_timestamp() AND starts_with(a.application_name, p.owner)
)

-- name: take_leases
-- Free or expired ones, by the database's clock and nobody else's. The epoch fences the owner before.
WITH free AS (
    SELECT partition, owner
    FROM partitions
    WHERE owner IS NULL OR lease_until < clock_timestamp()
    ORDER BY partition
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE partitions AS p
SET owner = $1, epoch = p.epoch + 1, lease_until = clock_timestamp() + $3 * interval '1 second'
FROM free
WHERE p.partition = free.partition
RETURNING p.partition, p.epoch, free.owner AS owner_before

-- name: keep_leases
-- What is returned is still ours. Locked in order, as the batches lock them.
WITH mine AS MATERIALIZED (
    SELECT p.partition
    FROM partitions AS p
    INNER JOIN unnest($1::int[], $2::bigint[]) AS l (partition, epoch) USING (partition, epoch)
    ORDER BY p.partition
    FOR NO KEY UPDATE OF p
)

UPDATE partitions AS p
SET lease_until = clock_timestamp() + $3 * interval '1 second'
FROM mine
WHERE p.partition = mine.partition
RETURNING p.partition

-- name: release_lease
-- At once, so that the next owner need not wait for the lease to end; only if it is still ours.
UPDATE partitions
SET owner = NULL, lease_until = clock_timestamp()
WHERE partition = $1 AND epoch = $2

-- name: count_partitions
-- The number of partitions is what the database says, not what a process is configured for.
SELECT count(*)
FROM partitions

-- name: hold_lease
-- For what only one process does: taken when free or expired, kept when ours.
INSERT INTO leases AS l (name, owner, lease_until)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (name) DO UPDATE
SET owner = excluded.owner, lease_until = excluded.lease_until
WHERE l.owner = excluded.owner OR l.lease_until < clock_timestamp()

-- name: drop_lease
-- So that the next one need not wait.
UPDATE leases
SET lease_until = clock_timestamp()
WHERE name = $1 AND owner = $2
