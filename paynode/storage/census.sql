-- name: take_census
-- What an SRE is woken for, in one look: how much is in doubt and for how long, how many dead letters wait for somebody,
-- and what waits behind them. How old the oldest work is, is told by what follows.
SELECT
    (SELECT count(*) FROM operations WHERE state = 'unknown') AS unknown,
    (
        SELECT coalesce(extract(EPOCH FROM clock_timestamp() - min(updated_at)), 0)
        FROM operations
        WHERE state = 'unknown'
    )::double precision AS oldest_unknown_s,
    (SELECT count(*) FROM dead_letters WHERE status = 'dead') AS dead_letters,
    (SELECT count(*) FROM parked) AS parked,
    (SELECT count(*) FROM suspects) AS suspects

-- name: count_waiting
-- The lag of each stream: rows whose time has come and whose effect is not committed, published or not. Redis's own lag
-- goes null or wrong after a deletion, and knows nothing of what it lost. A message that is due later is not late. By the
-- index alone, stream by stream: a backlog of a hundred thousand was read in 100 ms, every few seconds, and is in 25.
WITH RECURSIVE streams AS (
    (SELECT stream FROM outbox ORDER BY stream LIMIT 1)
    UNION ALL
    SELECT (SELECT o.stream FROM outbox AS o WHERE o.stream > s.stream ORDER BY o.stream LIMIT 1)
    FROM streams AS s
    WHERE s.stream IS NOT NULL
)

SELECT
    s.stream,
    (
        SELECT count(*) FROM outbox AS o
        WHERE o.stream = s.stream AND o.available_at <= statement_timestamp()
    ) AS due,
    (
        SELECT count(*) FROM outbox AS o
        WHERE o.stream = s.stream AND o.available_at > statement_timestamp()
    ) AS scheduled,
    coalesce((
        SELECT extract(EPOCH FROM statement_timestamp() - o.available_at)
        FROM outbox AS o
        WHERE o.stream = s.stream AND o.available_at <= statement_timestamp()
        ORDER BY o.available_at
        LIMIT 1
    ), 0)::double precision AS oldest_s
FROM streams AS s
WHERE s.stream IS NOT NULL
