-- name: claim_effects
-- Deleting the row is the claim of its effect. Fewer rows than asked: somebody else had the effect.
DELETE FROM outbox
WHERE id = ANY($1::uuid[])

-- name: insert_evidence
-- psp_at comes in milliseconds. It is whatever the PSP's clock said, and evidence is not refused for the time it tells:
-- what is no instant of four-digit years is left out.
INSERT INTO evidence (
    id, payment_id, operation_id, outcome, source, psp_reference, amount, currency, page_url, reason, fraud_check, psp,
    psp_at
)
SELECT
    f.id, f.payment_id, f.operation_id, f.outcome, f.source, f.psp_reference, f.amount, f.currency, f.page_url,
    f.reason, f.fraud_check, f.psp,
    CASE WHEN f.psp_at_ms BETWEEN 0 AND 253402300799999
        THEN 'epoch'::timestamptz + f.psp_at_ms * interval '1 millisecond'
    END
FROM jsonb_to_recordset($1::jsonb) AS f (
    id uuid, payment_id uuid, operation_id uuid, outcome text, source text, psp_reference text, amount bigint,
    currency text, page_url text, reason text, psp_at_ms bigint, fraud_check text, psp text
)

-- name: update_payments
-- Compare and set by version. The order's slot is cleared once and never set again, whatever evidence comes later.
UPDATE payments AS p
SET
    status = c.status, version = c.version, psp = c.psp, amount_authorized = c.authorized,
    amount_capturing = c.capturing, amount_captured = c.captured, amount_voiding = c.voiding, amount_voided = c.voided,
    amount_refunding = c.refunding, amount_refunded = c.refunded, refund_status = c.refund_status,
    fraud_check = c.fraud_check, psp_reference = c.psp_reference, page_url = c.page_url,
    review_reason = c.review_reason, order_slot = CASE WHEN c.keeps_order_slot THEN p.order_slot END,
    given_up_at = CASE WHEN c.keeps_order_slot THEN p.given_up_at ELSE coalesce(p.given_up_at, clock_timestamp()) END,
    updated_at = clock_timestamp()
FROM jsonb_to_recordset($1::jsonb) AS c (
    id uuid, base_version bigint, version bigint, status text, psp text, authorized bigint, capturing bigint,
    captured bigint, voiding bigint, voided bigint, refunding bigint, refunded bigint, refund_status text,
    fraud_check text, psp_reference text, page_url text, review_reason text, keeps_order_slot boolean
)
WHERE p.id = c.id AND p.version = c.base_version

-- name: insert_operations
-- What a request or a rule has made. Reserved by the payment's amounts, which the same transaction has just written.
INSERT INTO operations (
    id, payment_id, merchant_id, kind, amount, currency, psp, request, state, is_final, origin, hold_available,
    hold_pending, reason, target
)
SELECT
    m.id, m.payment_id, m.merchant_id, m.kind, m.amount, m.currency, m.psp, m.request::jsonb, 'new', m.is_final,
    m.origin, m.hold_available, m.hold_pending, m.reason, m.target
FROM jsonb_to_recordset($1::jsonb) AS m (
    id uuid, payment_id uuid, merchant_id uuid, kind text, amount bigint, currency text, psp text, request text,
    is_final boolean, origin text, hold_available bigint, hold_pending bigint, reason text,
    target text
)

-- name: update_operations
-- Guarded by the payment's version, which the same transaction has just compared. Another PSP is asked the same.
UPDATE operations AS o
SET
    state = c.state, psp_reference = c.psp_reference, updated_at = clock_timestamp(), psp = c.psp,
    request = CASE WHEN o.psp = c.psp THEN o.request ELSE jsonb_set(o.request, '{psp}', to_jsonb(c.psp)) END
FROM jsonb_to_recordset($1::jsonb) AS c (operation_id uuid, state text, psp text, psp_reference text)
WHERE o.id = c.operation_id

-- name: decide_requests
-- What became of a merchant's request: whoever waits for it reads it here.
UPDATE requests AS r
SET decided_at = clock_timestamp(), refusal = d.refusal
FROM jsonb_to_recordset($1::jsonb) AS d (id uuid, refusal text)
WHERE r.id = d.id AND r.decided_at IS NULL

