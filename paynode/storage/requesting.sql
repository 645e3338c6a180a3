-- What merchants ask about a payment that is there: written by the ingress, decided by the payment's actor.

-- name: ask_request
-- The key, the request and the message to the actor in one transaction. A key whose last request was refused asks
-- again, with a new request: a refusal is never an answer for ever. Where the refusal is seen and where the new request
-- is written is one statement, so that no failover can take back the one and keep the other.
WITH taken AS (
    INSERT INTO idempotency_keys AS held (
        merchant_id, path, key, fingerprint, payment_id, request_id, in_flight_until,
        response_status, response_headers, response_body
    )
    SELECT
        merchant_id, $2::text, $3::text, $4::bytea, id, $6::uuid,
        clock_timestamp() + $7::double precision * interval '1 s', $8::integer, $9::jsonb, $10::bytea
    FROM payments WHERE id = $5 AND merchant_id = $1
    ON CONFLICT (merchant_id, path, key) DO UPDATE SET
        request_id = EXCLUDED.request_id, in_flight_until = EXCLUDED.in_flight_until,
        response_status = EXCLUDED.response_status, response_headers = EXCLUDED.response_headers,
        response_body = EXCLUDED.response_body
    WHERE held.fingerprint = EXCLUDED.fingerprint AND held.response_status IS NULL
        AND held.in_flight_until <= clock_timestamp()
        AND (SELECT requests.refusal IS NOT NULL FROM requests WHERE requests.id = held.request_id)
    RETURNING merchant_id, payment_id, request_id
), made AS (
    INSERT INTO requests (id, payment_id, merchant_id, kind, amount, is_final, reason)
    SELECT request_id, payment_id, merchant_id, $11::text, $12::bigint, $13::boolean, $14::text FROM taken
)
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, body, published_at)
-- Published by the ingress right after the commit; if it dies before that, the relay sees an old row.
SELECT request_id, $15::text, 'payment.request', merchant_id, payment_id, $16::jsonb, clock_timestamp() FROM taken
RETURNING id::text;

-- name: find_request
-- Who holds the key. A statement of its own: the one that conflicted looks at a snapshot in which the winner may not
-- be committed yet.
SELECT
    request_id::text, fingerprint = $4 AS is_same_body, response_status, response_headers, response_body,
    extract(epoch FROM in_flight_until - clock_timestamp())::double precision AS in_flight_s
FROM idempotency_keys WHERE merchant_id = $1 AND path = $2 AND key = $3;

-- name: adopt_request
-- The condition makes one adopter of many retries: the others see it in flight again. Only while the key still is about
-- the request that was found: after a refusal another retry may have asked anew.
UPDATE idempotency_keys SET in_flight_until = clock_timestamp() + $5 * interval '1 s'
WHERE merchant_id = $1 AND path = $2 AND key = $3 AND request_id = $4
    AND response_status IS NULL AND in_flight_until <= clock_timestamp()
RETURNING request_id::text;
