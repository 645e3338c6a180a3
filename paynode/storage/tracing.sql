-- One payment from every table that knows of it. Secrets stay where they are: no token, no customer, no stored answer.

-- name: select_payment
-- The row as it is, whatever columns it may get, but for what is private.
SELECT
    id::text, merchant_id::text,
    (to_jsonb(p) - ARRAY['id', 'merchant_id', 'customer', 'description', 'metadata', 'idempotency_key'])::text AS members
FROM payments AS p WHERE id = $1;

-- name: list_operations
-- In the order in which they were made. The request to the PSP holds the token, and is left out.
SELECT (to_jsonb(o) - ARRAY['payment_id', 'merchant_id', 'request'])::text AS members
FROM operations AS o WHERE payment_id = $1 ORDER BY created_at, id;

-- name: list_requests
-- What the merchant asked, refused or not.
SELECT (to_jsonb(r) - ARRAY['payment_id', 'merchant_id'])::text AS members
FROM requests AS r WHERE payment_id = $1 ORDER BY created_at, id;

-- name: list_steps
-- All that happened, in one order: by the clock of the database, then by where it was written (a cause before what it
-- causes in the same transaction).
SELECT at, what, id::text, operation_id::text, jsonb_strip_nulls(detail)::text AS detail
FROM (
    SELECT created_at AS at, 1 AS place, 'asked' AS what, id, NULL::uuid AS operation_id,
        jsonb_build_object('kind', kind, 'amount', amount, 'final', is_final, 'reason', nullif(reason, '')) AS detail
    FROM requests WHERE payment_id = $1
    UNION ALL
    SELECT decided_at, 3, CASE WHEN refusal IS NULL THEN 'granted' ELSE 'refused' END, id, NULL,
        jsonb_build_object('kind', kind, 'refusal', refusal)
    FROM requests WHERE payment_id = $1 AND decided_at IS NOT NULL
    UNION ALL
    SELECT created_at, 4, 'operation', id, id,
        jsonb_build_object('kind', kind, 'amount', amount, 'psp', psp, 'origin', origin)
    FROM operations WHERE payment_id = $1
    UNION ALL
    SELECT claimed_at, 5, 'attempt', id, operation_id,
        jsonb_build_object('psp', psp, 'path', path, 'gateway', gateway, 'sends', sends, 'send_by', send_by)
    FROM psp_attempts WHERE payment_id = $1
    UNION ALL
    SELECT concluded_at, 6, 'answer', id, operation_id,
        jsonb_build_object('outcome', outcome, 'reason', nullif(reason, ''), 'reference', psp_reference)
    FROM psp_attempts WHERE payment_id = $1 AND concluded_at IS NOT NULL
    UNION ALL
    SELECT at, 7, 'evidence', id, operation_id,
        jsonb_build_object(
            'source', source, 'outcome', outcome, 'reference', psp_reference, 'amount', amount, 'currency', currency,
            'reason', nullif(reason, '')
        )
    FROM evidence WHERE payment_id = $1
    UNION ALL
    SELECT at, 8, 'posting', id, operation_id,
        jsonb_build_object(
            'type', type, 'debit', debit_account, 'credit', credit_account, 'amount', amount, 'currency', currency,
            'seq', seq, 'epoch', epoch
        )
    FROM ledger_entries WHERE payment_id = $1
    UNION ALL
    SELECT at, 9, 'event', id, NULL, jsonb_build_object('type', type, 'version', version)
    FROM payment_events WHERE payment_id = $1
    UNION ALL
    SELECT created_at, 10, 'waiting', id, operation_id,
        jsonb_build_object(
            'type', type, 'stream', stream, 'due', available_at, 'published', published_at, 'republished', republished
        )
    FROM outbox WHERE payment_id = $1
    UNION ALL
    SELECT created_at, 11, 'parked', id, operation_id, jsonb_build_object('type', type, 'stream', stream)
    FROM parked WHERE payment_id = $1
    UNION ALL
    SELECT first_failed_at, 12, 'dead letter', id, NULL,
        jsonb_build_object('reason', reason, 'type', type, 'status', status)
    FROM dead_letters WHERE payment_id = $1
) AS steps
ORDER BY at, place, id;
