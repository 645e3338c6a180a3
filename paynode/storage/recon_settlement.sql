-- name: find_known
-- What lines mean ($2 their ids, $3 the operations that they name, $1 the PSP), what the ledger has of that at this PSP,
-- what was kept when they were first told, and whether they are posted. One statement is one snapshot.
SELECT
    i.id::text AS line_id, k.amount AS first_amount, k.currency AS first_currency,
    EXISTS (SELECT FROM wallet_adjustments AS a WHERE a.operation_id = i.id AND a.kind = 'settlement') AS is_posted,
    o.id::text AS operation_id, o.payment_id::text AS payment_id, o.merchant_id::text AS merchant_id, o.kind, o.state,
    o.amount, o.currency,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_object(
            'type', e.type, 'reference', coalesce(e.psp_reference, ''), 'currency', e.currency,
            'amount', CASE WHEN e.debit_account = 'psp:' || $1 || ':receivable' THEN e.amount ELSE -e.amount END
        ) ORDER BY e.seq), '[]')
        FROM ledger_entries AS e
        WHERE
            e.payment_id = o.payment_id AND (e.operation_id = o.id OR (o.kind = 'authorize' AND e.type = 'capture'))
            AND 'psp:' || $1 || ':receivable' IN (e.debit_account, e.credit_account)
            AND e.type NOT IN ('settlement', 'psp_fee', 'unexplained', 'adjustment')
    ) AS booked
FROM unnest($2::uuid [], $3::uuid []) AS i (id, operation_id)
LEFT JOIN settlement_lines AS k ON k.id = i.id
LEFT JOIN operations AS o ON o.id = i.operation_id

-- name: find_by_reference
-- For lines that do not say which operation they mean: by what the PSP calls it. There is no index, because almost every
-- line does say it; a page of such lines is one reading of the operations.
SELECT psp_reference, min(id::text) AS operation_id
FROM operations
WHERE psp = $1 AND psp_reference = ANY($2::text [])
GROUP BY psp_reference
HAVING count(*) = 1

-- name: list_unreported
-- What was booked within the window, by our clock and by the PSP's, and is in no report: looked for in a bounded number of
-- entries at a time, by the ledger's key, which is by time. The last one that was looked at comes too, for the next page.
WITH page AS MATERIALIZED (
    SELECT e.id, e.line
    FROM ledger_entries AS e
    WHERE
        e.id >= uuid7_floor($2) AND e.id < uuid7_floor($3) AND (e.id, e.line) > ($4::uuid, $5::integer)
        AND 'psp:' || $1 || ':receivable' IN (e.debit_account, e.credit_account)
    ORDER BY e.id, e.line
    LIMIT $6
),

looked_at AS (
    SELECT
        e.*, row_number() OVER (ORDER BY e.id DESC, e.line DESC) = 1 AS is_last,
        is_unreported(e, $1) AND coalesce((
            SELECT min(v.psp_at) FROM evidence AS v
            WHERE
                v.payment_id = e.payment_id AND v.operation_id = e.operation_id
                AND v.outcome = CASE WHEN e.type LIKE '%reversal' THEN 'reversed' ELSE 'approved' END
        ), e.at) BETWEEN $2 AND $3 AS is_missing
    FROM page AS p
    INNER JOIN ledger_entries AS e ON e.id = p.id AND e.line = p.line
)

SELECT
    operation_id::text AS operation_id, payment_id::text AS payment_id, merchant_id::text AS merchant_id, type,
    coalesce(psp_reference, '') AS reference, currency,
    CASE WHEN debit_account = 'psp:' || $1 || ':receivable' THEN amount ELSE -amount END AS amount,
    (extract(EPOCH FROM at) * 1000)::bigint AS at_ms, is_missing, id || '/' || line AS place
FROM looked_at
WHERE is_missing OR is_last
ORDER BY id, line

-- name: list_unreported_still
-- What was found missing before, and still is.
WITH page AS MATERIALIZED (
    SELECT id, payment_id, subject
    FROM reconciliation_breaks
    WHERE kind = 'missing_in_report' AND state IN ('open', 'repairing') AND psp = $1 AND id > $2::uuid
    ORDER BY id
    LIMIT $5
)

SELECT
    e.operation_id::text AS operation_id, e.payment_id::text AS payment_id, e.merchant_id::text AS merchant_id, e.type,
    coalesce(e.psp_reference, '') AS reference, e.currency,
    CASE WHEN e.debit_account = 'psp:' || $1 || ':receivable' THEN e.amount ELSE -e.amount END AS amount,
    (extract(EPOCH FROM e.at) * 1000)::bigint AS at_ms, p.id::text AS place,
    e.id IS NOT NULL AND NOT (e.id >= uuid7_floor($3) AND e.id < uuid7_floor($4)) AND is_unreported(e, $1) AS is_missing
FROM page AS p
LEFT JOIN ledger_entries AS e
    ON e.payment_id = p.payment_id
    AND p.subject = concat_ws('/', e.operation_id, e.type, coalesce(e.psp_reference, ''))
ORDER BY p.id

-- name: list_open_lines
-- Lines outside of the window that something was found about and that is not over.
SELECT DISTINCT
    l.id::text AS id, l.kind, l.reference, l.our_reference, l.amount, l.currency,
    (extract(EPOCH FROM l.at) * 1000)::bigint AS at_ms
FROM reconciliation_breaks AS b
INNER JOIN settlement_lines AS l ON l.id::text = b.subject
WHERE
    b.area = 'settlement' AND b.state IN ('open', 'repairing') AND b.psp = $1 AND b.kind <> 'report_changed'
    AND NOT (l.at >= $2 AND l.at < $3) AND l.id::text > $4
ORDER BY 1
LIMIT $5

-- name: keep_lines
-- They are kept as told, and each is on its way to be posted.
SELECT keep_settlement_lines($1, $2::jsonb)
