-- migrate:up

-- On which terms merchants are paid. The first ones stand in the merchant's row; those that are announced later have rows
-- of their own. A payment keeps the terms that were in force when it was accepted (NULL: the first ones).
ALTER TABLE merchants
ADD COLUMN reserve_basis_points integer NOT NULL DEFAULT 0,
ADD COLUMN reserve_days integer NOT NULL DEFAULT 0,
ADD COLUMN availability text NOT NULL DEFAULT 'date',
ADD COLUMN available_days integer NOT NULL DEFAULT 2,
ADD CONSTRAINT merchants_terms CHECK (
    reserve_basis_points >= 0 AND fee_basis_points + reserve_basis_points <= 10000
    AND reserve_days BETWEEN 0 AND 3650 AND available_days BETWEEN 0 AND 365 AND availability IN ('date', 'settlement')
) NOT VALID;

CREATE TABLE merchant_terms (
    id uuid PRIMARY KEY,
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    effective_from timestamptz NOT NULL,
    fee_fixed bigint NOT NULL CHECK (fee_fixed >= 0),
    fee_basis_points integer NOT NULL CHECK (fee_basis_points >= 0),
    reserve_basis_points integer NOT NULL CHECK (reserve_basis_points >= 0),
    reserve_days integer NOT NULL CHECK (reserve_days BETWEEN 0 AND 3650),
    availability text NOT NULL CHECK (availability IN ('date', 'settlement')),
    available_days integer NOT NULL CHECK (available_days BETWEEN 0 AND 365),
    announced_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (merchant_id, effective_from),
    CONSTRAINT merchant_terms_within_the_capture CHECK (fee_basis_points + reserve_basis_points <= 10000),
    -- What has been accepted keeps its terms, and so does whoever reads this table: the past is not rewritten.
    CONSTRAINT merchant_terms_announced_before CHECK (effective_from >= announced_at)
);
CREATE TRIGGER merchant_terms_append_only BEFORE UPDATE OR DELETE ON merchant_terms
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER merchant_terms_no_truncate BEFORE TRUNCATE ON merchant_terms
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE payments ADD COLUMN terms_id uuid;
ALTER TABLE payments ADD CONSTRAINT payments_terms FOREIGN KEY (terms_id) REFERENCES merchant_terms (id) NOT VALID;

-- The terms in force now; NULL: the merchant's first ones.
CREATE FUNCTION terms_in_force(merchant uuid) RETURNS uuid LANGUAGE sql STABLE AS $$
    SELECT t.id FROM merchant_terms AS t
    WHERE t.merchant_id = merchant AND t.effective_from <= clock_timestamp()
    ORDER BY t.effective_from DESC LIMIT 1
$$;

-- What of a booked capture has still to become available, and what is held back of it. `is_maturing` without a time: it
-- waits for the PSP's settlement.
ALTER TABLE operations
ADD COLUMN is_maturing boolean NOT NULL DEFAULT false,
ADD COLUMN matures_at timestamptz,
ADD COLUMN rest_pending bigint NOT NULL DEFAULT 0,
ADD COLUMN releases_at timestamptz,
ADD COLUMN rest_reserve bigint NOT NULL DEFAULT 0,
ADD CONSTRAINT operations_rests CHECK (
    rest_pending >= 0 AND rest_reserve >= 0 AND rest_pending + rest_reserve <= amount
    AND (is_maturing OR (rest_pending = 0 AND matures_at IS NULL)) AND (releases_at IS NOT NULL OR rest_reserve = 0)
) NOT VALID;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX operations_maturing ON operations (matures_at) WHERE matures_at IS NOT NULL;
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX operations_releasing ON operations (releases_at) WHERE releases_at IS NOT NULL;

-- The sum of what is maturing. What is pending beyond it has nothing that keeps it there.
ALTER TABLE wallets ADD COLUMN maturing bigint NOT NULL DEFAULT 0;
ALTER TABLE wallets ADD CONSTRAINT wallets_maturing CHECK (maturing >= 0) NOT VALID;

-- What was captured before there were dates becomes available two days from now. What refunds have taken of it since is
-- missing in what is pending, and is made up for by what matures first.
WITH net AS (
    SELECT
        operation_id,
        sum(CASE WHEN type = 'capture' THEN amount ELSE -amount END) AS rest
    FROM ledger_entries
    WHERE type IN ('capture', 'fee')
    GROUP BY operation_id
)

