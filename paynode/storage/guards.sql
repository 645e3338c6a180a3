-- name: list_guards
-- The dead stay for a while, as in `paynode status`. A process of an older version has told nothing of its guards.
SELECT
    id, psp, started_at, in_flight, vitals,
    ceil(greatest(0, extract(EPOCH FROM clock_timestamp() - alive_until) * 1000))::bigint AS silent_ms
FROM gateways
WHERE psp = ANY($1::text[])
ORDER BY psp, started_at, id

-- name: list_breaker_orders
-- Who said it and when, too.
SELECT psp, operation, action, ordered_by, ordered_at
FROM breaker_orders
WHERE psp = ANY($1::text[])
ORDER BY psp, operation

-- name: order_breakers
-- The last word about each, and in the audit log, in one statement.
WITH told AS (
    INSERT INTO breaker_orders AS b (psp, operation, action, ordered_by)
    SELECT p.psp, o.operation, $3, $4
    FROM unnest($1::text[]) AS p (psp), unnest($2::text[]) AS o (operation)
    ORDER BY p.psp, o.operation
    ON CONFLICT (psp, operation) DO UPDATE
    SET
        action = excluded.action, number = b.number + 1, ordered_by = excluded.ordered_by,
        ordered_at = excluded.ordered_at
    RETURNING psp, operation
)

INSERT INTO audit_log (actor, action, subject, note, detail)
SELECT $4, 'psp.' || $3, psp, $5, jsonb_build_object('operations', jsonb_agg(operation ORDER BY operation))
FROM told
GROUP BY psp

-- name: take_probe
-- In one statement: of two that come together one waits for the row, and then sees the other's lease.
INSERT INTO probes AS p (psp, operation, until)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second')
ON CONFLICT (psp, operation) DO UPDATE
SET number = p.number + 1, until = clock_timestamp() + $3 * interval '1 second'
WHERE p.until <= clock_timestamp()
RETURNING number

-- name: end_probe
-- Only what is still the same lease: who comes late ends nobody else's.
UPDATE probes
SET until = clock_timestamp() + $4 * interval '1 second'
WHERE psp = $1 AND operation = $2 AND number = $3
