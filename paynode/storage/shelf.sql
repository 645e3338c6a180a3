-- name: find_messages
-- A pointer whose row is gone has had its effect: the row is deleted by the effect's own transaction. Rows of other
-- streams are not found: a pointer that stands where it does not belong must not claim what others are to do. Of the
-- stream's two lanes, which one owner reads, either will do. Who told what is evidence stands in the inbox, if it was a
-- callback: the operation may have gone on to another PSP meanwhile.
SELECT
    asked.stream AS asked, o.id::text AS id, o.type, o.merchant_id::text AS merchant_id,
    o.payment_id::text AS payment_id, o.body, i.psp,
    -- One tells of one thing once, in however many reports.
    o.type = 'settlement.line'
    AND EXISTS (SELECT FROM wallet_adjustments AS a WHERE a.operation_id = o.id) AS is_posted
FROM unnest($1::text[], $2::uuid[]) AS asked (stream, id)
INNER JOIN outbox AS o ON o.id = asked.id AND o.stream IN (asked.stream, asked.stream || ':pos')
LEFT JOIN inbox AS i ON i.id = o.id

-- name: find_verdicts
-- What became of outside events that were had before. A dead letter's event is known too: only a requeue brings it back.
SELECT
    event_id::text AS event_id, content_sha256, merchant_id::text AS merchant_id, publisher, type, result, code
FROM applied_events
WHERE event_id = ANY($1::uuid[])

-- name: find_payments
-- What the actors fold operations and evidence onto. Of operations the charge first: a payment began with it. Evidence in
-- the order in which it came to the books: of two equal charges the earlier one carries the posting.
SELECT
    p.id::text AS id, p.merchant_id::text AS merchant_id, p.amount, p.currency, p.method ->> 'type' AS method,
    p.status, p.version, p.amount_authorized, p.amount_capturing, p.amount_captured, p.amount_voiding,
    p.amount_voided, p.amount_refunding, p.amount_refunded, p.psp_reference, p.page_url, p.review_reason,
    p.fraud_check, p.route, p.given_up_at IS NOT NULL AS is_given_up, p.reverse_at IS NOT NULL AS is_for_pos,
    p.kept_at IS NOT NULL AS is_kept, p.reversed_at IS NOT NULL AS is_reversed, p.capture = 'automatic' AS is_automatic,
    (
        SELECT to_jsonb(terms)
        FROM (
            SELECT t.fee_fixed, t.fee_basis_points, t.reserve_basis_points, t.reserve_days, t.availability, t.available_days
            FROM merchant_terms AS t WHERE t.id = p.terms_id
            UNION ALL
            SELECT m.fee_fixed, m.fee_basis_points, m.reserve_basis_points, m.reserve_days, m.availability, m.available_days
            FROM merchants AS m WHERE m.id = p.merchant_id AND p.terms_id IS NULL
        ) AS terms
    ) AS terms,
    EXISTS (
        SELECT FROM dead_letters AS d
        WHERE d.payment_id = p.id AND d.status = 'dead' AND d.type = 'psp.evidence'
    ) AS is_held_up,
    (
        SELECT jsonb_agg(to_jsonb(o) ORDER BY o.kind NOT IN ('sale', 'authorize'), o.created_at, o.id)
        FROM (
            SELECT
                id, kind, amount, currency, psp, state, psp_reference, is_final, origin, hold_available, hold_pending,
                reason, target, is_maturing, (extract(EPOCH FROM matures_at) * 1000)::bigint AS matures_at_ms,
                rest_pending, (extract(EPOCH FROM releases_at) * 1000)::bigint AS releases_at_ms, rest_reserve,
                created_at
            FROM operations
            WHERE payment_id = p.id
        ) AS o
    ) AS operations,
    (
        SELECT jsonb_agg(to_jsonb(e) ORDER BY e.at, e.id)
        FROM (
            SELECT
                id, payment_id, operation_id, outcome, source, psp_reference, amount, currency, page_url, reason,
                fraud_check, psp, (extract(EPOCH FROM psp_at) * 1000)::bigint AS psp_at_ms, at
            FROM evidence
            WHERE payment_id = p.id
        ) AS e
    ) AS evidence
FROM payments AS p
WHERE p.id = ANY($1::uuid[])

-- name: find_books
-- The head is missing before the merchant's first posting. Wallets in all currencies, and the payouts that are open.
SELECT
    m.id::text AS id, h.seq, h.hash,
    (
        SELECT jsonb_agg(to_jsonb(w))
        FROM (
            SELECT currency, pending, available, reserve, held, maturing, version
            FROM wallets
            WHERE merchant_id = m.id
        ) AS w
    ) AS wallets,
    (
        SELECT jsonb_agg(to_jsonb(o))
        FROM (
            SELECT id, merchant_id, currency, amount, reference, state
            FROM payouts
            WHERE merchant_id = m.id AND state = 'created'
        ) AS o
    ) AS payouts
FROM merchants AS m
LEFT JOIN ledger_heads AS h ON h.merchant_id = m.id
WHERE m.id = ANY($1::uuid[])
