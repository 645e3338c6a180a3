"""The road: Redis Streams. Nothing here is the truth; what is lost here is published again from PostgreSQL."""
