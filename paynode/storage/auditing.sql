-- name: list_ends
-- Where each merchant's entries begin and end. They begin at the first; where old months have left the ledger, at what the
-- oldest one that is left follows.
SELECT
    h.merchant_id::text AS merchant_id, coalesce(o.seq, 0::bigint) AS opening_seq,
    coalesce(o.hash, decode(repeat('00', 32), 'hex')) AS opening_hash, h.seq, h.hash
FROM ledger_heads AS h
LEFT JOIN ledger_openings AS o
    ON o.merchant_id = h.merchant_id AND o.before = (SELECT max(r.before) FROM ledger_retirements AS r)
WHERE $1::uuid IS NULL OR h.merchant_id = $1
ORDER BY h.merchant_id;

-- name: list_rows
-- The whole of the ledger in the order of the chains. What is not there is an empty field, not the word NULL. Ordered by
-- the columns and not by the texts of the same name, which no index has.
SELECT
    e.id::text AS entry_id, e.line, e.merchant_id::text AS merchant_id, e.seq,
    coalesce(e.payment_id::text, '') AS payment_id, e.operation_id::text AS operation_id, e.type,
    e.debit_account AS debit, e.credit_account AS credit, e.amount, e.currency,
    (extract(EPOCH FROM e.at) * 1000)::bigint AS at_ms, coalesce(e.psp_reference, '') AS reference,
    e.at = date_trunc('milliseconds', e.at) AS is_whole_ms, e.epoch, e.prev_hash, e.hash
FROM ledger_entries AS e
WHERE $1::uuid IS NULL OR e.merchant_id = $1
ORDER BY e.merchant_id, e.seq;

-- name: list_periods
-- The numbers that a period begins after and ends with. By the first entry that is as late as the instant and not by each
-- entry's own: clocks of workers differ, and a period must be a piece of the chain, such that the next one begins
-- where this one ends. Merchants that had entries by the end of it.
WITH bounds AS (
    SELECT
        merchant_id,
        coalesce(min(seq) FILTER (WHERE at >= $1), max(seq) + 1) - 1 AS opening,
        coalesce(min(seq) FILTER (WHERE at >= $2), max(seq) + 1) - 1 AS closing
    FROM ledger_entries
    WHERE $3::uuid IS NULL OR merchant_id = $3
    GROUP BY merchant_id
)

SELECT
    b.merchant_id::text AS merchant_id, b.opening AS opening_seq,
    coalesce(o.hash, r.hash, decode(repeat('00', 32), 'hex')) AS opening_hash, b.closing AS seq, c.hash
FROM bounds AS b
LEFT JOIN ledger_entries AS o ON o.merchant_id = b.merchant_id AND o.seq = b.opening
LEFT JOIN ledger_openings AS r
    ON r.merchant_id = b.merchant_id AND r.seq = b.opening
    AND r.before = (SELECT max(t.before) FROM ledger_retirements AS t)
INNER JOIN ledger_entries AS c ON c.merchant_id = b.merchant_id AND c.seq = b.closing
ORDER BY b.merchant_id;

-- name: list_period_rows
-- As above, of the period alone.
WITH bounds AS (
    SELECT
        merchant_id,
        coalesce(min(seq) FILTER (WHERE at >= $1), max(seq) + 1) - 1 AS opening,
        coalesce(min(seq) FILTER (WHERE at >= $2), max(seq) + 1) - 1 AS closing
    FROM ledger_entries
    WHERE $3::uuid IS NULL OR merchant_id = $3
    GROUP BY merchant_id
)

SELECT
    e.id::text AS entry_id, e.line, e.merchant_id::text AS merchant_id, e.seq,
    coalesce(e.payment_id::text, '') AS payment_id, e.operation_id::text AS operation_id, e.type,
    e.debit_account AS debit, e.credit_account AS credit, e.amount, e.currency,
    (extract(EPOCH FROM e.at) * 1000)::bigint AS at_ms, coalesce(e.psp_reference, '') AS reference,
    e.at = date_trunc('milliseconds', e.at) AS is_whole_ms, e.epoch, e.prev_hash, e.hash
FROM bounds AS b
INNER JOIN ledger_entries AS e ON e.merchant_id = b.merchant_id AND e.seq > b.opening AND e.seq <= b.closing
ORDER BY b.merchant_id, e.seq;

-- name: list_balances
-- Each posting twice, on its two sides: what all accounts have been debited is what all have been credited. Of what has left
-- the ledger only the difference is known.
SELECT account, currency, sum(debit)::text AS debits, sum(credit)::text AS credits
FROM (
    SELECT debit_account AS account, currency, amount AS debit, 0 AS credit
    FROM ledger_entries
    WHERE $1::uuid IS NULL OR merchant_id = $1
    UNION ALL
    SELECT credit_account, currency, 0, amount
    FROM ledger_entries
    WHERE $1::uuid IS NULL OR merchant_id = $1
    UNION ALL
    SELECT account, currency, greatest(-balance, 0), greatest(balance, 0)
    FROM ledger_opening_balances
    WHERE before = (SELECT max(before) FROM ledger_retirements) AND ($1::uuid IS NULL OR merchant_id = $1)
) AS sides
GROUP BY account, currency
ORDER BY currency, account;

-- name: list_heads
-- What is to be anchored, in the order in which anchors name it.
SELECT merchant_id::text AS merchant_id, seq, hash FROM ledger_heads AS h ORDER BY h.merchant_id;

-- name: ask_recovery
-- A standby may not have replayed yet what is anchored.
SELECT pg_is_in_recovery();
