-- name: count_try
-- Committed before the message is tried: whoever dies over it has been counted.
INSERT INTO suspects AS s (stream, entry, attempts)
VALUES ($1, $2, 1)
ON CONFLICT (stream, entry) DO UPDATE SET attempts = s.attempts + 1, last_tried_at = clock_timestamp()
RETURNING s.attempts

-- name: uncount_try
-- Whoever tried it has lived.
UPDATE suspects
SET attempts = attempts - 1
WHERE stream = $1 AND entry = $2 AND attempts > 1

-- name: forget_try
-- The first try is no row any more.
DELETE FROM suspects
WHERE stream = $1 AND entry = $2 AND attempts = 1

-- name: is_waiting
-- Whether a row is still to be processed; nobody looks into it. By stream too: a pointer that stands where it does not
-- belong must not bury what others are to do. Either of its two lanes will do.
SELECT EXISTS (SELECT FROM outbox WHERE id = $1 AND stream IN ($2::text, $2 || ':pos'))

-- name: read_tries
-- How often a message has been tried alone.
SELECT attempts
FROM suspects
WHERE stream = $1 AND entry = $2

-- name: acquit_stream
-- All that an owner had inherited is through, by whoever owns the partition still.
WITH through AS (
    UPDATE partitions
    SET unclean_deaths = 0
    WHERE partition = $1 AND epoch = $2
    RETURNING partition
)

DELETE FROM suspects
WHERE stream = $3 AND EXISTS (SELECT FROM through)
