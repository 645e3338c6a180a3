-- What merchants and customers are shown; read as the reader's role.

-- name: read_payment
-- With the merchant in the condition: another merchant's payment does not exist.
SELECT
    id::text, merchant_id::text, order_id, status, amount, currency, amount_authorized, amount_captured,
    amount_refunded, refund_status, capture, method, page_url, psp, psp_reference, fraud_check, metadata, version,
    created_at, updated_at
FROM payments WHERE id = $1 AND merchant_id = $2;

-- name: read_payments_by_id
-- All payments that somebody waits for, in one query: the poll costs the same for one waiter and for a thousand.
SELECT
    id::text, merchant_id::text, order_id, status, amount, currency, amount_authorized, amount_captured,
    amount_refunded, refund_status, capture, method, page_url, psp, psp_reference, fraud_check, metadata, version,
    created_at, updated_at
FROM payments WHERE id = ANY($1::uuid[]);

-- name: list_payments
-- A keyset page: an id is a time, so "older than the last one seen" neither skips nor repeats when new ones arrive.
-- Ordered by the column, here and below, and not by the text of the same name, which no index has.
SELECT
    id::text, merchant_id::text, order_id, status, amount, currency, amount_authorized, amount_captured,
    amount_refunded, refund_status, capture, method, page_url, psp, psp_reference, fraud_check, metadata, version,
    created_at, updated_at
