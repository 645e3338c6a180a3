-- name: write_batch
-- All of a batch in one statement: see the function.
SELECT write_batch($1::jsonb)

-- name: learn_fate
-- After a COMMIT that was cut off. It waits for the row lock of a session that is still committing, and it is a write
-- of our own, so that what it returns is what every replica that counts has too.
UPDATE partitions AS p
SET lease_until = greatest(p.lease_until, clock_timestamp() + $3 * interval '1 second')
FROM unnest($1::int[], $2::bigint[]) AS l (partition, epoch)
WHERE p.partition = l.partition AND p.epoch = l.epoch
RETURNING p.partition, p.last_batch::text AS last_batch
