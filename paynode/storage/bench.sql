-- name: count_captured
-- How far the run is.
SELECT count(*)
FROM payments
WHERE merchant_id = ANY($1::uuid[]) AND status = 'captured'

-- name: measure_latencies
-- From accepted to ledgered, both by the database's clock. An entry's own time is set before its commit, a payment's
-- update during it.
SELECT extract(EPOCH FROM updated_at - created_at) * 1000 AS ms
FROM payments
WHERE merchant_id = ANY($1::uuid[]) AND status = 'captured'

-- name: find_operations
-- What the PSP knows our payments by.
SELECT id::text AS id
FROM operations
WHERE merchant_id = ANY($1::uuid[])

-- name: sum_books
-- What each book says: payments, ledger, wallets with the fees that were taken from them.
SELECT
    (SELECT coalesce(sum(amount_captured), 0) FROM payments WHERE merchant_id = ANY($1::uuid[])) AS payments,
    (
        SELECT coalesce(sum(amount), 0) FROM ledger_entries
        WHERE merchant_id = ANY($1::uuid[]) AND type = 'capture'
    ) AS ledger,
    (
        SELECT coalesce(sum(amount), 0) FROM ledger_entries
        WHERE merchant_id = ANY($1::uuid[]) AND type = 'fee'
    ) AS fees,
    (SELECT coalesce(sum(balance), 0) FROM wallets WHERE merchant_id = ANY($1::uuid[])) AS wallets

-- name: read_seq
-- How many events of a merchant with nothing but wallet movements are applied: each is one ledger entry.
SELECT seq
FROM ledger_heads
WHERE merchant_id = $1

-- name: count_open
-- How many payments still wait for their PSP.
SELECT count(*)
FROM payments
WHERE merchant_id = ANY($1::uuid[]) AND status = 'processing'

-- name: count_applied
-- The same of many.
SELECT coalesce(sum(seq), 0)::bigint
FROM ledger_heads
WHERE merchant_id = ANY($1::uuid[])

-- name: count_unowned
-- Whether workers are up: a new one takes all that nobody has.
SELECT count(*)
FROM partitions
WHERE owner IS NULL
