-- name: lock_name
-- Names are not unique; this makes "create it unless it is there" one step among those who ask for it so.
SELECT pg_advisory_xact_lock(hashtext('merchants.name'), hashtext($1::text));

-- name: find_named
-- The eldest of a name, so that everybody who asks for "the" merchant of that name means the same one.
SELECT id::text AS id FROM merchants WHERE name = $1 AND id <> '00000000-0000-7000-8000-000000000000' ORDER BY id LIMIT 1;

-- name: insert_merchants
-- Any number in one statement: benches and tests make hundreds.
INSERT INTO merchants (
    id, name, psps, fee_fixed, fee_basis_points, reserve_basis_points, reserve_days, availability, available_days
)
SELECT m.id, m.name, $3::text[], $4, $5, $6, $7, $8, $9 FROM unnest($1::uuid[], $2::text[]) AS m (id, name);

-- name: insert_terms
-- For what is accepted from that instant on. The past is refused: what was accepted keeps its terms.
INSERT INTO merchant_terms (
    id, merchant_id, effective_from, fee_fixed, fee_basis_points, reserve_basis_points, reserve_days, availability,
    available_days
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: list_terms
-- The first ones stand in the merchant's own row.
SELECT
    created_at AS effective_from, fee_fixed, fee_basis_points, reserve_basis_points, reserve_days, availability,
    available_days
FROM merchants WHERE id = $1
UNION ALL
SELECT
    effective_from, fee_fixed, fee_basis_points, reserve_basis_points, reserve_days, availability, available_days
FROM merchant_terms WHERE merchant_id = $1
ORDER BY effective_from;

-- name: insert_keys
-- Only the hash of a key is kept: whoever reads the database cannot speak for a merchant.
INSERT INTO api_keys (id, merchant_id, prefix, secret_sha256)
SELECT k.id, k.merchant_id, k.prefix, k.secret_sha256
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[]) AS k (id, merchant_id, prefix, secret_sha256);

-- name: find_merchant
-- Before a key is made for it: a foreign key violation would say less.
SELECT id::text AS id FROM merchants WHERE id = $1;

-- name: revoke_key
-- The time of the first revocation stays.
UPDATE api_keys SET revoked_at = coalesce(revoked_at, clock_timestamp())
WHERE prefix = $1
RETURNING merchant_id::text AS merchant_id;

-- name: find_keys
-- All that the ingress must know of those who are calling, in one look-up. A revoked key is found too: the answer
-- differs.
SELECT
    k.prefix, k.merchant_id::text AS merchant_id, k.secret_sha256, m.psps,
    k.revoked_at IS NOT NULL AS is_revoked
FROM api_keys AS k
INNER JOIN merchants AS m ON m.id = k.merchant_id
WHERE k.prefix = any($1::text[]);

-- name: list_merchants
-- With the terms in force, and the prefixes of the keys that work, which is what somebody needs who wants to revoke one.
SELECT
    m.id::text AS id, m.name, t.fee_fixed, t.fee_basis_points, t.reserve_basis_points, t.reserve_days,
    t.availability, t.available_days, m.psps, m.created_at,
    array(
        SELECT k.prefix FROM api_keys AS k WHERE k.merchant_id = m.id AND k.revoked_at IS NULL ORDER BY k.id
    ) AS prefixes
FROM merchants AS m
CROSS JOIN LATERAL (
    SELECT
        m.fee_fixed, m.fee_basis_points, m.reserve_basis_points, m.reserve_days, m.availability, m.available_days
    WHERE terms_in_force(m.id) IS NULL
    UNION ALL
    SELECT
        n.fee_fixed, n.fee_basis_points, n.reserve_basis_points, n.reserve_days, n.availability, n.available_days
    FROM merchant_terms AS n WHERE n.id = terms_in_force(m.id)
) AS t
-- The house's own ledger is no merchant's.
WHERE m.id <> '00000000-0000-7000-8000-000000000000'
ORDER BY m.id;
