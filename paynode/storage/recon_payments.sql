-- name: list_open_operations
-- Operations made within a window that have not ended, or whose payment is in review, by their ids, which are by time: each
-- is looked at when it comes of age, and afterwards only as long as something is wrong with it.
SELECT
    o.id::text AS id, o.payment_id::text AS payment_id, o.merchant_id::text AS merchant_id, o.psp, o.kind, o.state,
    o.amount, o.currency, (extract(EPOCH FROM o.created_at) * 1000)::bigint AS created_ms,
    p.reverse_at IS NOT NULL AS is_pos, is_stuck(o) AS is_stuck,
    p.status = 'review' AND o.kind IN ('sale', 'authorize') AS is_in_review,
    a.id IS NOT NULL AS has_attempt, a.outcome
FROM operations AS o
INNER JOIN payments AS p ON p.id = o.payment_id
LEFT JOIN psp_attempts AS a ON a.operation_id = o.id AND a.outcome IS DISTINCT FROM 'not_sent'
WHERE
    o.id >= uuid7_floor($1) AND o.id < uuid7_floor($2) AND o.id > $3::uuid
    AND (
        o.state IN ('new', 'pending', 'unknown', 'review')
        OR (p.status = 'review' AND o.kind IN ('sale', 'authorize'))
    )
ORDER BY o.id
LIMIT $4

-- name: list_doubted_still
-- Those outside of the window with which something was wrong before. In the same words, so that they are seen alike.
SELECT
    o.id::text AS id, o.payment_id::text AS payment_id, o.merchant_id::text AS merchant_id, o.psp, o.kind, o.state,
    o.amount, o.currency, (extract(EPOCH FROM o.created_at) * 1000)::bigint AS created_ms,
    p.reverse_at IS NOT NULL AS is_pos, is_stuck(o) AS is_stuck,
    p.status = 'review' AND o.kind IN ('sale', 'authorize') AS is_in_review,
    a.id IS NOT NULL AS has_attempt, a.outcome
FROM operations AS o
INNER JOIN payments AS p ON p.id = o.payment_id
LEFT JOIN psp_attempts AS a ON a.operation_id = o.id AND a.outcome IS DISTINCT FROM 'not_sent'
WHERE
    o.id IN (
        SELECT b.operation_id FROM reconciliation_breaks AS b
        WHERE b.area = 'payments' AND b.state IN ('open', 'repairing')
    )
    AND NOT (o.id >= uuid7_floor($1) AND o.id < uuid7_floor($2)) AND o.id > $3::uuid
ORDER BY o.id
LIMIT $4

-- name: mend_operation
-- What puts it back on its way, unless somebody has meanwhile.
SELECT mend_operation($1, $2, $3, $4)
