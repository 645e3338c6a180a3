-- What PSPs tell us of their own accord, and the questions to them that a returning customer causes.

-- name: find_operations
-- A callback names our operation; only that PSP's own may be spoken about, or what it was to have before it was proved
-- that nothing had been sent to it: if money has moved there, the proof was wrong. And only if it is of a kind that the
-- callback can be about. A look-up for each: joined, all operations there ever were might be read, and an EXISTS that is
-- asked of many rows may read its whole table once instead, to look them up in what it keeps of it.
SELECT
    i.n, o.id::text AS id, o.payment_id::text AS payment_id, o.merchant_id::text AS merchant_id,
    (SELECT p.reverse_at IS NOT NULL FROM payments AS p WHERE p.id = o.payment_id) AS is_pos
FROM jsonb_to_recordset($1::jsonb) AS i (n integer, id uuid, psp text, kinds text [])
CROSS JOIN LATERAL (
    SELECT id, payment_id, merchant_id, kind, psp
    FROM operations
    WHERE id = i.id
    LIMIT 1
) AS o
WHERE
    o.kind = any(i.kinds)
    AND (
        o.psp = i.psp
        OR (
            SELECT true FROM psp_attempts AS a
            WHERE a.operation_id = o.id AND a.psp = i.psp AND a.outcome = 'not_sent'
            LIMIT 1
        )
    );

-- name: store_unmatched
-- No operation has this reference: kept for a sweep, since a PSP may be told of an operation before we remember it.
INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7)
ON CONFLICT (psp, event_id) DO NOTHING
RETURNING id::text;

-- name: store_matched
-- Callbacks and the evidence they are, in one transaction: a duplicate inserts neither, be it of another one here. In one
-- order, so that two who were told the same do not wait for each other.
WITH input AS (
    SELECT *
    FROM jsonb_to_recordset($1::jsonb) AS i (
        id uuid, psp text, event_id text, our_reference text, raw text, claim text, received_at timestamptz,
        payment_id uuid, stream text, merchant_id uuid, operation_id uuid, evidence text
    )
),

received AS (
    INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at, payment_id)
    SELECT id, psp, event_id, our_reference, decode(raw, 'hex'), claim::jsonb, received_at, payment_id
    FROM input
    ORDER BY psp, event_id
    ON CONFLICT (psp, event_id) DO NOTHING
    RETURNING id
)

INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT
    i.id, i.stream, 'psp.evidence', i.merchant_id, i.payment_id, i.operation_id, i.evidence::jsonb, clock_timestamp()
FROM input AS i
WHERE i.id IN (SELECT id FROM received)
RETURNING id::text AS id;

-- name: store_questioned
-- The callback and the question whether it is true, in one transaction: what this PSP claims is signed by nobody. One that
-- has not got the operation any more is asked by the name that it has given.
WITH received AS (
    INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at, payment_id)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8)
    ON CONFLICT (psp, event_id) DO NOTHING
    RETURNING psp, claim
)

INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT
    $9, $10, 'psp.inquire', o.merchant_id, o.payment_id, o.id,
    CASE
        WHEN o.psp = r.psp THEN o.request
        ELSE o.request || jsonb_build_object('psp', r.psp, 'charge_reference', r.claim ->> 'reference')
    END,
    clock_timestamp()
FROM received AS r
INNER JOIN operations AS o ON o.id = $11
RETURNING id::text;

-- name: take_aside
-- Those whose turn it is, with the operation that they name if there is one by now. The next turn of each comes twice as
-- late as this one did, and after a time no more: rows that never find anything cost less and less. One that has found
-- its operation has a next turn for certain: whoever is to match it may die before that.
WITH due AS (
    SELECT
        id, psp, event_id, claim, received_at,
        CASE
            WHEN our_reference ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN our_reference::uuid
        END AS operation_id
    FROM inbox
    WHERE payment_id IS NULL AND look_at <= clock_timestamp()
    ORDER BY look_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),

named AS (
    SELECT d.id, d.psp, d.event_id, d.claim, d.received_at, o.id AS operation_id, o.payment_id, o.merchant_id
    FROM due AS d
    LEFT JOIN operations AS o
        ON
            o.id = d.operation_id
            AND coalesce(d.claim -> 'kinds' ? o.kind, true)
            AND (
                o.psp = d.psp
                OR (
                    SELECT true FROM psp_attempts AS a
                    WHERE a.operation_id = o.id AND a.psp = d.psp AND a.outcome = 'not_sent'
                    LIMIT 1
                )
            )
)

UPDATE inbox AS i
SET
    looks = i.looks + 1,
    look_at = CASE
        WHEN n.operation_id IS NOT NULL OR n.received_at > clock_timestamp() - $2 * interval '1 second'
            THEN clock_timestamp() + least(power(2, least(i.looks, 30)), $3) * interval '1 second'
    END
FROM named AS n
WHERE i.id = n.id
RETURNING
    n.id::text AS inbox_id, n.psp, n.event_id, n.claim::text AS claim, n.operation_id::text AS operation_id,
    n.payment_id::text AS payment_id, n.merchant_id::text AS merchant_id;

-- name: match_callback
-- It has its payment, and is evidence, in one transaction; whoever comes second finds it matched. Published by the relay.
WITH matched AS (
    UPDATE inbox SET payment_id = $2
    WHERE id = $1 AND payment_id IS NULL
    RETURNING id, payment_id
)

INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
SELECT id, $3, 'psp.evidence', $4, payment_id, $5, $6::jsonb FROM matched
RETURNING id::text;

-- name: match_questioned
-- It has its payment, and the PSP is asked.
WITH matched AS (
    UPDATE inbox SET payment_id = $2
    WHERE id = $1 AND payment_id IS NULL
    RETURNING id, psp, claim
)

INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
SELECT
    m.id, $3, 'psp.inquire', o.merchant_id, o.payment_id, o.id,
    CASE
        WHEN o.psp = m.psp THEN o.request
        ELSE o.request || jsonb_build_object('psp', m.psp, 'charge_reference', m.claim ->> 'reference')
    END
FROM matched AS m
INNER JOIN operations AS o ON o.id = $4
RETURNING id::text;

-- name: find_open_charge
-- One that is on its page. What is in doubt has its own questions, which are counted: a customer's would use them up,
-- and anybody who has the link could. What is new has no page yet from which anybody could come back.
SELECT id::text, psp FROM operations
WHERE payment_id = $1 AND kind IN ('sale', 'authorize') AND state = 'pending';

-- name: ask_inquiry
-- The id is made from the operation and the time: however often a customer reloads, one question per ten seconds.
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT $1, $2, 'psp.inquire', merchant_id, payment_id, id, request, clock_timestamp() FROM operations WHERE id = $3
ON CONFLICT (id) DO NOTHING
RETURNING id::text;
