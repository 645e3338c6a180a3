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
SELECT
    id::text, merchant_id::text, order_id, status, amount, currency, amount_authorized, amount_captured,
    amount_refunded, refund_status, capture, method, page_url, psp, psp_reference, fraud_check, metadata, version,
    created_at, updated_at
FROM payments
WHERE merchant_id = $1 AND id < COALESCE($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    AND ($3::text IS NULL OR status = $3)
ORDER BY id DESC LIMIT $4;

-- name: list_order_payments
-- Apart from the list above: one plan for both would walk all of a merchant's payments to find one order.
SELECT
    id::text, merchant_id::text, order_id, status, amount, currency, amount_authorized, amount_captured,
    amount_refunded, refund_status, capture, method, page_url, psp, psp_reference, fraud_check, metadata, version,
    created_at, updated_at
FROM payments
WHERE merchant_id = $1 AND order_id = $5 AND id < COALESCE($2::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
    AND ($3::text IS NULL OR status = $3)
ORDER BY id DESC LIMIT $4;

-- name: list_events
-- A timeline in its own order; its versions have no gap.
SELECT id::text, payment_id::text, version, type, data, at FROM payment_events
WHERE payment_id = $1 AND version > $2 ORDER BY version LIMIT $3;

-- name: list_wallets
-- One row per currency: a page of them is all of them.
SELECT currency, pending, available, reserve, held, balance FROM wallets WHERE merchant_id = $1 ORDER BY currency;

-- name: list_ledger
-- By the merchant's own gapless number, newest first.
SELECT
    id::text, line, seq, payment_id::text, type, debit_account, credit_account, amount, currency, psp_reference, at,
    prev_hash, hash
FROM ledger_entries
WHERE merchant_id = $1 AND seq < COALESCE($2::bigint, 9223372036854775807)
    AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
ORDER BY seq DESC LIMIT $5;

-- name: list_payment_ledger
-- Apart from the list above: a payment has a handful of postings, found by its own index.
SELECT
    id::text, line, seq, payment_id::text, type, debit_account, credit_account, amount, currency, psp_reference, at,
    prev_hash, hash
FROM ledger_entries
WHERE merchant_id = $1 AND payment_id = $6 AND seq < COALESCE($2::bigint, 9223372036854775807)
    AND ($3::timestamptz IS NULL OR at >= $3) AND ($4::timestamptz IS NULL OR at < $4)
ORDER BY seq DESC LIMIT $5;
