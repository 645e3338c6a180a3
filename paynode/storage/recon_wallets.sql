-- name: read_wallets
-- A page of merchants with all that their wallets are to agree with. One statement is one snapshot: head, entries, wallet
-- and adjustments are written by one transaction, so that whatever a later one adds, all of it is seen or nothing. With
-- $3 the marks count for nothing, and everything is folded from the beginning.
WITH page AS MATERIALIZED (
    SELECT merchant_id
    FROM (
        (SELECT merchant_id FROM ledger_heads WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2)
        UNION
        (SELECT DISTINCT merchant_id FROM wallets WHERE merchant_id > $1 ORDER BY merchant_id LIMIT $2)
    ) AS m
    ORDER BY merchant_id
    LIMIT $2
),

-- Where months have left the ledger, the latest opening is where it begins.
openings AS MATERIALIZED (
    SELECT o.*
    FROM ledger_openings AS o
    INNER JOIN page AS p ON p.merchant_id = o.merchant_id
    WHERE o.before = (SELECT max(before) FROM ledger_retirements)
),

-- A mark from before the opening has nothing to go on from.
marks AS MATERIALIZED (
    SELECT w.*
    FROM reconciliation_watermarks AS w
    INNER JOIN page AS p ON p.merchant_id = w.merchant_id
    LEFT JOIN openings AS o ON o.merchant_id = w.merchant_id
    WHERE NOT $3::boolean AND w.seq >= coalesce(o.seq, 0)
),

since AS MATERIALIZED (
    SELECT
        p.merchant_id, coalesce(h.seq, 0) AS head_seq, h.hash AS head_hash, coalesce(m.seq, o.seq, 0) AS mark_seq,
        coalesce(m.hash, o.hash) AS mark_hash, m.seq IS NULL AS is_whole
    FROM page AS p
    LEFT JOIN ledger_heads AS h ON h.merchant_id = p.merchant_id
    LEFT JOIN openings AS o ON o.merchant_id = p.merchant_id
    LEFT JOIN (SELECT DISTINCT merchant_id, seq, hash FROM marks) AS m ON m.merchant_id = p.merchant_id
),

opened AS MATERIALIZED (
    SELECT
        b.merchant_id, b.currency,
        coalesce(sum(b.balance) FILTER (WHERE b.account = 'merchant:pending'), 0)::bigint AS pending,
        coalesce(sum(b.balance) FILTER (WHERE b.account = 'merchant:available'), 0)::bigint AS available,
        coalesce(sum(b.balance) FILTER (WHERE b.account = 'merchant:reserve'), 0)::bigint AS reserve,
        coalesce(sum(b.balance) FILTER (WHERE b.account = 'merchant:held'), 0)::bigint AS held
    FROM since AS s
    INNER JOIN ledger_opening_balances AS b ON b.merchant_id = s.merchant_id
    WHERE s.is_whole AND b.before = (SELECT max(before) FROM ledger_retirements)
    GROUP BY b.merchant_id, b.currency
),

moved AS MATERIALIZED (
    SELECT s.merchant_id, f.*
    FROM since AS s
    CROSS JOIN LATERAL fold_ledger(s.merchant_id, s.mark_seq) AS f
    WHERE s.head_seq <> s.mark_seq
),

counted AS MATERIALIZED (
    SELECT s.merchant_id, count(*) AS entries
    FROM since AS s
    INNER JOIN ledger_entries AS e ON e.merchant_id = s.merchant_id AND e.seq > s.mark_seq
    WHERE s.head_seq <> s.mark_seq
    GROUP BY s.merchant_id
),

-- From the beginning all that there are, so that one without an entry shows; else those of the entries behind the mark,
-- whose id is theirs.
applied AS MATERIALIZED (
    SELECT a.merchant_id, a.currency, a.d_pending, a.d_available, a.d_reserve, a.d_held
    FROM since AS s
    INNER JOIN wallet_adjustments AS a ON a.merchant_id = s.merchant_id
    WHERE s.is_whole
    UNION ALL
    SELECT a.merchant_id, a.currency, a.d_pending, a.d_available, a.d_reserve, a.d_held
    FROM (
        SELECT DISTINCT e.merchant_id, e.id
        FROM since AS s
        INNER JOIN ledger_entries AS e ON e.merchant_id = s.merchant_id AND e.seq > s.mark_seq
        WHERE NOT s.is_whole AND s.head_seq <> s.mark_seq
    ) AS e
    INNER JOIN wallet_adjustments AS a ON a.id = e.id AND a.merchant_id = e.merchant_id
),

