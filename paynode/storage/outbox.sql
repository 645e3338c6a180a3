-- name: take_due_rows
-- Rows that nobody has published yet and whose time has come. Marked before they are published: what is marked and
-- then lost is found again as missing from its stream. Ordered once more: an update returns its rows as its join finds them.
WITH due AS (
    SELECT id
    FROM outbox
    WHERE published_at IS NULL AND available_at <= clock_timestamp()
    ORDER BY available_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),

taken AS (
    UPDATE outbox AS o
    SET published_at = clock_timestamp()
    FROM due
    WHERE o.id = due.id
    RETURNING o.id, o.stream, o.merchant_id, o.available_at
)

SELECT id::text AS id, stream, merchant_id::text AS merchant_id
FROM taken
ORDER BY available_at

-- name: find_old_rows
-- Published a while ago and still not processed: its entry may be lost, or waiting in the stream. The pause doubles
-- with every time it was published again. Of a stream that is named in $4 only what was published before that instant
-- (milliseconds): the rest is a backlog, which must not hide what is lost behind it. A command with an open attempt is
-- being worked on; that an open one is not `not_sent` goes without saying, but finds the index.
SELECT
    o.id::text AS id, o.stream, o.merchant_id::text AS merchant_id,
    (extract(EPOCH FROM o.published_at) * 1000)::bigint AS published_at_ms
FROM outbox AS o
WHERE
    o.published_at < statement_timestamp() - $1 * interval '1 second'
    AND o.published_at < statement_timestamp()
    - least($2, $1 * power(2, least(o.republished, 20))) * interval '1 second'
    AND o.published_at < coalesce(
        'epoch'::timestamptz + ($4::jsonb ->> o.stream)::bigint * interval '1 millisecond', 'infinity'
    )
    AND NOT EXISTS (
        SELECT FROM psp_attempts AS a
        WHERE
            a.operation_id = o.operation_id AND a.outcome IS DISTINCT FROM 'not_sent'
            AND a.concluded_at IS NULL AND a.deadline_at > clock_timestamp()
            AND o.type IN ('psp.submit', 'psp.inquire')
    )
ORDER BY o.published_at
LIMIT $3

-- name: mark_republished
-- From now on the row counts as published now: its new entry is what must be missing next time. One that is locked is
-- being processed at this moment: nobody waits for it, least of all in the middle of a row of locks.
WITH free AS (
    SELECT id
    FROM outbox
    WHERE id = ANY($1::uuid[])
    FOR UPDATE SKIP LOCKED
)

UPDATE outbox AS o
SET published_at = clock_timestamp(), republished = o.republished + 1
FROM free
WHERE o.id = free.id
