-- migrate:up

-- What a statement has touched is compared with what it was to touch: it was decided upon rows as they were read, and one
-- that is missing, or has another version by now, makes the whole batch void.
CREATE FUNCTION must_touch(what text, wanted integer, touched bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF touched <> wanted THEN
        RAISE EXCEPTION '%: % rows, not %', what, touched, wanted USING ERRCODE = 'serialization_failure';
    END IF;
END
$$;

-- A batch of effects, whole or not at all: all that the committer writes of money, in one statement, so that a small batch
-- costs one round trip, its COMMIT included. `batch` has a list of rows under each name below, and leaves out what is
-- empty. Of a large batch the lines of the ledger are copied before, in the same transaction, and are left out here.
-- Raises: PN001 with the partitions whose leases are not ours any more; serialization_failure; what a CHECK refuses.
CREATE FUNCTION write_batch(batch jsonb) RETURNS void
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    lost text;
    touched bigint;
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

    -- Deleting the row is the claim of its effect. Fewer rows than asked: somebody else had the effect.
    IF batch ? 'claims' THEN
        DELETE FROM outbox AS o
        WHERE o.id = ANY(ARRAY(SELECT jsonb_array_elements_text(batch -> 'claims')::uuid));
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('claims', jsonb_array_length(batch -> 'claims'), touched);
    END IF;

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
            END
        FROM jsonb_to_recordset(batch -> 'operations') AS c (
            operation_id uuid, state text, psp text, psp_reference text
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
        WHERE w.merchant_id = c.merchant_id AND w.currency = c.currency AND w.version = c.base_version;
        GET DIAGNOSTICS touched = ROW_COUNT;
        PERFORM must_touch('wallets', jsonb_array_length(batch -> 'wallets'), touched);
    END IF;

    -- A merchant's first money in a currency. A row that exists after all is a unique violation: a conflict.
    IF batch ? 'new_wallets' THEN
        INSERT INTO wallets (merchant_id, currency, pending, available, reserve, held, version)
        SELECT c.merchant_id, c.currency, c.pending, c.available, c.reserve, c.held, c.version
        FROM jsonb_to_recordset(batch -> 'new_wallets') AS c (
            merchant_id uuid, currency text, pending bigint, available bigint, reserve bigint, held bigint,
            version bigint
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

REVOKE ALL ON FUNCTION must_touch(text, integer, bigint) FROM public;
REVOKE ALL ON FUNCTION write_batch(jsonb) FROM public;
GRANT EXECUTE ON FUNCTION must_touch(text, integer, bigint), write_batch(jsonb) TO paynode_committer;
