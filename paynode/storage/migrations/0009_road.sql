-- migrate:up

-- While Redis is away a gateway takes its commands from here: until when one is in somebody's hands, and how often it
-- was taken. No more than what a stream says of a delivery: the claim of a call is its attempt.
ALTER TABLE outbox ADD COLUMN taken_until timestamptz;
ALTER TABLE outbox ADD COLUMN taken integer NOT NULL DEFAULT 0;
