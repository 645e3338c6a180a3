-- name: beat_gateway
-- One row per process and PSP. Rows of those that died leave here too: nobody else would remove them.
WITH gone AS (
    DELETE FROM gateways
    WHERE alive_until < clock_timestamp() - interval '1 minute'
)

INSERT INTO gateways (id, psp, breakers, in_flight, alive_until)
VALUES ($1, $2, $3::jsonb, $4, clock_timestamp() + $5 * interval '1 second')
ON CONFLICT (id, psp) DO UPDATE
SET breakers = excluded.breakers, in_flight = excluded.in_flight, alive_until = excluded.alive_until

-- name: stop_gateway
-- A process that ends cleanly is not shown any more.
DELETE FROM gateways
WHERE id = $1 AND psp = $2
