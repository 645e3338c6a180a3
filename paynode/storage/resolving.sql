-- What an operator says about an operation that nobody else can: evidence like any other, and a row in the audit log.

-- name: find_doubted
-- Operations of a payment whose outcome nobody knows, or of which the PSP owes the end.
SELECT
    id::text AS id, payment_id::text AS payment_id, merchant_id::text AS merchant_id, kind, amount, currency
FROM operations
WHERE payment_id = $1 AND state IN ('pending', 'unknown', 'review')
ORDER BY created_at, id

-- name: tell_actor
-- Published by the relay; the actor folds it like what a PSP says.
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
VALUES ($1, $2, $7, $3, $4, $5, $6::jsonb)

-- name: audit_resolution
-- Who said it, and why.
INSERT INTO audit_log (actor, action, subject, note, detail)
VALUES ($1, 'payment.resolve', $2, $3, $4::jsonb)
