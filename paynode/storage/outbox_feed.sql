-- name: find_due_rows
-- A partition's rows in their order, page by page. A row that is committed late, with an earlier place than the page
-- before, is found when the next pass begins at the first one again: nothing is skipped for good. Every page begins with
-- the first rows of the lane that is read first.
SELECT id::text AS id, merchant_id::text AS merchant_id, available_at, is_pos
FROM (
    (
        SELECT id, merchant_id, available_at, true AS is_pos
        FROM outbox
        WHERE stream = $5 AND available_at <= statement_timestamp()
        ORDER BY available_at, id
        LIMIT $4
    )
    UNION ALL
    (
        SELECT id, merchant_id, available_at, false AS is_pos
        FROM outbox
        WHERE stream = $1 AND available_at <= statement_timestamp() AND (available_at, id) > ($2::timestamptz, $3::uuid)
        ORDER BY available_at, id
        LIMIT $4
    )
) AS due
ORDER BY NOT is_pos, available_at, id

-- name: take_commands
-- Competing gateways pass over what another one has in hand, and what is being sent at this moment. The weaker lock is
-- the one that lets an attempt be claimed meanwhile. The subquery and the array leave no other way than look-ups: a join
-- would read all attempts there ever were.
WITH due AS (
    SELECT o.id
    FROM outbox AS o
    WHERE
        o.stream = $1 AND o.available_at <= statement_timestamp()
        AND (o.taken_until IS NULL OR o.taken_until < statement_timestamp())
        AND (
            SELECT a.id FROM psp_attempts AS a
            WHERE
                a.operation_id = o.operation_id AND a.outcome IS DISTINCT FROM 'not_sent'
                AND a.concluded_at IS NULL AND a.deadline_at > statement_timestamp()
        ) IS NULL
    ORDER BY o.available_at, o.id
    LIMIT $2
    FOR NO KEY UPDATE OF o SKIP LOCKED
)

UPDATE outbox AS o
SET taken_until = clock_timestamp() + $3 * interval '1 millisecond', taken = o.taken + 1
WHERE o.id = ANY(ARRAY(SELECT id FROM due))
RETURNING o.id::text AS id, o.taken

-- name: renew_commands
-- What is still in hand. One that is locked is being concluded at this moment.
WITH held AS (
    SELECT id
    FROM outbox
    WHERE id = ANY($1::uuid[])
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE outbox AS o
SET taken_until = clock_timestamp() + $2 * interval '1 millisecond'
WHERE o.id = ANY(ARRAY(SELECT id FROM held))

-- name: release_commands
-- Not begun by us, and for anybody else at once.
WITH held AS (
    SELECT id
    FROM outbox
    WHERE id = ANY($1::uuid[])
    FOR NO KEY UPDATE SKIP LOCKED
)

UPDATE outbox AS o
SET taken_until = NULL
WHERE o.id = ANY(ARRAY(SELECT id FROM held))
