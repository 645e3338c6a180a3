-- name: claim_attempts
-- The claim of sending: committed before the first byte leaves, one per operation unless nothing was sent. The command
-- must still be there: a delivery that comes late must not begin again what is already concluded. Locked, because it may
-- be in the middle of being concluded: a snapshot still shows the row, and the claim waits on an attempt that then ends
-- as not sent, which frees the way for a sending that nobody would hear of. And for the PSP that has the operation: one
-- that it has gone on from is not sent to, whatever command is left of it.
WITH input AS (
    SELECT *
    FROM jsonb_to_recordset($1::jsonb) AS i (
        id uuid, command_id uuid, operation_id uuid, payment_id uuid, psp text, path text, request text, gateway text,
        send_within_s double precision, call_deadline_s double precision
    )
),

command AS MATERIALIZED (
    SELECT o.id
    FROM outbox AS o
    INNER JOIN input AS i ON i.command_id = o.id
    ORDER BY o.id
    FOR KEY SHARE OF o
)

INSERT INTO psp_attempts (
    id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at
)
SELECT
    c.id, c.operation_id, c.payment_id, c.psp, c.path, convert_to(c.request, 'UTF8'), c.gateway,
    clock_timestamp() + c.send_within_s * interval '1 second',
    clock_timestamp() + (c.send_within_s + c.call_deadline_s) * interval '1 second'
FROM input AS c
WHERE
    c.command_id IN (SELECT id FROM command)
    -- A look-up each: joined, all operations there ever were might be read.
    AND coalesce((SELECT o.psp FROM operations AS o WHERE o.id = c.operation_id), c.psp) = c.psp
ORDER BY c.operation_id
ON CONFLICT (operation_id) WHERE outcome IS DISTINCT FROM 'not_sent' DO NOTHING
RETURNING operation_id::text AS operation_id, id::text AS id

-- name: find_attempt
-- The attempt that may have been sent; there is at most one.
SELECT
    id::text AS id, psp, path, request, outcome, psp_reference, deadline_at < clock_timestamp() AS is_past_deadline,
    (extract(EPOCH FROM clock_timestamp() - claimed_at) * 1000)::bigint AS age_ms,
    (extract(EPOCH FROM clock_timestamp() - send_by) * 1000)::bigint AS sent_ms
FROM psp_attempts
WHERE operation_id = $1 AND outcome IS DISTINCT FROM 'not_sent'

-- name: claim_resend
-- Only an attempt in doubt, and only when nobody else can still be sending it: the last sending was concluded, or its
-- deadline has passed. Nor one whose operation is decided meanwhile (a callback has come), or whose key the PSP may have
-- forgotten: by this clock, which is one for all.
UPDATE psp_attempts AS a
SET
    sends = sends + 1, concluded_at = NULL, gateway = $2, send_by = clock_timestamp() + $3 * interval '1 second',
    deadline_at = clock_timestamp() + ($3 + $4) * interval '1 second'
WHERE
    id = $1 AND outcome = 'unknown' AND (concluded_at IS NOT NULL OR deadline_at < clock_timestamp())
    AND claimed_at > clock_timestamp() - $5 * interval '1 second'
    AND NOT EXISTS (
        SELECT FROM operations AS o
        WHERE o.id = a.operation_id AND o.state NOT IN ('new', 'unknown', 'review', 'pending')
    )
RETURNING id::text AS id

-- name: conclude_commands
-- The end of a command in one statement: the row goes, the attempt has its outcome, the evidence begins its way. The
-- deletion is the claim: whoever finds the row gone writes nothing. A command that was delivered twice may end twice in
-- one statement, which would delete one row and insert two pieces of evidence: of the two the one that knows more.
-- An inquiry that found nothing ends nothing while another process sends the bytes again: its row stays, and the relay
-- brings it again. The attempts are locked first and in one order, so that no sending begins in between.
WITH input AS (
    SELECT DISTINCT ON (i.command_id) *
    FROM jsonb_to_recordset($1::jsonb) AS i (
        command_id uuid, attempt_id uuid, gateway text, is_inquiry boolean, outcome text, reason text,
        psp_reference text, evidence_id uuid, evidence_stream text, merchant_id uuid, payment_id uuid,
        operation_id uuid, evidence text
    )
    ORDER BY i.command_id, i.outcome IS NULL, i.outcome = 'unknown'
),

held AS MATERIALIZED (
    SELECT a.id, a.gateway, a.concluded_at IS NULL AND a.deadline_at > clock_timestamp() AS is_being_sent
    FROM psp_attempts AS a
    WHERE a.id IN (SELECT attempt_id FROM input)
    ORDER BY a.id
    FOR NO KEY UPDATE
),

early AS MATERIALIZED (
    SELECT i.command_id
    FROM input AS i
    INNER JOIN held AS h ON h.id = i.attempt_id
    WHERE i.is_inquiry AND i.outcome IN ('unknown', 'absent') AND h.is_being_sent AND h.gateway <> i.gateway
),

gone AS (
    DELETE FROM outbox AS o
    USING input AS i
    WHERE o.id = i.command_id AND NOT EXISTS (SELECT FROM early AS e WHERE e.command_id = o.id)
    -- Its evidence goes by the same lane: what was asked first is told first.
    RETURNING o.id, CASE WHEN o.stream LIKE '%:pos' THEN ':pos' ELSE '' END AS lane
),

attempt AS (
    UPDATE psp_attempts AS a
    SET
        outcome = i.outcome, reason = i.reason, psp_reference = coalesce(i.psp_reference, a.psp_reference),
        concluded_at = clock_timestamp()
    FROM input AS i
    INNER JOIN gone AS g ON g.id = i.command_id
    -- A command that ends without an answer changes no attempt: it would be open again, and nobody would end it.
    WHERE
        a.id = i.attempt_id AND i.outcome IS NOT NULL
        -- And doubt takes nothing back: of what is pending or absent the PSP has spoken.
        AND (
            a.outcome IS NULL OR a.outcome = 'unknown'
            OR (a.outcome IN ('pending', 'absent') AND i.outcome <> 'unknown')
        )
)

INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT
    i.evidence_id, i.evidence_stream || g.lane, 'psp.evidence', i.merchant_id, i.payment_id, i.operation_id,
    i.evidence::jsonb, clock_timestamp()
FROM input AS i
INNER JOIN gone AS g ON g.id = i.command_id
WHERE i.evidence_id IS NOT NULL
RETURNING id::text AS id, stream, merchant_id::text AS merchant_id
