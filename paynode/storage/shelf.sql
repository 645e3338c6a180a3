-- name: find_messages
-- A pointer whose row is gone has had its effect: the row is deleted by the effect's own transaction. Rows of other
-- streams are not found: a pointer that stands where it does not belong must not claim what others are to do.
SELECT id::text AS id, type, merchant_id::text AS merchant_id, payment_id::text AS payment_id, body
FROM outbox
WHERE id = ANY($1::uuid[]) AND stream = $2

-- name: find_verdicts
-- What became of outside events that were had before. A dead letter's event is known too: only a requeue brings it back.
SELECT
    event_id::text AS event_id, content_sha256, merchant_id::text AS merchant_id, publisher, type, result, code
FROM applied_events
WHERE event_id = ANY($1::uuid[])

-- name: find_payments
-- A payment with the one operation that charges it. LATERAL and LIMIT leave no other way than one look-up per payment:
-- the partial index of the charges looks cheap to read whole while it is new.
SELECT
    p.id::text AS id, p.merchant_id::text AS merchant_id, p.amount, p.currency, p.method ->> 'type' AS method,
    p.status, p.version, p.amount_authorized, p.amount_captured, p.psp_reference, p.page_url, p.review_reason,
    o.id::text AS operation_id, o.kind, o.psp, o.state, o.psp_reference AS operation_reference,
    EXISTS (
        SELECT FROM dead_letters AS d
        WHERE d.payment_id = p.id AND d.status = 'dead' AND d.type = 'psp.evidence'
    ) AS is_held_up
FROM payments AS p
CROSS JOIN LATERAL (
    SELECT * FROM operations WHERE payment_id = p.id AND kind IN ('sale', 'authorize') LIMIT 1
) AS o
WHERE p.id = ANY($1::uuid[])

-- name: find_evidence
-- In the order in which it came to the books: of two equal charges the earlier one carries the posting.
SELECT
    id::text AS id, payment_id::text AS payment_id, operation_id::text AS operation_id, outcome, source,
    psp_reference, amount, currency, page_url, reason, (extract(EPOCH FROM psp_at) * 1000)::bigint AS psp_at_ms
FROM evidence
WHERE payment_id = ANY($1::uuid[])
ORDER BY payment_id, at, id

-- name: find_accounts
-- The head is missing before the merchant's first posting.
SELECT m.id::text AS id, m.fee_fixed, m.fee_basis_points, h.seq, h.hash
FROM merchants AS m
LEFT JOIN ledger_heads AS h ON h.merchant_id = m.id
WHERE m.id = ANY($1::uuid[])

-- name: find_wallets
-- All currencies of the merchants in hand.
SELECT merchant_id::text AS merchant_id, currency, pending, available, reserve, held, version
FROM wallets
WHERE merchant_id = ANY($1::uuid[])
