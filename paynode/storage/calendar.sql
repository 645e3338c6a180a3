-- name: find_matured
-- With its owner's rights: whoever makes the rounds sees neither amounts nor payments.
SELECT operation_id::text AS operation_id, payment_id::text AS payment_id, merchant_id::text AS merchant_id, kind
FROM find_matured($1)

-- name: tell_actors
-- Published by the relay. The id follows from what has come: who comes second adds nothing.
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
SELECT t.id, t.stream, t.type, t.merchant_id, t.payment_id, t.operation_id, t.body
FROM jsonb_to_recordset($1::jsonb) AS t (
    id uuid, stream text, type text, merchant_id uuid, payment_id uuid, operation_id uuid, body jsonb
)
ON CONFLICT (id) DO NOTHING
