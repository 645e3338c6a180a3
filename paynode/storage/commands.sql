-- name: find_commands
-- A pointer whose row is gone has had its effect. Rows of other streams are not found: a pointer that stands where it
-- does not belong must bury nobody's evidence. Tries that were not sent have an index of their own, which is small; what
-- was tried at another PSP is new to this one.
SELECT
    o.id::text AS id, o.type, o.merchant_id::text AS merchant_id, o.payment_id::text AS payment_id, o.body,
    CASE
        WHEN o.type = 'psp.submit' THEN (
            SELECT count(*) FROM psp_attempts AS a
            WHERE a.operation_id = o.operation_id AND a.outcome = 'not_sent' AND a.psp = o.body ->> 'psp'
        )
        ELSE 0
    END AS tries
FROM outbox AS o
WHERE o.id = ANY($1::uuid[]) AND o.stream = $2

-- name: postpone_command
-- As if it had been made for later: the relay publishes it when it is due, and the way round Redis takes it then. That it
-- was taken counts no more, for whoever took it lives.
UPDATE outbox
SET
    available_at = clock_timestamp() + $2 * interval '1 second', published_at = NULL, republished = 0,
    taken_until = NULL, taken = 0
WHERE id = $1

-- name: bury_commands
-- The row becomes the letter, in one statement: deleting it is the claim, and whoever finds it gone writes nothing. The
-- whole row is kept, for a requeue makes the same row of it again. Not while somebody may be at it: with the row would
-- go what the PSP answers. A process that was stopped may have begun since nobody was found to have.
WITH input AS (
    SELECT DISTINCT ON (i.ref) *
    FROM jsonb_to_recordset($1::jsonb) AS i (
        id uuid, ref uuid, entry_id text, reason text, error text, attempts integer, fields jsonb,
        first_failed_at_ms bigint
    )
    ORDER BY i.ref
),

gone AS (
    DELETE FROM outbox AS o
    USING input AS i
    WHERE
        o.id = i.ref
        AND NOT EXISTS (
            SELECT FROM psp_attempts AS a
            WHERE a.operation_id = o.operation_id AND a.outcome IS NULL AND a.deadline_at > clock_timestamp()
            AND a.outcome IS DISTINCT FROM 'not_sent' -- follows from the above, and PostgreSQL finds the index by it
        )
    RETURNING o.*
)

INSERT INTO dead_letters (
    id, stream, entry_id, row_id, event_id, type, merchant_id, payment_id, reason, error, attempts, fields, message,
    first_failed_at
)
SELECT
    i.id, g.stream, i.entry_id, g.id, g.id, g.type, g.merchant_id, g.payment_id, i.reason, i.error, i.attempts, i.fields,
    to_jsonb(g), 'epoch'::timestamptz + i.first_failed_at_ms * interval '1 millisecond'
FROM gone AS g
INNER JOIN input AS i ON i.ref = g.id
RETURNING id::text AS id

-- name: count_suspect
-- Before the try, and committed: whoever dies over it has been counted.
INSERT INTO suspects AS s (stream, entry, attempts)
VALUES ($1, $2, 1)
ON CONFLICT (stream, entry) DO UPDATE
SET attempts = s.attempts + 1, last_tried_at = clock_timestamp()
RETURNING attempts, (extract(EPOCH FROM first_failed_at) * 1000)::bigint AS first_failed_at_ms

-- name: clear_suspect
-- We have survived it.
DELETE FROM suspects
WHERE stream = $1 AND entry = $2
