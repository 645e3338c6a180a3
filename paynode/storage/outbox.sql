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

-- name: find_old_streams
-- Streams with something that was published a while ago ($1, seconds) and is not processed. From one stream's name to the
-- next, so that it costs the same however many rows wait.
WITH RECURSIVE streams AS (
    (SELECT stream FROM outbox WHERE published_at IS NOT NULL ORDER BY stream LIMIT 1)
    UNION ALL
    SELECT (
        SELECT o.stream
        FROM outbox AS o
        WHERE o.published_at IS NOT NULL AND o.stream > s.stream
        ORDER BY o.stream
        LIMIT 1
    )
    FROM streams AS s
    WHERE s.stream IS NOT NULL
)

SELECT s.stream
FROM streams AS s
WHERE (
    SELECT o.published_at
    FROM outbox AS o
    WHERE o.stream = s.stream AND o.published_at IS NOT NULL
    ORDER BY o.published_at
    LIMIT 1
) < statement_timestamp() - $1 * interval '1 second'

-- name: find_lost_rows
-- Published a while ago and not processed, and their entries are gone: of each stream in $4 what was published before that
-- instant (milliseconds), with null all of it. The pause doubles with every time that one was published again. A command
-- with an open attempt is being worked on; that an open one is not `not_sent` goes without saying, but finds the index.
SELECT o.id, o.stream, o.merchant_id
FROM jsonb_each_text($4::jsonb) AS gone (stream, before_ms)
CROSS JOIN LATERAL (
    SELECT o.id::text AS id, o.stream, o.merchant_id::text AS merchant_id, o.published_at
    FROM outbox AS o
    WHERE
        o.stream = gone.stream
        AND o.published_at < statement_timestamp() - $1 * interval '1 second'
        AND o.published_at < coalesce(
            'epoch'::timestamptz + gone.before_ms::bigint * interval '1 millisecond', 'infinity'
        )
        AND o.published_at < statement_timestamp()
        - least($2, $1 * power(2, least(o.republished, 20))) * interval '1 second'
        AND NOT EXISTS (
            SELECT FROM psp_attempts AS a
            WHERE
                a.operation_id = o.operation_id AND a.outcome IS DISTINCT FROM 'not_sent'
                AND a.concluded_at IS NULL AND a.deadline_at > clock_timestamp()
                AND o.type IN ('psp.submit', 'psp.inquire')
        )
    ORDER BY o.published_at
    LIMIT $3
) AS o
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
