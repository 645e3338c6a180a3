-- name: find_screening
-- The verdict of an operation, if it has one, and what is told of its customer if the check has to be asked.
SELECT s.verdict, s.reason, CASE WHEN s.verdict IS NULL THEN customer_digest($2, $3) END AS customer
FROM (SELECT $1::uuid AS operation_id) AS o
LEFT JOIN screenings AS s ON s.operation_id = o.operation_id

-- name: record_screening
-- What the check said. Whoever was faster with the same operation has given the verdict.
INSERT INTO screenings (
    operation_id, payment_id, merchant_id, kind, method, amount, currency, customer, verdict, reason, is_owed
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, false)
ON CONFLICT (operation_id) DO NOTHING

-- name: record_bypass
-- The check is out: the charge is counted against its merchant's hour and passes, or is held. Counting and verdict are one
-- statement, and the row of the hour is locked by whoever counts: gateways cannot exceed the cap together. The verdict has
-- no ON CONFLICT: of two who were brought the same operation one fails, and with it what it has counted.
WITH counted AS (
    INSERT INTO fraud_exposure AS e (merchant_id, currency, hour, amount, payments, cap)
    SELECT $3::uuid, $7::text, date_trunc('hour', clock_timestamp()), $6::bigint, 1, $11::bigint
    WHERE $6::bigint <= $10::bigint AND $6::bigint <= $11::bigint
    ON CONFLICT (merchant_id, currency, hour) DO UPDATE
    SET amount = e.amount + excluded.amount, payments = e.payments + 1, cap = excluded.cap
    WHERE e.amount + excluded.amount <= excluded.cap
    RETURNING e.hour
)

INSERT INTO screenings (
    operation_id, payment_id, merchant_id, kind, method, amount, currency, customer, verdict, reason, is_owed
)
SELECT
    $1::uuid, $2::uuid, $3::uuid, $4::text, $5::text, $6::bigint, $7::text, $8::text,
    CASE WHEN EXISTS (SELECT FROM counted) THEN 'bypassed' ELSE 'held' END, $9::text, true
RETURNING verdict, reason

-- name: find_owed
-- What is to be asked again, those first that were asked least: one that the check cannot answer holds up nobody. One that
-- was rejected late is among them until the request to give it back is decided for good.
SELECT
    operation_id::text AS operation_id, payment_id::text AS payment_id, merchant_id::text AS merchant_id, kind, method,
    amount, currency, customer, verdict
FROM screenings
WHERE is_owed
ORDER BY tries, at
LIMIT $1

-- name: count_vain_try
-- Asked again in vain.
UPDATE screenings
SET tries = tries + 1
WHERE operation_id = $1 AND is_owed

-- name: settle_screening
-- A verdict that came later, and what follows from it.
SELECT settle_screening($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::jsonb, $11)

-- name: find_held
-- The operation of a payment that waits for a person; a payment has one charge.
SELECT operation_id::text AS operation_id, merchant_id::text AS merchant_id
FROM screenings
WHERE payment_id = $1 AND verdict = 'held'

-- name: list_held
-- What waits, oldest first, by the index of held ones. Of a charge that has ended meanwhile nobody need say anything.
SELECT
    payment_id::text AS payment_id, merchant_id::text AS merchant_id, amount, currency, verdict, reason, at, is_owed,
    opinion
FROM screenings AS s
WHERE verdict = 'held' AND EXISTS (SELECT FROM operations AS o WHERE o.id = s.operation_id AND o.state = 'new')
ORDER BY at
LIMIT $1

-- name: list_marked
-- What went unscreened and should not have, newest first.
SELECT
    payment_id::text AS payment_id, merchant_id::text AS merchant_id, amount, currency, verdict, reason, at, is_owed,
    opinion
FROM screenings
WHERE verdict = 'bypassed' AND opinion IN ('reject', 'review')
ORDER BY settled_at DESC
LIMIT $1
