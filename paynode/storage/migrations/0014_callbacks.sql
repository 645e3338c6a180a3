-- migrate:up

-- Callbacks about nothing we know are looked at again, ever more rarely. NULL: nobody looks any more, or ever had to.
ALTER TABLE inbox ADD COLUMN look_at timestamptz;
ALTER TABLE inbox ALTER COLUMN look_at SET DEFAULT clock_timestamp();
ALTER TABLE inbox ADD COLUMN looks integer NOT NULL DEFAULT 0;
UPDATE inbox SET look_at = clock_timestamp()
WHERE payment_id IS NULL;
-- In one transaction with the rest, so not concurrently: the rows without a payment are few.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX inbox_unmatched;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX inbox_aside ON inbox (look_at) WHERE payment_id IS NULL;

-- The scheduler, which logs in as the gateway, looks for the operation that a callback names.
GRANT SELECT ON operations TO paynode_gateway;
