-- name: take_census
-- What an SRE is woken for, in one look: how old is the oldest work, how much is in doubt and for how long, how many
-- dead letters wait. A message that is due later is not late.
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
    (SELECT count(*) FROM dead_letters) AS dead_letters
