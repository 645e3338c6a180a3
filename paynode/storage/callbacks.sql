-- What PSPs tell us of their own accord, and the questions to them that a returning customer causes.

-- name: find_operation
-- A callback names our operation; only that PSP's own may be spoken about.
SELECT
    o.id::text, o.payment_id::text, o.merchant_id::text,
    EXISTS (SELECT FROM payments AS p WHERE p.id = o.payment_id AND p.reverse_at IS NOT NULL) AS is_pos
FROM operations AS o
WHERE o.id = $1 AND o.psp = $2;

-- name: store_unmatched
-- No operation has this reference: kept for a sweep, since a PSP may be told of an operation before we remember it.
INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at)
VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7)
ON CONFLICT (psp, event_id) DO NOTHING
RETURNING id::text;

-- name: store_matched
-- The callback and the evidence it is, in one transaction: a duplicate inserts neither.
WITH received AS (
    INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at, payment_id)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8)
    ON CONFLICT (psp, event_id) DO NOTHING
    RETURNING payment_id
)
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT $9, $10, 'psp.evidence', $11, payment_id, $12, $13::jsonb, clock_timestamp() FROM received
RETURNING id::text;

-- name: store_questioned
-- The callback and the question whether it is true, in one transaction: what this PSP claims is signed by nobody.
WITH received AS (
    INSERT INTO inbox (id, psp, event_id, our_reference, raw, claim, received_at, payment_id)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7, $8)
    ON CONFLICT (psp, event_id) DO NOTHING
    RETURNING id
)

INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT $9, $10, 'psp.inquire', o.merchant_id, o.payment_id, o.id, o.request, clock_timestamp()
FROM received
INNER JOIN operations AS o ON o.id = $11
RETURNING id::text;

-- name: take_aside
-- Those whose turn it is, with the operation that they name if there is one by now. The next turn of each comes twice as
-- late as this one did, and after a time no more: rows that never find anything cost less and less.
WITH due AS (
    SELECT id
    FROM inbox
    WHERE payment_id IS NULL AND look_at <= clock_timestamp()
    ORDER BY look_at
    LIMIT $1
    FOR UPDATE SKIP LOCKED
),

looked AS (
    UPDATE inbox AS i
    SET
        looks = i.looks + 1,
        look_at = CASE
            WHEN i.received_at > clock_timestamp() - $2 * interval '1 second'
                THEN clock_timestamp() + least(power(2, least(i.looks, 30)), $3) * interval '1 second'
        END
    FROM due
    WHERE i.id = due.id
    RETURNING i.id, i.psp, i.event_id, i.our_reference, i.claim
)

SELECT
    l.id::text AS inbox_id, l.psp, l.event_id, l.claim::text AS claim, o.id::text AS operation_id,
    o.payment_id::text AS payment_id, o.merchant_id::text AS merchant_id
FROM looked AS l
LEFT JOIN operations AS o
    ON
        o.psp = l.psp
        AND o.id = CASE
            WHEN l.our_reference ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN l.our_reference::uuid
        END
ORDER BY l.id;

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
    RETURNING id
)

INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
SELECT m.id, $3, 'psp.inquire', o.merchant_id, o.payment_id, o.id, o.request
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
