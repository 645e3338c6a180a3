-- Old months of the ledger leave it. All of this is one transaction of the owner; $1 is the first instant that stays.

-- name: hold_retirements
-- One at a time; who only looks is not kept waiting.
LOCK TABLE ledger_retirements IN SHARE ROW EXCLUSIVE MODE;

-- name: read_boundary
-- By the database's clock, and a day late: until then a slow clock may still write into the month that has ended.
SELECT
    date_trunc('month', $1::timestamptz, 'UTC') = $1 AS is_month,
    $1 <= clock_timestamp() - interval '1 day' AS is_past,
    (SELECT max(before) FROM ledger_retirements) AS retired_before;

-- name: list_months
-- Attached months that end before it; their names sort by time.
SELECT c.oid::regclass::text AS name
FROM pg_inherits AS i
INNER JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE
    i.inhparent = 'ledger_entries'::regclass AND c.relname ~ '^ledger_entries_\d{4}_\d{2}$'
    AND c.relname < to_char($1::timestamptz AT TIME ZONE 'UTC', '"ledger_entries_"YYYY_MM')
ORDER BY c.relname;

-- name: count_rest
-- Entries that lie in no month: those that leave, and those that stay and would have to be copied.
SELECT
    count(*) FILTER (WHERE id < uuid7_floor($1)) AS old,
    count(*) FILTER (WHERE id >= uuid7_floor($1)) AS young
FROM ledger_entries_default;

-- name: insert_openings
-- The last entry of each merchant: of the months that leave, else of those that have left before.
WITH ended AS (
    SELECT merchant_id, max(seq) AS seq FROM ledger_entries WHERE id < uuid7_floor($1) GROUP BY merchant_id
),

known AS (
    SELECT merchant_id, seq, hash, epoch
    FROM ledger_openings
    WHERE before = (SELECT max(before) FROM ledger_retirements)
)

INSERT INTO ledger_openings (before, merchant_id, seq, hash, epoch)
SELECT $1, e.merchant_id, e.seq, e.hash, e.epoch
FROM ended
INNER JOIN ledger_entries AS e
    ON e.merchant_id = ended.merchant_id AND e.seq = ended.seq AND e.id < uuid7_floor($1)
UNION ALL
SELECT $1, k.merchant_id, k.seq, k.hash, k.epoch
FROM known AS k
WHERE NOT EXISTS (SELECT FROM ended WHERE ended.merchant_id = k.merchant_id);

-- name: insert_balances
-- Credits less debits, on top of what was carried over before.
WITH moved AS (
    SELECT merchant_id, debit_account, credit_account, currency, sum(amount) AS amount
    FROM ledger_entries
    WHERE id < uuid7_floor($1)
    GROUP BY merchant_id, debit_account, credit_account, currency
)

INSERT INTO ledger_opening_balances (before, merchant_id, account, currency, balance)
SELECT $1, merchant_id, account, currency, sum(amount)
FROM (
    SELECT merchant_id, credit_account AS account, currency, amount FROM moved
    UNION ALL
    SELECT merchant_id, debit_account, currency, -amount FROM moved
    UNION ALL
    SELECT merchant_id, account, currency, balance
    FROM ledger_opening_balances
    WHERE before = (SELECT max(before) FROM ledger_retirements)
) AS parts
GROUP BY merchant_id, account, currency
HAVING sum(amount) <> 0;

-- name: insert_payments
-- The two numbers that the laws hold against each payment; only of what leaves now.
INSERT INTO ledger_opening_payments (before, payment_id, currency, captured, refunded)
SELECT
    $1, payment_id, currency,
    coalesce(sum(CASE type WHEN 'capture' THEN amount ELSE -amount END) FILTER (
        WHERE type = 'capture' OR (type = 'reversal' AND debit_account = 'merchant:pending')
    ), 0),
    coalesce(sum(CASE type WHEN 'refund' THEN amount ELSE -amount END) FILTER (
        WHERE type IN ('refund', 'refund_reversal')
    ), 0)
FROM ledger_entries
WHERE
    id < uuid7_floor($1)
    AND (type IN ('capture', 'refund', 'refund_reversal') OR (type = 'reversal' AND debit_account = 'merchant:pending'))
GROUP BY payment_id, currency;

-- name: list_overlaps
-- Merchants of whom an entry with a lower number would stay than one that leaves: two writers' clocks disagreed about the
-- end of the month. What is written meanwhile has higher numbers than any.
SELECT o.merchant_id::text AS merchant_id
FROM ledger_openings AS o
WHERE
    o.before = $1 AND EXISTS (
        SELECT FROM ledger_entries AS e
        WHERE e.merchant_id = o.merchant_id AND e.seq <= o.seq AND e.id >= uuid7_floor($1)
    )
LIMIT 10;

-- name: insert_retirement
-- Last of all, for until then "the latest retirement" is the one before.
INSERT INTO ledger_retirements (
    before, partitions, entries, manifest, manifest_sha256, openings_sha256, retired_by
)
SELECT
    $1, $2::text [], (SELECT count(*) FROM ledger_entries WHERE id < uuid7_floor($1)), $3, $4, openings_digest($1), $5
RETURNING entries, openings_sha256;

-- name: insert_audit
-- What people did, and why.
INSERT INTO audit_log (actor, action, subject, note, detail) VALUES ($1, 'ledger.retire', $2, $3, $4::jsonb);

-- name: shorten_waiting
-- Milliseconds that we wait for the ledger: as long as that, whoever writes waits behind us.
SELECT set_config('lock_timeout', $1, true);

-- name: lock_ledger
-- From here to the end of the transaction nobody reads or writes the ledger: some milliseconds.
LOCK TABLE ONLY ledger_entries IN ACCESS EXCLUSIVE MODE;

-- name: renew_default
-- With the months, when there is something of theirs in it.
SELECT renew_ledger_default($1, $2);

-- name: detach_months
-- In the order of their names, which is that in which others would lock them.
SELECT detach_ledger_partition(name::regclass) FROM unnest($1::text []) AS name;