adjusted AS MATERIALIZED (
    SELECT
        merchant_id, currency, sum(d_pending)::bigint AS pending, sum(d_available)::bigint AS available,
        sum(d_reserve)::bigint AS reserve, sum(d_held)::bigint AS held
    FROM applied
    GROUP BY merchant_id, currency
),

currencies AS (
    SELECT merchant_id, currency FROM marks
    UNION
    SELECT merchant_id, currency FROM opened
    UNION
    SELECT merchant_id, currency FROM moved
    UNION
    SELECT merchant_id, currency FROM adjusted
    UNION
    SELECT w.merchant_id, w.currency FROM wallets AS w INNER JOIN page AS p ON p.merchant_id = w.merchant_id
)

SELECT
    s.merchant_id::text AS merchant_id, s.head_seq, s.head_hash, s.mark_seq, s.mark_hash, s.is_whole,
    coalesce(n.entries, 0) AS entries, c.currency,
    coalesce(k.pending, o.pending, 0) + coalesce(f.pending, 0) AS ledger_pending,
    coalesce(k.available, o.available, 0) + coalesce(f.available, 0) AS ledger_available,
    coalesce(k.reserve, o.reserve, 0) + coalesce(f.reserve, 0) AS ledger_reserve,
    coalesce(k.held, o.held, 0) + coalesce(f.held, 0) AS ledger_held,
    coalesce(k.pending, 0) + coalesce(a.pending, 0) AS adjusted_pending,
    coalesce(k.available, 0) + coalesce(a.available, 0) AS adjusted_available,
    coalesce(k.reserve, 0) + coalesce(a.reserve, 0) AS adjusted_reserve,
    coalesce(k.held, 0) + coalesce(a.held, 0) AS adjusted_held,
    coalesce(w.pending, 0) AS wallet_pending, coalesce(w.available, 0) AS wallet_available,
    coalesce(w.reserve, 0) AS wallet_reserve, coalesce(w.held, 0) AS wallet_held
FROM since AS s
LEFT JOIN counted AS n ON n.merchant_id = s.merchant_id
LEFT JOIN currencies AS c ON c.merchant_id = s.merchant_id
LEFT JOIN marks AS k ON k.merchant_id = c.merchant_id AND k.currency = c.currency
LEFT JOIN opened AS o ON o.merchant_id = c.merchant_id AND o.currency = c.currency
LEFT JOIN moved AS f ON f.merchant_id = c.merchant_id AND f.currency = c.currency
LEFT JOIN adjusted AS a ON a.merchant_id = c.merchant_id AND a.currency = c.currency
LEFT JOIN wallets AS w ON w.merchant_id = c.merchant_id AND w.currency = c.currency
ORDER BY s.merchant_id, c.currency

-- name: allow_seconds
-- For this transaction: from the beginning a merchant's ledger is as long as it is.
SELECT set_config('statement_timeout', $1, true)

-- name: read_chain
-- A merchant's entries behind a number, up to another: what is to be held against the seals. A page at a time.
SELECT
    id::text AS entry_id, line, merchant_id::text AS merchant_id, seq, coalesce(payment_id::text, '') AS payment_id,
    operation_id::text AS operation_id, type, debit_account AS debit, credit_account AS credit, amount, currency,
    (extract(EPOCH FROM at) * 1000)::bigint AS at_ms, coalesce(psp_reference, '') AS reference,
    at = date_trunc('milliseconds', at) AS is_whole_ms, epoch, prev_hash, hash
FROM ledger_entries
WHERE merchant_id = $1 AND seq > $2 AND seq <= $3
ORDER BY seq
LIMIT $4

-- name: advance_watermarks
-- Looking goes on from here next time.
SELECT advance_watermarks($1::jsonb)

-- name: forget_watermarks
-- These are looked at from the beginning until they agree again.
SELECT forget_watermarks($1::uuid [])

-- name: correct_wallet
-- What its ledger says, unless that is not definite any more.
SELECT correct_wallet($1)