FROM payments
WHERE merchant_id = $1 AND id < COALESCE($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY payments.id DESC LIMIT $3;

-- name: list_status_payments
-- Apart from the list above: one plan for both would walk all of a merchant's payments to find one under review. `status =
-- $4`, said in a way that no other index has the order of: else, where it takes the states for equally frequent, PostgreSQL
-- walks all the same (0.5 s for a million payments).
SELECT
    id::text, merchant_id::text, order_id, status, amount, currency, amount_authorized, amount_captured,
    amount_refunded, refund_status, capture, method, page_url, psp, psp_reference, fraud_check, metadata, version,
    created_at, updated_at
FROM payments
WHERE merchant_id = $1 AND status >= $4::text
    AND (status, id) < ($4::text, COALESCE($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
ORDER BY payments.status DESC, payments.id DESC LIMIT $3;

-- name: list_order_payments
-- Apart from the lists above: one plan for all would walk all of a merchant's payments to find one order.
SELECT
    id::text, merchant_id::text, order_id, status, amount, currency, amount_authorized, amount_captured,
    amount_refunded, refund_status, capture, method, page_url, psp, psp_reference, fraud_check, metadata, version,
    created_at, updated_at
FROM payments
WHERE merchant_id = $1 AND order_id = $4 AND id < COALESCE($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    AND ($5::text IS NULL OR status = $5)
ORDER BY payments.id DESC LIMIT $3;

-- name: read_operations_by_id
-- What was asked is there before its operation is, and a rule of ours makes an operation that nobody asked for. Polled
-- like the payments above, all at once.
SELECT
    p.id::text, p.merchant_id::text, p.order_id, p.status, p.amount, p.currency, p.amount_authorized,
    p.amount_captured, p.amount_refunded, p.refund_status, p.capture, p.method, p.page_url, p.psp, p.psp_reference,
    p.fraud_check, p.metadata, p.version, p.created_at, p.updated_at,
    coalesce(o.id, r.id)::text AS operation_id, coalesce(o.kind, r.kind) AS kind,
    coalesce(o.amount, r.amount) AS operation_amount, coalesce(o.is_final, r.is_final) AS is_final,
    coalesce(r.reason, o.reason) AS reason, o.id IS NOT NULL OR r.decided_at IS NOT NULL AS is_decided, o.state,
    r.refusal, o.psp_reference AS operation_reference, coalesce(r.created_at, o.created_at) AS asked_at,
    coalesce(o.updated_at, r.decided_at, r.created_at) AS concluded_at, last.reason AS failure_reason
FROM unnest($1::uuid[]) AS wanted (id)
LEFT JOIN requests AS r ON r.id = wanted.id
LEFT JOIN operations AS o ON o.id = wanted.id
INNER JOIN payments AS p ON p.id = coalesce(r.payment_id, o.payment_id)
LEFT JOIN LATERAL (
    SELECT e.reason FROM evidence AS e
    WHERE e.payment_id = o.payment_id AND e.operation_id = o.id
        AND e.outcome IN ('declined', 'expired', 'absent', 'reversed', 'not_sent')
    ORDER BY e.at DESC LIMIT 1
) AS last ON true;

-- name: list_refunds
-- With the merchant in the condition: another merchant's payment has no refunds. A refused request never was one, and
-- what gives back a surplus is of money that never was the merchant's.
SELECT
    p.id::text, p.merchant_id::text, p.order_id, p.status, p.amount, p.currency, p.amount_authorized,
    p.amount_captured, p.amount_refunded, p.refund_status, p.capture, p.method, p.page_url, p.psp, p.psp_reference,
    p.fraud_check, p.metadata, p.version, p.created_at, p.updated_at,
    coalesce(o.id, r.id)::text AS operation_id, coalesce(o.kind, r.kind) AS kind,
    coalesce(o.amount, r.amount) AS operation_amount, coalesce(o.is_final, r.is_final) AS is_final,
    coalesce(r.reason, o.reason) AS reason, o.id IS NOT NULL OR r.decided_at IS NOT NULL AS is_decided, o.state,
    r.refusal, o.psp_reference AS operation_reference, coalesce(r.created_at, o.created_at) AS asked_at,
    coalesce(o.updated_at, r.decided_at, r.created_at) AS concluded_at, last.reason AS failure_reason
FROM operations AS o
INNER JOIN payments AS p ON p.id = o.payment_id
LEFT JOIN requests AS r ON r.id = o.id
LEFT JOIN LATERAL (
    SELECT e.reason FROM evidence AS e
    WHERE e.payment_id = o.payment_id AND e.operation_id = o.id
        AND e.outcome IN ('declined', 'expired', 'absent', 'reversed', 'not_sent')
    ORDER BY e.at DESC LIMIT 1
) AS last ON true
WHERE o.payment_id = $1 AND p.merchant_id = $2 AND o.kind = 'refund' AND o.origin <> 'surplus'
    AND o.id < coalesce($3::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
ORDER BY o.id DESC LIMIT $4;

-- name: list_events
-- A timeline in its own order; its versions have no gap.
SELECT id::text, payment_id::text, version, type, data, at FROM payment_events
WHERE payment_id = $1 AND version > $2 ORDER BY version LIMIT $3;

-- name: list_wallets
-- One row per currency: a page of them is all of them.
SELECT currency, pending, available, reserve, held, balance FROM wallets WHERE merchant_id = $1 ORDER BY currency;

-- name: list_ledger
-- By the merchant's own gapless number, newest first. A time is turned into numbers first, with a minute to spare for the
-- clocks of those who wrote; else all that is newer would be walked to find what is old. The subqueries are asked once.
SELECT
    id::text, line, seq, payment_id::text, type, debit_account, credit_account, amount, currency, psp_reference, at,
    prev_hash, hash
FROM ledger_entries
WHERE merchant_id = $1 AND seq < COALESCE($2::bigint, 9223372036854775807)
    AND seq > CASE WHEN $3::timestamptz IS NULL THEN 0
        ELSE (SELECT ledger_seq_before($1, $3 - interval '1 minute')) END
    AND seq <= CASE WHEN $4::timestamptz IS NULL THEN 9223372036854775807
        ELSE (SELECT ledger_seq_before($1, $4 + interval '1 minute')) END
    AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
ORDER BY seq DESC LIMIT $5;

-- name: list_payment_ledger
-- Apart from the list above: a payment has a handful of postings, found by its own index. Materialized, or all that a
-- merchant has would be walked in the order of its numbers to find them.
WITH postings AS MATERIALIZED (
    SELECT * FROM ledger_entries WHERE payment_id = $6
)

SELECT
    id::text, line, seq, payment_id::text, type, debit_account, credit_account, amount, currency, psp_reference, at,
    prev_hash, hash
FROM postings
WHERE merchant_id = $1 AND seq < COALESCE($2::bigint, 9223372036854775807)
    AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
ORDER BY seq DESC LIMIT $5;
