-- migrate:up

-- What was published and is not processed, stream by stream: whether something of it is lost depends on where its stream
-- begins, and a long backlog on one of them is not read to find out about the others.
-- The outbox holds what is under way, seconds of work: a lock for the time of building this is short.
-- squawk-ignore require-concurrent-index-deletion
DROP INDEX outbox_published;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX outbox_published ON outbox (stream, published_at) WHERE published_at IS NOT NULL;