-- name: update_wallets
-- One write per wallet and batch. Locked in order: writers that take several rows in any order deadlock each other.
WITH change AS MATERIALIZED (
    SELECT c.*
    FROM jsonb_to_recordset($1::jsonb) AS c (
        merchant_id uuid, currency text, pending bigint, available bigint, reserve bigint, held bigint,
        version bigint, base_version bigint
    )
    INNER JOIN wallets AS w ON w.merchant_id = c.merchant_id AND w.currency = c.currency
    ORDER BY c.merchant_id, c.currency
    FOR NO KEY UPDATE OF w
)

UPDATE wallets AS w
SET
    pending = c.pending, available = c.available, reserve = c.reserve, held = c.held, version = c.version
FROM change AS c
WHERE w.merchant_id = c.merchant_id AND w.currency = c.currency AND w.version = c.base_version

-- name: insert_wallets
-- A merchant's first money in a currency. A row that exists after all is a unique violation: a conflict.
INSERT INTO wallets (merchant_id, currency, pending, available, reserve, held, version)
SELECT c.merchant_id, c.currency, c.pending, c.available, c.reserve, c.held, c.version
FROM jsonb_to_recordset($1::jsonb) AS c (
    merchant_id uuid, currency text, pending bigint, available bigint, reserve bigint, held bigint, version bigint
)
ORDER BY c.merchant_id, c.currency

-- name: update_heads
-- Compare and set by seq: this keeps seq gapless and the chain unbroken over all partitions of the ledger.
UPDATE ledger_heads AS h
SET seq = c.seq, hash = decode(c.hash, 'hex')
FROM jsonb_to_recordset($1::jsonb) AS c (merchant_id uuid, seq bigint, hash text, base_seq bigint)
WHERE h.merchant_id = c.merchant_id AND h.seq = c.base_seq

-- name: insert_heads
-- A merchant's first entry.
INSERT INTO ledger_heads (merchant_id, seq, hash)
SELECT c.merchant_id, c.seq, decode(c.hash, 'hex')
FROM jsonb_to_recordset($1::jsonb) AS c (merchant_id uuid, seq bigint, hash text)
ORDER BY c.merchant_id

-- name: insert_commands
-- The content is the operation's own request. A command that is due later is left to the relay. Of inquiries one at a
-- time waits for an operation: each that ends in doubt brings the next, so that one more, which a customer's return had
-- asked for, would be one more for ever. One that is under way does not count: it may end without a word.
INSERT INTO outbox (
    id, stream, type, merchant_id, payment_id, operation_id, body, available_at, published_at
)
SELECT DISTINCT ON (c.operation_id, c.type)
    c.id, c.stream, c.type, o.merchant_id, o.payment_id, o.id, o.request,
    clock_timestamp() + c.delay_ms * interval '1 millisecond',
    CASE WHEN c.delay_ms = 0 THEN clock_timestamp() END
FROM jsonb_to_recordset($1::jsonb) AS c (id uuid, stream text, type text, operation_id uuid, delay_ms bigint)
INNER JOIN operations AS o ON o.id = c.operation_id
WHERE c.type <> 'psp.inquire' OR NOT EXISTS (
    SELECT FROM outbox AS waiting
    WHERE waiting.operation_id = c.operation_id AND waiting.type = c.type AND waiting.published_at IS NULL
)
ORDER BY c.operation_id, c.type, c.delay_ms

-- name: forget_inquiries
-- Nobody need ask any more about what is known by now. One that is on its way already is answered with a shrug.
DELETE FROM outbox
WHERE operation_id = ANY($1::uuid[]) AND type = 'psp.inquire' AND published_at IS NULL

-- name: insert_events
-- One line per version of a payment.
INSERT INTO payment_events (id, payment_id, merchant_id, version, type, data)
SELECT e.id, e.payment_id, e.merchant_id, e.version, e.type, e.data
FROM jsonb_to_recordset($1::jsonb) AS e (
    id uuid, payment_id uuid, merchant_id uuid, version bigint, type text, data jsonb
)

-- name: renew_leases
-- The last statement of every batch: no row, no commit. Locked in order, because others renew several at once too.
WITH mine AS MATERIALIZED (
    SELECT p.partition
    FROM partitions AS p
    INNER JOIN unnest($1::int[], $2::bigint[]) AS l (partition, epoch) USING (partition, epoch)
    ORDER BY p.partition
    FOR NO KEY UPDATE OF p
)

