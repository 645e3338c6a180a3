-- What people see of reconciliation, and what they decide about it.

-- name: list_breaks
-- Those in which most money differs first, then the oldest.
SELECT
    id::text AS id, area, kind, subject, state, merchant_id::text AS merchant_id, payment_id::text AS payment_id,
    operation_id::text AS operation_id, psp, reference, currency, expected, found, drift, size, about_at,
    first_seen_at, last_seen_at, extract(EPOCH FROM clock_timestamp() - first_seen_at)::bigint AS age_s, evidence,
    coalesce(repair, '{}') AS repair, repairs, proposed_by, approved_by, resolved_at
FROM reconciliation_breaks
WHERE
    ($1::text [] IS NULL OR state = ANY($1)) AND ($2::text IS NULL OR kind = $2) AND ($3::text IS NULL OR psp = $3)
    AND ($4::uuid IS NULL OR merchant_id = $4)
ORDER BY size DESC, first_seen_at, id
LIMIT $5

-- name: select_break
-- One of them.
SELECT
    id::text AS id, area, kind, subject, state, merchant_id::text AS merchant_id, payment_id::text AS payment_id,
    operation_id::text AS operation_id, psp, reference, currency, expected, found, drift, size, about_at,
    first_seen_at, last_seen_at, extract(EPOCH FROM clock_timestamp() - first_seen_at)::bigint AS age_s, evidence,
    coalesce(repair, '{}') AS repair, repairs, proposed_by, approved_by, resolved_at, first_run::text AS first_run,
    last_run::text AS last_run
FROM reconciliation_breaks
WHERE id = $1

-- name: list_audit
-- What was done about it.
SELECT at, actor, action, note, detail
FROM audit_log
WHERE subject = $1
ORDER BY id

-- name: sum_open
-- How much money differs in what is not over, by the index of open ones.
SELECT kind, coalesce(currency, '') AS currency, count(*) AS count, sum(size)::bigint AS size
FROM reconciliation_breaks
WHERE state IN ('open', 'repairing')
GROUP BY kind, coalesce(currency, '')
ORDER BY 1, 2

-- name: list_last_runs
-- Of each kind the last that has ended.
SELECT DISTINCT ON (area, psp, is_full)
    id::text AS id, area, psp, is_full, inputs, outcome, checked, repairs, rounds, ended_at
FROM reconciliation_runs
WHERE ended_at IS NOT NULL
ORDER BY area, psp, is_full, ended_at DESC

-- name: find_last_run
-- Where the last one of a kind ended, and how long ago that was.
SELECT
    (inputs ->> 'until_ms')::bigint AS until_ms, extract(EPOCH FROM clock_timestamp() - ended_at)::float8 AS age_s
FROM reconciliation_runs
WHERE area = $1 AND psp IS NOT DISTINCT FROM $2 AND is_full = $3 AND ended_at IS NOT NULL
ORDER BY ended_at DESC
LIMIT 1

-- name: propose_repair
-- One operator's word.
SELECT propose_repair($1, $2::jsonb, $3, $4)

-- name: approve_repair
-- Another's.
SELECT approve_repair($1, $2, $3, $4, $5, $6)
