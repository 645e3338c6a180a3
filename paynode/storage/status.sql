-- name: read_clock
-- All ages on the screen are by this clock.
SELECT clock_timestamp()

-- name: list_partitions
-- A lease that never was is minus infinity, from which older servers refuse to subtract.
SELECT
    partition, owner, epoch, unclean_deaths,
    CASE
        WHEN owner IS NOT NULL AND isfinite(lease_until)
            THEN greatest(0, extract(EPOCH FROM lease_until - clock_timestamp()) * 1000)
        ELSE 0
    END::bigint AS lease_ms
FROM partitions
ORDER BY partition

-- name: list_workers
-- The dead stay for a while: that one died is what somebody may be looking for.
SELECT
    id, started_at,
    ceil(greatest(0, extract(EPOCH FROM clock_timestamp() - alive_until) * 1000))::bigint AS silent_ms
FROM workers
ORDER BY started_at, id

-- name: list_gateways
-- As above.
SELECT
    id, psp, started_at, breakers, in_flight,
    ceil(greatest(0, extract(EPOCH FROM clock_timestamp() - alive_until) * 1000))::bigint AS silent_ms
FROM gateways
ORDER BY psp, started_at, id

-- name: list_singletons
-- A lease that has run out stands here until the next one takes it.
SELECT
    name, owner, greatest(0, extract(EPOCH FROM lease_until - clock_timestamp()) * 1000)::bigint AS lease_ms
FROM leases
ORDER BY name

-- name: count_in_doubt
-- By an index that holds nothing else.
SELECT psp, count(*) AS operations
FROM operations
WHERE state = 'unknown'
GROUP BY psp
ORDER BY psp

-- name: count_reasons
-- Where there are many, the reason says which bug it is.
SELECT reason, count(*) AS letters
FROM dead_letters
WHERE status = 'dead'
GROUP BY reason
ORDER BY count(*) DESC, reason