UPDATE partitions AS p
SET lease_until = clock_timestamp() + $3 * interval '1 second', last_batch = $4
FROM mine
WHERE p.partition = mine.partition
RETURNING p.partition, p.epoch

-- name: learn_fate
-- After a COMMIT that was cut off. It waits for the row lock of a session that is still committing, and it is a write
-- of our own, so that what it returns is what every replica that counts has too.
UPDATE partitions AS p
SET lease_until = greatest(p.lease_until, clock_timestamp() + $3 * interval '1 second')
FROM unnest($1::int[], $2::bigint[]) AS l (partition, epoch)
WHERE p.partition = l.partition AND p.epoch = l.epoch
RETURNING p.partition, p.last_batch::text AS last_batch

-- name: insert_letters
-- The durable copy of what came without a row. The same entry twice is one letter. What a publisher signed can be
-- requeued: as a row whose id is the letter's.
INSERT INTO dead_letters (
    id, stream, entry_id, event_id, type, merchant_id, payment_id, reason, error, attempts, first_failed_at, fields,
    message
)
SELECT
    l.id, l.stream, l.entry_id, l.event_id, l.type, l.merchant_id, l.payment_id, l.reason, l.error, l.attempts,
    'epoch'::timestamptz + l.first_failed_at_ms * interval '1 millisecond', l.fields,
    CASE WHEN l.fields ? 'event' THEN
        jsonb_build_object(
            'id', l.id, 'stream', l.stream, 'type', 'outside.event', 'merchant_id', l.merchant_id, 'body', l.fields
        )
    END
FROM jsonb_to_recordset($1::jsonb) AS l (
    id uuid, stream text, entry_id text, event_id uuid, type text, merchant_id uuid, payment_id uuid, reason text,
    error text, attempts integer, first_failed_at_ms bigint, fields jsonb
)
ON CONFLICT (stream, entry_id) WHERE row_id IS NULL AND status = 'dead' DO NOTHING

-- name: bury_rows
-- A row that died becomes its own letter: claimed and kept whole in one statement.
WITH dying AS (
    SELECT *
    FROM jsonb_to_recordset($1::jsonb) AS l (
        id uuid, ref uuid, stream text, entry_id text, event_id uuid, type text, reason text, error text,
        attempts integer, first_failed_at_ms bigint, fields jsonb
    )
),

gone AS (
    DELETE FROM outbox AS o
    USING dying AS d
    WHERE o.id = d.ref
    RETURNING o.*
)

INSERT INTO dead_letters (
    id, row_id, stream, entry_id, event_id, type, merchant_id, payment_id, reason, error, attempts, first_failed_at,
    fields, message
)
SELECT
    d.id, d.ref, d.stream, d.entry_id, coalesce(d.event_id, d.ref), coalesce(d.type, g.type), g.merchant_id,
    g.payment_id, d.reason, d.error, d.attempts,
    'epoch'::timestamptz + d.first_failed_at_ms * interval '1 millisecond', d.fields, to_jsonb(g)
FROM dying AS d
INNER JOIN gone AS g ON g.id = d.ref

-- name: park_rows
-- Rows that wait behind a dead letter about the same payment, in the order in which they came.
WITH gone AS (
    DELETE FROM outbox AS o
    USING unnest($1::uuid[]) WITH ORDINALITY AS p (id, place)
    WHERE o.id = p.id
    RETURNING o.*, p.place
)

INSERT INTO parked (id, stream, type, merchant_id, payment_id, operation_id, body, created_at)
SELECT id, stream, type, merchant_id, payment_id, operation_id, body, created_at
FROM gone
ORDER BY place

-- name: insert_verdicts
-- What was applied, refused or buried of outside publishers. An id that is there already is a unique violation: somebody
-- else had the effect.
INSERT INTO applied_events (event_id, content_sha256, content, merchant_id, publisher, type, result, code)
SELECT v.event_id, decode(v.content_sha256, 'hex'), v.content, v.merchant_id, v.publisher, v.type, v.result, v.code
FROM jsonb_to_recordset($1::jsonb) AS v (
    event_id uuid, content_sha256 text, content text, merchant_id uuid, publisher text, type text, result text,
    code text
)
