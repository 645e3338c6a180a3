-- name: end_sessions
-- An owner whose lease is over may have been stopped in the middle of a transaction: its locks would stop the next one
-- too, for as long as the server has patience, and in COPY it has no end of it. Its sessions bear its name. If it lives
-- after all, it loses a transaction that its epoch would refuse. Its presence is spared: that holds no locks, and that
-- it is still there is what tells a stopped owner from a dead one. Void lease, name, pid and start are looked at in the
-- statement that ends them; with our own rights, which reach the sessions of our own role and no others. (A function
-- with the rights of the schema's owner could end none of them, unless that is a superuser: tried.)
SELECT count(pg_terminate_backend(a.pid))
FROM pg_stat_activity AS a
WHERE a.datname = current_database() AND a.usename = current_user AND EXISTS (
    SELECT FROM partitions AS p
    WHERE
        p.owner <> $1 AND starts_with(a.application_name, p.owner)
        AND (
            p.lease_until < clock_timestamp() OR session_is_gone(p.backend_pid, p.backend_start, p.backend_server)
        )
        AND (a.pid, a.backend_start) IS DISTINCT FROM (p.backend_pid, p.backend_start)
)

-- name: take_leases
-- Free ones, ended ones, and those whose owner's session is gone, by the database's clock and nobody else's. The epoch
-- fences the owner before. Only an owner that is shown to be dead counts as one that died over what it had in hand: a
-- stopped one still has its session, and after a restart of the server nobody can tell.
WITH free AS MATERIALIZED (
    SELECT
        partition,
        owner,
        coalesce(session_is_gone(backend_pid, backend_start, backend_server), false) AND owner IS NOT NULL AS is_dead
    FROM partitions
    WHERE
        owner IS NULL OR lease_until < clock_timestamp()
        OR session_is_gone(backend_pid, backend_start, backend_server)
    ORDER BY partition
    LIMIT $2
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE partitions AS p
SET
    owner = $1, epoch = p.epoch + 1, lease_until = clock_timestamp() + $3 * interval '1 second',
    backend_pid = me.pid, backend_start = me.began, backend_server = me.server,
    unclean_deaths = p.unclean_deaths + free.is_dead::integer
FROM free, this_session() AS me
WHERE p.partition = free.partition
RETURNING p.partition, p.epoch, p.unclean_deaths, free.owner AS owner_before

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
SET
    lease_until = clock_timestamp() + $3 * interval '1 second',
    backend_pid = me.pid, backend_start = me.began, backend_server = me.server
FROM mine, this_session() AS me
WHERE p.partition = mine.partition
RETURNING p.partition

-- name: release_lease
-- At once, so that the next owner need not wait for the lease to end; only if it is still ours. The count of deaths
-- stays: whether what was inherited is through is known to whoever recovers it, and a release may come before.
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
