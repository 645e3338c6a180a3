-- Points of sale: one row of a payment is marked once, kept or reversed, by whoever comes first.

-- name: keep_payment
-- The mark, and the answer that every retry gets, in one transaction: nobody is told what is not so, and what is kept is
-- told for ever. An answer that was stored before stays.
WITH decided AS MATERIALIZED (
    SELECT * FROM decide_pos($1, true, $2, $3, $4, $5, $6)
), stored AS (
    UPDATE idempotency_keys SET response_status = $10, response_headers = $11::jsonb, response_body = $12
    WHERE merchant_id = $7 AND path = $8 AND key = $9 AND response_status IS NULL
        AND EXISTS (SELECT FROM decided WHERE verdict = 'kept' AND is_new)
)
SELECT verdict, is_new, left_s FROM decided;

-- name: reverse_payment
-- For whoever does not want it kept, or not any more: reversed once its time has passed.
SELECT verdict, is_new, left_s FROM decide_pos($1, false, 0, $2, $3, $4, $5);

-- name: find_overdue
-- What an ingress that died has left undecided.
SELECT payment_id::text, merchant_id::text FROM find_overdue_pos($1, $2);
