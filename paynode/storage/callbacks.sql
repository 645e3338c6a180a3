-- What PSPs tell us of their own accord, and the questions to them that a returning customer causes.

-- name: find_operation
-- A callback names our operation; only that PSP's own may be spoken about.
SELECT id::text, payment_id::text, merchant_id::text FROM operations WHERE id = $1 AND psp = $2;

-- name: store_unmatched
-- No operation has this reference: kept for a sweep, since a PSP may be told of an operation before we remember it.
INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7)
ON CONFLICT (psp, event_id) DO NOTHING
RETURNING id::text;

-- name: store_matched
-- The callback and the evidence it is, in one transaction: a duplicate inserts neither.
WITH received AS (
    INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at, payment_id)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8)
    ON CONFLICT (psp, event_id) DO NOTHING
    RETURNING payment_id
)
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT $9, $10, 'psp.evidence', $11, payment_id, $12, $13::jsonb, clock_timestamp() FROM received
RETURNING id::text;

-- name: find_open_charge
-- Whose outcome may still be asked for.
SELECT id::text, psp FROM operations
WHERE payment_id = $1 AND kind IN ('sale', 'authorize') AND state IN ('new', 'pending', 'unknown');

-- name: ask_inquiry
-- The id is made from the operation and the time: however often a customer reloads, one question per ten seconds.
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT $1, $2, 'psp.inquire', merchant_id, payment_id, id, request, clock_timestamp() FROM operations WHERE id = $3
ON CONFLICT (id) DO NOTHING
RETURNING id::text;
