-- name: list_letters
-- A keyset page, newest first. Filters that nobody gave are NULL. Walks the letters by their key: a heap of them is a
-- few thousand, and whoever has millions looks for the sender first.
SELECT
    id::text AS id, status, stream, entry_id, row_id::text AS row_id, event_id::text AS event_id, type,
    merchant_id::text AS merchant_id, payment_id::text AS payment_id, reason, error, attempts, first_failed_at,
    resolved_at, resolved_by, message IS NOT NULL AS can_requeue
FROM dead_letters
WHERE
    ($1::text IS NULL OR status = $1) AND ($2::text IS NULL OR reason = $2)
    AND ($3::uuid IS NULL OR merchant_id = $3) AND ($4::text IS NULL OR stream = $4)
    AND ($5::timestamptz IS NULL OR first_failed_at >= $5) AND ($6::timestamptz IS NULL OR first_failed_at < $6)
    AND id < coalesce($7::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY id DESC
LIMIT $8

-- name: select_letter
-- One letter with what came, what a requeue would put on the road, and how many rows wait behind its payment.
SELECT
    l.id::text AS id, l.status, l.stream, l.entry_id, l.row_id::text AS row_id, l.event_id::text AS event_id, l.type,
    l.merchant_id::text AS merchant_id, l.payment_id::text AS payment_id, l.reason, l.error, l.attempts,
    l.first_failed_at, l.resolved_at, l.resolved_by, l.message IS NOT NULL AS can_requeue, l.fields, l.message,
    (SELECT count(*) FROM parked AS p WHERE p.payment_id = l.payment_id) AS parked
FROM dead_letters AS l
WHERE l.id = $1

-- name: list_letter_audit
-- What was done to it, in the order in which it was done.
SELECT at, actor, action, note, detail
FROM audit_log
WHERE subject = $1
ORDER BY id

-- name: requeue_letter
-- Everything that a requeue means is in the function, in one transaction with its audit row.
SELECT requeue_dead_letter($1, $2, $3)

-- name: discard_letter
-- As above.
SELECT discard_dead_letter($1, $2, $3)

-- name: list_open_letters
-- Which letters wait, for comparison with the dead-letter streams. Ids only: their content is fetched for the few that
-- are missing there.
SELECT id::text AS id, stream
FROM dead_letters
WHERE status = 'dead'

-- name: read_letters
-- What the dead-letter streams show of these; one that was resolved meanwhile is not shown any more.
SELECT
    id::text AS id, stream, entry_id, row_id::text AS row_id, reason, error, attempts, fields,
    (extract(EPOCH FROM first_failed_at) * 1000)::bigint AS first_failed_at_ms
FROM dead_letters
WHERE id = ANY($1::uuid[]) AND status = 'dead'
ORDER BY id

-- name: release_stranded
-- Rows that were parked in the moment in which the letter that they wait for was resolved.
SELECT release_stranded()

-- name: forget_suspects
-- A suspect that nobody has tried for so long was processed, or is gone with its stream.
DELETE FROM suspects
WHERE last_tried_at < clock_timestamp() - $1 * interval '1 second'
