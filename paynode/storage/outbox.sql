-- name: take_due_rows
-- Rows that nobody has published yet and whose time has come. Marked before they are published: what is marked and
-- then lost is found again as missing from its stream.
WITH due AS (
    SELECT id
    FROM outbox
    WHERE published_at IS NULL AND available_at <= clock_timestamp()
    ORDER BY available_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
)

UPDATE outbox AS o
SET published_at = clock_timestamp()
FROM due
WHERE o.id = due.id
RETURNING o.id::text AS id, o.stream

-- name: find_old_rows
-- Published a while ago and still not processed: its entry may be lost, or waiting in the stream. The pause doubles
-- with every time it was published again. A command with an open attempt is being worked on.
SELECT o.id::text AS id, o.stream, (extract(EPOCH FROM o.published_at) * 1000)::bigint AS published_at_ms
FROM outbox AS o
WHERE
    o.published_at < clock_timestamp() - $1 * interval '1 second'
    AND o.published_at < clock_timestamp()
    - least($2, $1 * power(2, least(o.republished, 20))) * interval '1 second'
    AND NOT EXISTS (
        SELECT FROM psp_attempts AS a
        WHERE
            a.operation_id = o.operation_id AND a.concluded_at IS NULL AND a.deadline_at > clock_timestamp()
            AND o.type IN ('psp.submit', 'psp.inquire')
    )
ORDER BY o.published_at
LIMIT $3

-- name: mark_republished
-- From now on the row counts as published now: its new entry is what must be missing next time.
UPDATE outbox
SET published_at = clock_timestamp(), republished = republished + 1
WHERE id = ANY($1::uuid[])