UPDATE operations AS o
SET is_maturing = true, matures_at = clock_timestamp() + interval '2 days', rest_pending = net.rest
FROM net
WHERE o.id = net.operation_id AND o.state = 'approved' AND net.rest >= 0;

UPDATE wallets AS w
SET maturing = o.maturing
FROM (
    SELECT merchant_id, currency, sum(rest_pending) AS maturing FROM operations GROUP BY merchant_id, currency
) AS o
WHERE o.merchant_id = w.merchant_id AND o.currency = w.currency;

-- Payouts as internal services instruct them; the id is that of the event that asked.
CREATE TABLE payouts (
    id uuid PRIMARY KEY,
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    reference text NOT NULL,
    state text NOT NULL CHECK (state IN ('created', 'paid', 'failed')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    CONSTRAINT payouts_end_once CHECK ((state = 'created') = (ended_at IS NULL))
);
CREATE INDEX payouts_open ON payouts (merchant_id) WHERE state = 'created';

-- Whose the facts are that are no merchant's: lines of a report that nobody can explain. It has a ledger like any other.
INSERT INTO merchants (id, name, fee_fixed, fee_basis_points, psps)
VALUES ('00000000-0000-7000-8000-000000000000', 'paynode', 0, 0, ARRAY['none'])
ON CONFLICT DO NOTHING;

-- Evidence may come from a PSP's report.
-- squawk-ignore ban-drop-constraint
ALTER TABLE evidence DROP CONSTRAINT evidence_source_check;
ALTER TABLE evidence ADD CONSTRAINT evidence_source_check
CHECK (source IN ('answer', 'callback', 'inquiry', 'operator', 'report')) NOT VALID;

-- `write_batch` in parts, so that whoever changes one need not say the others again.

-- Raises PN001 with the partitions whose leases are not ours any more.
CREATE FUNCTION fence_batch(batch jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    lost text;
BEGIN
    -- First of all, and locked until the end: nobody takes a partition over in the middle. Locked in order, because others
    -- renew several at once too.
    WITH mine AS MATERIALIZED (
        SELECT p.partition
        FROM jsonb_to_recordset(batch -> 'leases') AS l (partition integer, epoch bigint)
        INNER JOIN partitions AS p ON p.partition = l.partition AND p.epoch = l.epoch
        ORDER BY p.partition
        FOR NO KEY UPDATE OF p
    ),

    renewed AS (
        UPDATE partitions AS p
        SET
            lease_until = clock_timestamp() + (batch ->> 'lease_s')::double precision * interval '1 second',
            last_batch = (batch ->> 'id')::uuid
        FROM mine
        WHERE p.partition = mine.partition
        RETURNING p.partition, p.epoch
    )

    -- By epoch too: of two leases on one partition, which an owner that was stopped may hold, one is over.
    SELECT string_agg(l.partition::text, ',') INTO lost
    FROM jsonb_to_recordset(batch -> 'leases') AS l (partition integer, epoch bigint)
    WHERE NOT EXISTS (SELECT FROM renewed AS r WHERE r.partition = l.partition AND r.epoch = l.epoch);
    IF lost IS NOT NULL THEN
        RAISE EXCEPTION 'leases are lost' USING ERRCODE = 'PN001', DETAIL = lost;
    END IF;
    IF NOT batch ? 'leases' THEN
        RAISE EXCEPTION 'nobody writes without a lease';
    END IF;
END
$$;

-- Evidence, payments, their operations and what was asked about them.
CREATE FUNCTION write_payments(batch jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
BEGIN
    -- psp_at comes in milliseconds. It is whatever the PSP's clock said, and evidence is not refused for the time it
    -- tells: what is no instant of four-digit years is left out.
    IF batch ? 'evidence' THEN
        INSERT INTO evidence (
            id, payment_id, operation_id, outcome, source, psp_reference, amount, currency, page_url, reason,
            fraud_check, psp, psp_at
        )
        SELECT
            f.id, f.payment_id, f.operation_id, f.outcome, f.source, f.psp_reference, f.amount, f.currency,
            f.page_url, f.reason, f.fraud_check, f.psp,
            CASE WHEN f.psp_at_ms BETWEEN 0 AND 253402300799999
                THEN 'epoch'::timestamptz + f.psp_at_ms * interval '1 millisecond'
            END
        FROM jsonb_to_recordset(batch -> 'evidence') AS f (
            id uuid, payment_id uuid, operation_id uuid, outcome text, source text, psp_reference text, amount bigint,
            currency text, page_url text, reason text, psp_at_ms bigint, fraud_check text, psp text
        );
    END IF;

    -- Compare and set by version. The order's slot is cleared once and never set again, whatever evidence comes later.
    IF batch ? 'payments' THEN
        UPDATE payments AS p
        SET
            status = c.status, version = c.version, psp = c.psp, amount_authorized = c.authorized,
            amount_capturing = c.capturing, amount_captured = c.captured, amount_voiding = c.voiding,
            amount_voided = c.voided, amount_refunding = c.refunding, amount_refunded = c.refunded,
            refund_status = c.refund_status, fraud_check = c.fraud_check, psp_reference = c.psp_reference,
            page_url = c.page_url, review_reason = c.review_reason,
            order_slot = CASE WHEN c.keeps_order_slot THEN p.order_slot END,
            given_up_at = CASE
                WHEN c.keeps_order_slot THEN p.given_up_at ELSE coalesce(p.given_up_at, clock_timestamp())
            END,
            updated_at = clock_timestamp()
        FROM jsonb_to_recordset(batch -> 'payments') AS c (
            id uuid, base_version bigint, version bigint, status text, psp text, authorized bigint, capturing bigint,
            captured bigint, voiding bigint, voided bigint, refunding bigint, refunded bigint, refund_status text,
            fraud_check text, psp_reference text, page_url text, review_reason text, keeps_order_slot boolean
        )
        WHERE p.id = c.id AND p.version = c.base_version;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('payments', jsonb_array_length(batch -> 'payments'), touched);
    END IF;

    -- What a request or a rule has made. Reserved by the payment's amounts, which were written just now.
    IF batch ? 'made' THEN
        INSERT INTO operations (
            id, payment_id, merchant_id, kind, amount, currency, psp, request, state, is_final, origin,
            hold_available, hold_pending, reason, target
        )
        SELECT
            m.id, m.payment_id, m.merchant_id, m.kind, m.amount, m.currency, m.psp, m.request::jsonb, 'new',
            m.is_final, m.origin, m.hold_available, m.hold_pending, m.reason, m.target
        FROM jsonb_to_recordset(batch -> 'made') AS m (
            id uuid, payment_id uuid, merchant_id uuid, kind text, amount bigint, currency text, psp text,
            request text, is_final boolean, origin text, hold_available bigint, hold_pending bigint, reason text,
            target text
        );
    END IF;

    -- Guarded by the payment's version, which was compared just now. Another PSP is asked the same.
    IF batch ? 'operations' THEN
        UPDATE operations AS o
        SET
            state = c.state, psp_reference = c.psp_reference, updated_at = clock_timestamp(), psp = c.psp,
            request = CASE
                WHEN o.psp = c.psp THEN o.request ELSE jsonb_set(o.request, '{psp}', to_jsonb(c.psp))
            END,
            -- A worker that is older than these says nothing of them.
            is_maturing = coalesce(c.is_maturing, o.is_maturing),
            rest_pending = coalesce(c.rest_pending, o.rest_pending),
            rest_reserve = coalesce(c.rest_reserve, o.rest_reserve),
            matures_at = CASE
                WHEN c.is_maturing IS NULL THEN o.matures_at
                ELSE 'epoch'::timestamptz + c.matures_at_ms * interval '1 millisecond'
            END,
            releases_at = CASE
                WHEN c.is_maturing IS NULL THEN o.releases_at
                ELSE 'epoch'::timestamptz + c.releases_at_ms * interval '1 millisecond'
            END
        FROM jsonb_to_recordset(batch -> 'operations') AS c (
            operation_id uuid, state text, psp text, psp_reference text, is_maturing boolean, rest_pending bigint,
            rest_reserve bigint, matures_at_ms bigint, releases_at_ms bigint
        )
        WHERE o.id = c.operation_id;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('operations', jsonb_array_length(batch -> 'operations'), touched);
    END IF;

    -- What became of a merchant's request: whoever waits for it reads it here.
    IF batch ? 'decided' THEN
        UPDATE requests AS r
        SET decided_at = clock_timestamp(), refusal = d.refusal
        FROM jsonb_to_recordset(batch -> 'decided') AS d (id uuid, refusal text)
        WHERE r.id = d.id AND r.decided_at IS NULL;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('decided', jsonb_array_length(batch -> 'decided'), touched);
    END IF;
END
$$;

-- Ledger, wallets, heads, payouts: all that is money.
CREATE FUNCTION write_ledger(batch jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
BEGIN
    IF batch ? 'entries' THEN
        INSERT INTO ledger_entries (
            id, line, merchant_id, seq, payment_id, operation_id, type, debit_account, credit_account, amount,
            currency, psp_reference, at, epoch, prev_hash, hash
        )
        SELECT
            e.id, e.line, e.merchant_id, e.seq, e.payment_id, e.operation_id, e.type, e.debit_account,
            e.credit_account, e.amount, e.currency, e.psp_reference,
            e.at, e.epoch, decode(e.prev_hash, 'hex'), decode(e.hash, 'hex')
        FROM jsonb_to_recordset(batch -> 'entries') AS e (
            id uuid, line integer, merchant_id uuid, seq bigint, payment_id uuid, operation_id uuid, type text,
            debit_account text, credit_account text, amount bigint, currency text, psp_reference text,
            at timestamptz, epoch bigint, prev_hash text, hash text
        );
    END IF;

    IF batch ? 'adjustments' THEN
        INSERT INTO wallet_adjustments (
            id, operation_id, kind, part, payment_id, merchant_id, currency, delta, d_pending, d_available, d_reserve,
            d_held, created_at
        )
        SELECT
            a.id, a.operation_id, a.kind, a.part, a.payment_id, a.merchant_id, a.currency, a.delta, a.d_pending,
            a.d_available, a.d_reserve, a.d_held, a.created_at
        FROM jsonb_to_recordset(batch -> 'adjustments') AS a (
            id uuid, operation_id uuid, kind text, part integer, payment_id uuid, merchant_id uuid, currency text,
            delta bigint, d_pending bigint, d_available bigint, d_reserve bigint, d_held bigint,
            created_at timestamptz
        );
    END IF;

    -- One write per wallet and batch. Locked in order: writers that take several rows in any order deadlock each other.
    IF batch ? 'wallets' THEN
        WITH change AS MATERIALIZED (
            SELECT c.*
            FROM jsonb_to_recordset(batch -> 'wallets') AS c (
                merchant_id uuid, currency text, pending bigint, available bigint, reserve bigint, held bigint,
                maturing bigint, version bigint, base_version bigint
            )
            INNER JOIN wallets AS w ON w.merchant_id = c.merchant_id AND w.currency = c.currency
            ORDER BY c.merchant_id, c.currency
            FOR NO KEY UPDATE OF w
        )

        UPDATE wallets AS w
        SET
            pending = c.pending, available = c.available, reserve = c.reserve, held = c.held,
            maturing = coalesce(c.maturing, w.maturing), version = c.version
        FROM change AS c
        WHERE w.merchant_id = c.merchant_id AND w.currency = c.currency AND w.version = c.base_version;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('wallets', jsonb_array_length(batch -> 'wallets'), touched);
    END IF;

    -- A merchant's first money in a currency. A row that exists after all is a unique violation: a conflict.
    IF batch ? 'new_wallets' THEN
        INSERT INTO wallets (merchant_id, currency, pending, available, reserve, held, maturing, version)
        SELECT c.merchant_id, c.currency, c.pending, c.available, c.reserve, c.held, coalesce(c.maturing, 0), c.version
        FROM jsonb_to_recordset(batch -> 'new_wallets') AS c (
            merchant_id uuid, currency text, pending bigint, available bigint, reserve bigint, held bigint,
            maturing bigint, version bigint
        )
        ORDER BY c.merchant_id, c.currency;
    END IF;

    -- Compare and set by seq: this keeps seq gapless and the chain unbroken over all partitions of the ledger.
    IF batch ? 'heads' THEN
        UPDATE ledger_heads AS h
        SET seq = c.seq, hash = decode(c.hash, 'hex')
        FROM jsonb_to_recordset(batch -> 'heads') AS c (merchant_id uuid, seq bigint, hash text, base_seq bigint)
        WHERE h.merchant_id = c.merchant_id AND h.seq = c.base_seq;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('heads', jsonb_array_length(batch -> 'heads'), touched);
    END IF;

    -- A merchant's first entry.
    IF batch ? 'new_heads' THEN
        INSERT INTO ledger_heads (merchant_id, seq, hash)
        SELECT c.merchant_id, c.seq, decode(c.hash, 'hex')
        FROM jsonb_to_recordset(batch -> 'new_heads') AS c (merchant_id uuid, seq bigint, hash text)
        ORDER BY c.merchant_id;
    END IF;

    -- A payout that ends in the batch that began it is both: first the row, then its end.
    IF batch ? 'payouts' THEN
        INSERT INTO payouts (id, merchant_id, currency, amount, reference, state)
        SELECT p.id, p.merchant_id, p.currency, p.amount, p.reference, p.state
        FROM jsonb_to_recordset(batch -> 'payouts') AS p (
            id uuid, merchant_id uuid, currency text, amount bigint, reference text, state text
        );
    END IF;
    IF batch ? 'ended_payouts' THEN
        UPDATE payouts AS p
        SET state = e.state, ended_at = clock_timestamp()
        FROM jsonb_to_recordset(batch -> 'ended_payouts') AS e (id uuid, state text)
        WHERE p.id = e.id AND p.state = 'created';
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('payouts', jsonb_array_length(batch -> 'ended_payouts'), touched);
    END IF;
END
$$;

-- What others are told and asked, and what is laid aside.
CREATE FUNCTION write_road(batch jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    touched bigint;
BEGIN
    -- One line per version of a payment.
    IF batch ? 'events' THEN
        INSERT INTO payment_events (id, payment_id, merchant_id, version, type, data)
        SELECT e.id, e.payment_id, e.merchant_id, e.version, e.type, e.data
        FROM jsonb_to_recordset(batch -> 'events') AS e (
            id uuid, payment_id uuid, merchant_id uuid, version bigint, type text, data jsonb
        );
    END IF;

    -- The content is the operation's own request. A command that is due later is left to the relay. Of inquiries one at a
    -- time waits for an operation: each that ends in doubt brings the next, so that one more, which a customer's return
    -- had asked for, would be one more for ever. One that is under way does not count: it may end without a word.
    IF batch ? 'commands' THEN
        INSERT INTO outbox (
            id, stream, type, merchant_id, payment_id, operation_id, body, available_at, published_at
        )
        SELECT DISTINCT ON (c.operation_id, c.type)
            c.id, c.stream, c.type, o.merchant_id, o.payment_id, o.id, o.request,
            clock_timestamp() + c.delay_ms * interval '1 millisecond',
            CASE WHEN c.delay_ms = 0 THEN clock_timestamp() END
        FROM jsonb_to_recordset(batch -> 'commands') AS c (
            id uuid, stream text, type text, operation_id uuid, delay_ms bigint
        )
        INNER JOIN operations AS o ON o.id = c.operation_id
        WHERE c.type <> 'psp.inquire' OR NOT EXISTS (
            SELECT FROM outbox AS waiting
            WHERE waiting.operation_id = c.operation_id AND waiting.type = c.type AND waiting.published_at IS NULL
        )
        ORDER BY c.operation_id, c.type, c.delay_ms;
    END IF;

    -- Nobody need ask any more about what is known by now. One that is on its way already is answered with a shrug.
    IF batch ? 'answered' THEN
        DELETE FROM outbox AS o
        WHERE
            o.operation_id = ANY(ARRAY(SELECT jsonb_array_elements_text(batch -> 'answered')::uuid))
            AND o.type = 'psp.inquire' AND o.published_at IS NULL;
    END IF;

    -- A row that died becomes its own letter: claimed and kept whole in one statement.
    IF batch ? 'buried' THEN
        WITH dying AS (
            SELECT *
            FROM jsonb_to_recordset(batch -> 'buried') AS l (
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
            id, row_id, stream, entry_id, event_id, type, merchant_id, payment_id, reason, error, attempts,
            first_failed_at, fields, message
        )
        SELECT
            d.id, d.ref, d.stream, d.entry_id, coalesce(d.event_id, d.ref), coalesce(d.type, g.type), g.merchant_id,
            g.payment_id, d.reason, d.error, d.attempts,
            'epoch'::timestamptz + d.first_failed_at_ms * interval '1 millisecond', d.fields, to_jsonb(g)
        FROM dying AS d
        INNER JOIN gone AS g ON g.id = d.ref;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('buried', jsonb_array_length(batch -> 'buried'), touched);
    END IF;

    -- Rows that wait behind a dead letter about the same payment, in the order in which they came.
    IF batch ? 'parked' THEN
        WITH gone AS (
            DELETE FROM outbox AS o
            USING jsonb_array_elements_text(batch -> 'parked') WITH ORDINALITY AS p (id, place)
            WHERE o.id = p.id::uuid
            RETURNING o.*, p.place
        )

        INSERT INTO parked (id, stream, type, merchant_id, payment_id, operation_id, body, created_at)
        SELECT g.id, g.stream, g.type, g.merchant_id, g.payment_id, g.operation_id, g.body, g.created_at
        FROM gone AS g
        ORDER BY g.place;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('parked', jsonb_array_length(batch -> 'parked'), touched);
    END IF;

    -- What was applied, refused or buried of outside publishers. An id that is there already is a unique violation:
    -- somebody else had the effect.
    IF batch ? 'verdicts' THEN
        INSERT INTO applied_events (event_id, content_sha256, content, merchant_id, publisher, type, result, code)
        SELECT
            v.event_id, decode(v.content_sha256, 'hex'), v.content, v.merchant_id, v.publisher, v.type, v.result, v.code
        FROM jsonb_to_recordset(batch -> 'verdicts') AS v (
            event_id uuid, content_sha256 text, content text, merchant_id uuid, publisher text, type text, result text,
            code text
        );
    END IF;

    -- The durable copy of what came without a row. The same entry twice is one letter. What a publisher signed can be
    -- requeued: as a row whose id is the letter's.
    IF batch ? 'letters' THEN
        INSERT INTO dead_letters (
            id, stream, entry_id, event_id, type, merchant_id, payment_id, reason, error, attempts, first_failed_at,
            fields, message
        )
        SELECT
            l.id, l.stream, l.entry_id, l.event_id, l.type, l.merchant_id, l.payment_id, l.reason, l.error,
            l.attempts, 'epoch'::timestamptz + l.first_failed_at_ms * interval '1 millisecond', l.fields,
            CASE WHEN l.fields ? 'event' THEN
                jsonb_build_object(
                    'id', l.id, 'stream', l.stream, 'type', 'outside.event', 'merchant_id', l.merchant_id,
                    'body', l.fields
                )
            END
        FROM jsonb_to_recordset(batch -> 'letters') AS l (
            id uuid, stream text, entry_id text, event_id uuid, type text, merchant_id uuid, payment_id uuid,
            reason text, error text, attempts integer, first_failed_at_ms bigint, fields jsonb
        )
        ON CONFLICT (stream, entry_id) WHERE row_id IS NULL AND status = 'dead' DO NOTHING;
    END IF;
END
$$;

-- A batch of effects, whole or not at all: all that the committer writes of money, in one statement, so that a small batch
-- costs one round trip, its COMMIT included. `batch` has a list of rows under each name, and leaves out what is empty. Of a
-- large batch the lines of the ledger are copied before, in the same transaction, and are left out here.
-- Raises: PN001 with the partitions whose leases are not ours any more; serialization_failure; what a CHECK refuses.
CREATE OR REPLACE FUNCTION write_batch(batch jsonb) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    touched bigint;
BEGIN
    PERFORM fence_batch(batch);

    -- Deleting the row is the claim of its effect. Fewer rows than asked: somebody else had the effect.
    IF batch ? 'claims' THEN
        DELETE FROM outbox AS o
        WHERE o.id = ANY(ARRAY(SELECT jsonb_array_elements_text(batch -> 'claims')::uuid));
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('claims', jsonb_array_length(batch -> 'claims'), touched);
    END IF;

    PERFORM write_payments(batch);
    PERFORM write_ledger(batch);
    PERFORM write_road(batch);
END
$$;

REVOKE ALL ON FUNCTION fence_batch(jsonb), write_payments(jsonb), write_ledger(jsonb), write_road(jsonb) FROM public;
GRANT EXECUTE ON FUNCTION fence_batch(jsonb), write_payments(jsonb), write_ledger(jsonb), write_road(jsonb)
TO paynode_committer;

-- What is due by the calendar: captures that become available, and what is held back and is released. Of a payment under
-- review nothing moves before people have looked. What has a message on its way is left out.
CREATE FUNCTION find_matured(count integer)
RETURNS TABLE (operation_id uuid, payment_id uuid, merchant_id uuid, kind text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT due.id, due.payment_id, due.merchant_id, due.kind
    FROM (
        (
            SELECT o.id, o.payment_id, o.merchant_id, 'capture.mature' AS kind, o.matures_at AS due_at
            FROM operations AS o
            INNER JOIN payments AS p ON p.id = o.payment_id AND p.status <> 'review'
            WHERE o.matures_at <= clock_timestamp() AND NOT EXISTS (
                SELECT FROM outbox AS w WHERE w.operation_id = o.id AND w.type = 'capture.mature'
            )
            ORDER BY o.matures_at LIMIT count
        )
        UNION ALL
        (
            SELECT o.id, o.payment_id, o.merchant_id, 'reserve.release', o.releases_at
            FROM operations AS o
            INNER JOIN payments AS p ON p.id = o.payment_id AND p.status <> 'review'
            WHERE o.releases_at <= clock_timestamp() AND NOT EXISTS (
                SELECT FROM outbox AS w WHERE w.operation_id = o.id AND w.type = 'reserve.release'
            )
            ORDER BY o.releases_at LIMIT count
        )
    ) AS due
    ORDER BY due.due_at LIMIT count
$$;
REVOKE ALL ON FUNCTION find_matured(integer) FROM public;
GRANT EXECUTE ON FUNCTION find_matured(integer) TO paynode_gateway;

-- Makes a wallet what its ledger says, if it is not, with an audit row; whether it was not. An actor has the wallet in its
-- memory and may be right or wrong: the version that rises here makes it load again. The row is locked before the ledger
-- is read: whoever is writing both has committed them by then. It runs with its owner's rights: nobody who may call it may
-- write wallets.
CREATE FUNCTION rebuild_wallet(merchant uuid, currency_ text, actor text, note text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    before wallets;
    fold record;
BEGIN
    SELECT * INTO before FROM wallets AS w WHERE w.merchant_id = merchant AND w.currency = currency_ FOR UPDATE;
    IF NOT FOUND THEN RETURN false; END IF;
    SELECT
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:pending'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:pending'), 0) AS pending,
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:available'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:available'), 0) AS available,
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:reserve'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:reserve'), 0) AS reserve,
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:held'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:held'), 0) AS held
    INTO fold FROM ledger_entries WHERE merchant_id = merchant AND currency = currency_;
    IF (fold.pending, fold.available, fold.reserve, fold.held)
        = (before.pending, before.available, before.reserve, before.held) THEN
        RETURN false;
    END IF;
    UPDATE wallets AS w
    SET
        pending = fold.pending, available = fold.available, reserve = fold.reserve, held = fold.held,
        version = w.version + 1
    WHERE w.merchant_id = merchant AND w.currency = currency_;
    INSERT INTO audit_log (actor, action, subject, note, detail)
    VALUES (actor, 'wallet.rebuild', merchant::text, note, jsonb_build_object(
        'currency', currency_, 'before', to_jsonb(before), 'after', to_jsonb(fold)
    ));
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION rebuild_wallet(uuid, text, text, text) FROM public;
GRANT EXECUTE ON FUNCTION rebuild_wallet(uuid, text, text, text) TO paynode_gateway;

GRANT SELECT ON merchant_terms TO paynode_ingress, paynode_committer, paynode_reader;
GRANT SELECT, INSERT, UPDATE ON payouts TO paynode_committer;
GRANT SELECT ON payouts TO paynode_reader;
