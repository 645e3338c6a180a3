-- name: insert_publisher
-- No row for a name that there has ever been: a name stays with what was said under it.
INSERT INTO publishers (name, secret, types) VALUES ($1, $2, $3::text[])
ON CONFLICT (name) DO NOTHING
RETURNING name;

-- name: revoke_publisher
-- The time of the first revocation stays; `is_news` says whether this one is it.
UPDATE publishers AS p SET revoked_at = coalesce(p.revoked_at, clock_timestamp())
FROM (SELECT name, revoked_at FROM publishers WHERE name = $1 FOR UPDATE) AS before
WHERE p.name = before.name
RETURNING p.revoked_at, before.revoked_at IS NULL AS is_news;

-- name: list_publishers
-- Without the secrets: nobody who lists them needs one.
SELECT name, types, created_at, revoked_at FROM publishers ORDER BY created_at, name;

-- name: find_publisher_keys
-- All that work, in one look: there are tens of them, and one look answers for whatever names strangers make up.
SELECT name, secret, types FROM publishers WHERE revoked_at IS NULL;

-- name: record_publisher_act
-- In the transaction of what was done.
INSERT INTO audit_log (actor, action, subject, note, detail) VALUES ($1, $2, $3, $4, $5::jsonb);
