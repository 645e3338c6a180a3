-- name: list_operations
-- Operations made within a window, by their ids, which are by time: a bounded number at a time, whether or not they have
-- ended. Each is looked at when it comes of age, and afterwards only as long as something is wrong with it.
SELECT id::text AS id
FROM operations
WHERE id >= uuid7_floor($1) AND id < uuid7_floor($2) AND id > $3::uuid
ORDER BY id
LIMIT $4

-- name: list_doubted
-- Those outside of the window with which something was wrong before.
SELECT DISTINCT operation_id::text AS id
FROM reconciliation_breaks
WHERE
    area = 'payments' AND state IN ('open', 'repairing') AND operation_id > $3::uuid
    AND NOT (operation_id >= uuid7_floor($1) AND operation_id < uuid7_floor($2))
ORDER BY 1
LIMIT $4

-- name: read_open_operations
-- What is under way for those of them that have not ended, or whose payment is in review.
SELECT
    o.id::text AS id, o.payment_id::text AS payment_id, o.merchant_id::text AS merchant_id, o.psp, o.kind, o.state,
    o.amount, o.currency, (extract(EPOCH FROM o.created_at) * 1000)::bigint AS created_ms,
    p.reverse_at IS NOT NULL AS is_pos, p.status = 'review' AND o.kind IN ('sale', 'authorize') AS is_in_review,
    o.state IN ('new', 'pending', 'unknown') AND is_stuck(o) AS is_stuck, a.id IS NOT NULL AS has_attempt, a.outcome
FROM operations AS o
INNER JOIN payments AS p ON p.id = o.payment_id
LEFT JOIN psp_attempts AS a ON a.operation_id = o.id AND a.outcome IS DISTINCT FROM 'not_sent'
WHERE
    o.id = ANY($1::uuid [])
    AND (
        o.state IN ('new', 'pending', 'unknown', 'review')
        OR (p.status = 'review' AND o.kind IN ('sale', 'authorize'))
    )
ORDER BY o.id

-- name: mend_operation
-- What puts it back on its way, unless somebody has meanwhile.
SELECT mend_operation($1, $2, $3, $4)
