-- name: beat_gateway
-- One row per process and PSP. Rows of those that died leave here too: nobody else would remove them.
WITH gone AS (
    DELETE FROM gateways
    WHERE alive_until < clock_timestamp() - interval '1 minute'
)

INSERT INTO gateways (id, psp, breakers, vitals, in_flight, alive_until)
VALUES ($1, $2, $3::jsonb, $4::jsonb, $5, clock_timestamp() + $6 * interval '1 second')
ON CONFLICT (id, psp) DO UPDATE
SET
    breakers = excluded.breakers, vitals = excluded.vitals, in_flight = excluded.in_flight,
    alive_until = excluded.alive_until

-- name: count_gateways
-- Those that share the account's pace. In a statement of its own, which sees the beat that was just made.
SELECT count(*)
FROM gateways
WHERE psp = $1 AND alive_until > clock_timestamp()

-- name: list_orders
-- The last word about each breaker: state, not news, so that nobody has missed any.
SELECT operation, action, number
FROM breaker_orders
WHERE psp = $1

-- name: stop_gateway
-- A process that ends cleanly is not shown any more.
DELETE FROM gateways
WHERE id = $1 AND psp = $2
