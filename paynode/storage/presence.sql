-- name: beat_heart
-- Says that this worker lives, and by which session. Dead rows leave here too: nobody else would remove them.
WITH gone AS (
    DELETE FROM workers
    WHERE alive_until < clock_timestamp() - interval '1 minute'
)

INSERT INTO workers (id, alive_until, backend_pid, backend_start, backend_server)
SELECT $1, clock_timestamp() + $2 * interval '1 second', me.pid, me.began, me.server
FROM this_session() AS me
ON CONFLICT (id) DO UPDATE
SET
    alive_until = excluded.alive_until, backend_pid = excluded.backend_pid, backend_start = excluded.backend_start,
    backend_server = excluded.backend_server

-- name: look_around
-- Who else lives, and what could be taken. Four times a second by every worker: two small tables, and no lock.
SELECT
    others.live,
    others.before,
    own.vacant,
    own.orphaned
FROM (
    SELECT
        count(*) AS live,
        count(*) FILTER (WHERE id < $1) AS before
    FROM workers
    WHERE
        id <> $1 AND alive_until > clock_timestamp()
        AND session_is_gone(backend_pid, backend_start, backend_server) IS NOT TRUE
) AS others
CROSS JOIN (
    SELECT
        count(*) FILTER (WHERE is_over) AS vacant,
        count(*) FILTER (WHERE NOT is_over AND is_gone) AS orphaned
    FROM (
        SELECT
            owner IS NULL OR lease_until < clock_timestamp() AS is_over,
            session_is_gone(backend_pid, backend_start, backend_server) AS is_gone
        FROM partitions
    ) AS judged
) AS own

-- name: leave_company
-- From now on the others' shares are larger by ours.
DELETE FROM workers
WHERE id = $1

-- name: stamp_session
-- After the session was cut, and before others take its end for ours: what is still ours is of the new session. Locked in
-- order, as the batches lock them.
WITH mine AS MATERIALIZED (
    SELECT partition
    FROM partitions
    WHERE owner = $1
    ORDER BY partition
    FOR NO KEY UPDATE
),

present AS (
    UPDATE workers AS w
    SET backend_pid = me.pid, backend_start = me.began, backend_server = me.server
    FROM this_session() AS me
    WHERE w.id = $1
)

UPDATE partitions AS p
SET backend_pid = me.pid, backend_start = me.began, backend_server = me.server
FROM mine, this_session() AS me
WHERE p.partition = mine.partition
