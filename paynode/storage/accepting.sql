-- Accepting payments. A group arrives as one JSON array: one parameter costs less than twenty arrays.

-- name: accept_group
-- One statement is one transaction and one round trip for everything that a group of payments consists of. Whoever
-- conflicts (the key or the order's slot is taken) is left out, and so is all that hangs on it. Inserted in the
-- order of the keys, so that two ingress processes with the same keys wait for each other and do not deadlock.
WITH asked AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($1::jsonb) AS asked (
        id uuid, merchant_id uuid, path text, key text, fingerprint text, order_id text, amount bigint,
        currency text, capture text, method jsonb, customer jsonb, description text, metadata jsonb, status text,
        psp text, created_at timestamptz, operation_id uuid, kind text, request jsonb, command_id uuid, stream text,
        type text, route text [], event_id uuid, event_type text, event jsonb, in_flight_s double precision,
        reverse_after_s double precision, response_status integer, response_headers jsonb, response_body text
    )
), accepted AS (
    INSERT INTO payments (
        id, merchant_id, idempotency_key, order_id, order_slot, amount, currency, capture, method, customer,
        description, metadata, status, psp, route, created_at, updated_at, reverse_at, terms_id
    )
    SELECT
        id, merchant_id, key, order_id, order_id, amount, currency, capture, method, customer,
        description, metadata, status, psp, route, created_at, created_at,
        clock_timestamp() + reverse_after_s * interval '1 s', terms_in_force(merchant_id)
    FROM asked ORDER BY merchant_id, key
    ON CONFLICT DO NOTHING
    RETURNING id
), won AS MATERIALIZED (
    SELECT asked.* FROM asked JOIN accepted USING (id)
), made_operations AS (
    INSERT INTO operations (
        id, payment_id, merchant_id, kind, amount, currency, psp, request, state, created_at, updated_at
    )
    SELECT operation_id, id, merchant_id, kind, amount, currency, psp, request, 'new', created_at, created_at FROM won
), made_events AS (
    INSERT INTO payment_events (id, payment_id, merchant_id, version, type, data, at)
    SELECT event_id, id, merchant_id, 1, event_type, event, created_at FROM won
), made_commands AS (
    INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
    -- Published by the ingress right after the commit; if it dies before that, the relay sees an old row.
    SELECT command_id, stream, type, merchant_id, id, operation_id, request, clock_timestamp() FROM won
), made_keys AS (
    INSERT INTO idempotency_keys (
        merchant_id, path, key, fingerprint, payment_id, in_flight_until,
        response_status, response_headers, response_body
    )
    SELECT
        merchant_id, path, key, decode(fingerprint, 'hex'), id, clock_timestamp() + in_flight_s * interval '1 s',
        response_status, response_headers, convert_to(response_body, 'UTF8')
    FROM won
)
SELECT id::text FROM accepted;

-- name: find_uses
-- Who holds the keys and the order slots. A statement of its own: the one that conflicted looks at a snapshot in
-- which the winner may not be committed yet.
SELECT
    asked.n, held.payment_id::text, held.fingerprint = decode(asked.fingerprint, 'hex') AS is_same_body,
    held.response_status, held.response_headers, held.response_body,
    extract(epoch FROM held.in_flight_until - clock_timestamp())::double precision AS in_flight_s,
    rival.id::text AS rival_id
FROM jsonb_to_recordset($1::jsonb) AS asked (
    n integer, merchant_id uuid, path text, key text, fingerprint text, order_id text
)
LEFT JOIN idempotency_keys AS held USING (merchant_id, path, key)
LEFT JOIN payments AS rival ON rival.merchant_id = asked.merchant_id AND rival.order_slot = asked.order_id
ORDER BY asked.n;

-- name: adopt_payment
-- The condition makes one adopter of many retries: the others see it in flight again.
UPDATE idempotency_keys SET in_flight_until = clock_timestamp() + $4 * interval '1 s'
WHERE merchant_id = $1 AND path = $2 AND key = $3
    AND response_status IS NULL AND in_flight_until <= clock_timestamp()
RETURNING payment_id::text;

-- name: store_answer
-- The first answer wins: a retry that adopted the payment may have been faster than its slow first request.
UPDATE idempotency_keys SET response_status = $4, response_headers = $5::jsonb, response_body = $6
WHERE merchant_id = $1 AND path = $2 AND key = $3 AND response_status IS NULL
RETURNING payment_id::text;

-- name: read_answer
-- The answer that was faster.
SELECT response_status, response_headers, response_body FROM idempotency_keys
WHERE merchant_id = $1 AND path = $2 AND key = $3 AND response_status IS NOT NULL;

-- name: release_key
-- The wait ran out and its 202 is not stored: the next retry need not wait for the in-flight time to pass.
UPDATE idempotency_keys SET in_flight_until = clock_timestamp()
WHERE merchant_id = $1 AND path = $2 AND key = $3 AND response_status IS NULL
RETURNING payment_id::text;
