-- name: take_census
-- What an SRE is woken for, in one look: how old is the oldest work, how much is in doubt and for how long, how many
-- dead letters wait for somebody, and what waits behind them. A message that is due later is not late.
SELECT
    (
        SELECT coalesce(extract(EPOCH FROM clock_timestamp() - min(greatest(created_at, available_at))), 0)
        FROM outbox
        WHERE available_at <= clock_timestamp()
    )::double precision AS oldest_unprocessed_s,
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
-- goes null or wrong after a deletion, and knows nothing of what it lost.
SELECT
    stream,
    count(*) FILTER (WHERE available_at <= statement_timestamp()) AS due,
    count(*) FILTER (WHERE available_at > statement_timestamp()) AS scheduled,
    coalesce(
        extract(EPOCH FROM statement_timestamp() - min(greatest(created_at, available_at)) FILTER (
            WHERE available_at <= statement_timestamp()
        )),
        0
    )::double precision AS oldest_s
FROM outbox
GROUP BY stream
