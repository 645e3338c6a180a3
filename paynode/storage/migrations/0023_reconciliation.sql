-- migrate:up

-- One look at a part of the books: what it was made from, and what came of it. The same inputs give the same outcome.
CREATE TABLE reconciliation_runs (
    id uuid PRIMARY KEY,
    area text NOT NULL CHECK (area IN ('wallets', 'payments', 'settlement')),
    -- Whose report it was.
    psp text,
    -- From the beginning, or of a time that somebody chose; and not from where the last look had ended.
    is_full boolean NOT NULL DEFAULT false,
    inputs jsonb NOT NULL,
    outcome jsonb,
    checked bigint NOT NULL DEFAULT 0,
    repairs integer NOT NULL DEFAULT 0,
    -- Looks in a row, without pause, that all had this outcome.
    rounds integer NOT NULL DEFAULT 1 CHECK (rounds >= 1),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- NULL: under way, or broken off.
    ended_at timestamptz,
    CONSTRAINT reconciliation_runs_end_with_an_outcome CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CONSTRAINT reconciliation_runs_name_the_psp CHECK ((area = 'settlement') = (psp IS NOT NULL))
);

-- The last one of a kind.
CREATE INDEX reconciliation_runs_newest ON reconciliation_runs (area, ended_at DESC) WHERE ended_at IS NOT NULL;

-- One difference. Seen again it is the same one, and grows older.
CREATE TABLE reconciliation_breaks (
    id uuid PRIMARY KEY,
    area text NOT NULL,
    kind text NOT NULL,
    -- What it is about, among those of its kind: a wallet, an operation, a line of a report.
    subject text NOT NULL,
    merchant_id uuid,
    payment_id uuid,
    operation_id uuid,
    psp text,
    reference text,
    currency text,
    -- Minor units, with the sign of what is owed to us (settlement) or to the merchant (wallets): what our books say, ...
    expected bigint NOT NULL,
    -- ... and what was found.
    found bigint NOT NULL,
    drift bigint NOT NULL GENERATED ALWAYS AS (found - expected) STORED,
    -- How much money differs: two buckets of a wallet that differ by as much in opposite directions have no drift.
    size bigint NOT NULL CHECK (size >= 0),
    evidence jsonb NOT NULL,
    about_at timestamptz,
    first_run uuid NOT NULL,
    last_run uuid NOT NULL,
    first_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'repairing', 'repaired', 'dismissed', 'gone')),
    -- What is being done about it, or is proposed.
    repair jsonb,
    -- How often it was tried without a person.
    repairs integer NOT NULL DEFAULT 0,
    proposed_by text,
    proposed_at timestamptz,
    approved_by text,
    resolved_at timestamptz,
    CONSTRAINT reconciliation_breaks_size_holds_drift CHECK (size >= abs(found - expected)),
    CONSTRAINT reconciliation_breaks_two_people CHECK (
        approved_by IS NULL OR (proposed_by IS NOT NULL AND lower(approved_by) <> lower(proposed_by))
    ),
    CONSTRAINT reconciliation_breaks_dismissed_by_people CHECK (state <> 'dismissed' OR approved_by IS NOT NULL),
    CONSTRAINT reconciliation_breaks_resolved CHECK ((state IN ('open', 'repairing')) = (resolved_at IS NULL))
);

CREATE UNIQUE INDEX reconciliation_breaks_open ON reconciliation_breaks (kind, subject)
WHERE state IN ('open', 'repairing');
-- What people have decided about is not brought before them again.
CREATE INDEX reconciliation_breaks_decided ON reconciliation_breaks (kind, subject) WHERE approved_by IS NOT NULL;
-- A finding stays as it was; what becomes of it is written beside it.
CREATE TRIGGER reconciliation_breaks_no_truncate BEFORE TRUNCATE ON reconciliation_breaks
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Up to where a merchant's wallets were found to be the fold of its ledger, and what they were then. All rows of a
-- merchant have one seq. The seq of a merchant has no gap, and the head, the entries and the wallet are written by one
-- transaction: whatever a snapshot shows of the head, it shows all entries up to it, so that nothing commits behind it.
CREATE TABLE reconciliation_watermarks (
    merchant_id uuid NOT NULL,
    currency text NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 1),
    -- Of the entry with this number: the chain is verified from here on.
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    pending bigint NOT NULL,
    available bigint NOT NULL,
    reserve bigint NOT NULL,
    held bigint NOT NULL,
    PRIMARY KEY (merchant_id, currency)
);

-- The lines of PSPs' reports, as they were first told: what runs are made from.
CREATE TABLE settlement_lines (
    -- Made of psp, kind and reference: the same line in whichever report it stands.
    id uuid PRIMARY KEY,
    psp text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('charge', 'refund', 'reversal', 'fee')),
    reference text NOT NULL,
    our_reference text,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL,
    at timestamptz NOT NULL,
    run_id uuid NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What reports say about an operation, and about what a PSP calls by a name of its own.
CREATE INDEX settlement_lines_ours ON settlement_lines (our_reference) WHERE our_reference IS NOT NULL;
CREATE INDEX settlement_lines_reference ON settlement_lines (psp, reference);
CREATE TRIGGER settlement_lines_append_only BEFORE UPDATE OR DELETE ON settlement_lines
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER settlement_lines_no_truncate BEFORE TRUNCATE ON settlement_lines
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A merchant's ledger behind an entry, folded: what it says the wallets' buckets have changed by since.
CREATE FUNCTION fold_ledger(
    merchant uuid, behind bigint, OUT currency text, OUT pending bigint, OUT available bigint, OUT reserve bigint,
    OUT held bigint
) RETURNS SETOF record LANGUAGE sql STABLE AS $$
    SELECT
        e.currency,
        coalesce(sum(e.amount * e.sign) FILTER (WHERE e.account = 'merchant:pending'), 0)::bigint,
        coalesce(sum(e.amount * e.sign) FILTER (WHERE e.account = 'merchant:available'), 0)::bigint,
        coalesce(sum(e.amount * e.sign) FILTER (WHERE e.account = 'merchant:reserve'), 0)::bigint,
        coalesce(sum(e.amount * e.sign) FILTER (WHERE e.account = 'merchant:held'), 0)::bigint
    FROM (
        SELECT l.currency, l.amount, side.account, side.sign
        FROM ledger_entries AS l
        CROSS JOIN LATERAL (VALUES (l.credit_account, 1), (l.debit_account, -1)) AS side (account, sign)
        WHERE l.merchant_id = fold_ledger.merchant AND l.seq > fold_ledger.behind
    ) AS e
    GROUP BY e.currency
$$;

-- Whether an operation has not ended and nothing is on its way that would end it: no message about it, here or aside, and
-- no person who has been asked.
CREATE FUNCTION is_stuck(operation operations) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT operation.state IN ('new', 'pending', 'unknown')
        AND NOT EXISTS (SELECT FROM outbox AS m WHERE m.operation_id = operation.id)
        AND NOT EXISTS (SELECT FROM parked AS w WHERE w.payment_id = operation.payment_id)
        AND NOT EXISTS (
            SELECT FROM dead_letters AS d WHERE d.payment_id = operation.payment_id AND d.status = 'dead'
        )
        AND NOT EXISTS (
            SELECT FROM screenings AS s WHERE s.operation_id = operation.id AND s.verdict = 'held'
        )
$$;

-- Keeps what a run has found; says of each what state it is in. One about which people have decided, and that has not
-- changed since, is not opened again, and not returned.
CREATE FUNCTION note_breaks(run uuid, differences jsonb)
RETURNS TABLE (id uuid, kind text, subject text, state text)
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO reconciliation_breaks AS b (
        id, area, kind, subject, merchant_id, payment_id, operation_id, psp, reference, currency, expected, found, size,
        evidence, about_at, first_run, last_run, state
    )
    SELECT
        d.id, r.area, d.kind, d.subject, d.merchant_id, d.payment_id, d.operation_id, d.psp, d.reference, d.currency,
        d.expected, d.found, d.size, d.evidence, 'epoch'::timestamptz + d.at_ms * interval '1 millisecond', r.id, r.id,
        CASE WHEN d.is_repairing THEN 'repairing' ELSE 'open' END
    FROM jsonb_to_recordset(differences) AS d (
        id uuid, kind text, subject text, merchant_id uuid, payment_id uuid, operation_id uuid, psp text,
        reference text, currency text, expected bigint, found bigint, size bigint, evidence jsonb, at_ms bigint,
        is_repairing boolean
    )
    INNER JOIN reconciliation_runs AS r ON r.id = run
    WHERE NOT EXISTS (
        SELECT FROM reconciliation_breaks AS decided
        WHERE
            decided.kind = d.kind AND decided.subject = d.subject AND decided.approved_by IS NOT NULL
            AND decided.state NOT IN ('open', 'repairing')
            AND (decided.expected, decided.found) = (d.expected, d.found)
            AND decided.currency IS NOT DISTINCT FROM d.currency
    )
    -- In one order, because two runs may see the same.
    ORDER BY d.kind, d.subject
    ON CONFLICT (kind, subject) WHERE state IN ('open', 'repairing') DO UPDATE
    SET
        last_run = excluded.last_run, last_seen_at = clock_timestamp(), expected = excluded.expected,
        found = excluded.found, size = excluded.size, evidence = excluded.evidence,
        -- What was proposed was proposed about what was seen then.
        proposed_by = CASE WHEN b.approved_by IS NOT NULL OR b.drift = excluded.found - excluded.expected
            THEN b.proposed_by END,
        state = CASE
            -- What was sent has not arrived yet.
            WHEN b.approved_by IS NOT NULL
                OR EXISTS (SELECT FROM outbox AS o WHERE o.id = (b.repair ->> 'id')::uuid) THEN b.state
            ELSE excluded.state
        END
    RETURNING b.id, b.kind, b.subject, b.state
$$;

-- Ends a run. What it looked at and did not find again is over. A look without pause that came to the same as the one
-- before it is kept as one more round of that one: a quiet year is a few rows.
CREATE FUNCTION end_reconciliation(
    run uuid, made_from jsonb, result jsonb, looked_at bigint, mended integer
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    this reconciliation_runs;
    before reconciliation_runs;
BEGIN
    UPDATE reconciliation_runs AS r
    SET inputs = made_from, outcome = result, checked = looked_at, repairs = mended, ended_at = clock_timestamp()
    WHERE r.id = run AND r.ended_at IS NULL
    RETURNING r.* INTO this;
    IF this.id IS NULL THEN RETURN; END IF;
    -- By the time and not by the run: another one of the same kind may be under way. That a report was changed is not
    -- undone by a later one that has nothing of it.
    UPDATE reconciliation_breaks AS b
    SET
        state = CASE b.state WHEN 'repairing' THEN 'repaired' ELSE 'gone' END, resolved_at = clock_timestamp()
    WHERE b.state IN ('open', 'repairing') AND b.area = this.area AND (this.psp IS NULL OR b.psp = this.psp)
        AND b.kind <> 'report_changed' AND b.last_seen_at < this.started_at;
    -- What two people have decided stands in the ledger; the report says what it said.
    UPDATE reconciliation_breaks AS b SET state = 'repaired', resolved_at = clock_timestamp()
    WHERE b.state = 'repairing' AND b.approved_by IS NOT NULL AND EXISTS (
        SELECT FROM wallet_adjustments AS a
        WHERE a.operation_id = (b.repair ->> 'id')::uuid AND a.kind = 'adjustment'
    );
    IF this.area = 'settlement' OR this.is_full THEN RETURN; END IF;
    SELECT r.* INTO before FROM reconciliation_runs AS r
    WHERE r.area = this.area AND NOT r.is_full AND r.ended_at IS NOT NULL AND r.id <> this.id
    ORDER BY r.ended_at DESC LIMIT 1;
    IF before.outcome = this.outcome THEN
        UPDATE reconciliation_breaks AS b SET last_run = before.id WHERE b.last_run = this.id;
        UPDATE reconciliation_breaks AS b SET first_run = before.id WHERE b.first_run = this.id;
        DELETE FROM reconciliation_runs AS r WHERE r.id = this.id;
        UPDATE reconciliation_runs AS r
        SET rounds = r.rounds + 1, ended_at = this.ended_at, checked = this.checked, repairs = r.repairs + this.repairs,
            inputs = this.inputs
        WHERE r.id = before.id;
    END IF;
END $$;

-- Where looking goes on: for merchants of whom every wallet agreed. All wallets of a merchant are given, with the seq from
-- which was looked (0: from the beginning); a mark that was forgotten meanwhile is not gone on from.
CREATE FUNCTION advance_watermarks(marks jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO reconciliation_watermarks AS w (
        merchant_id, currency, seq, hash, pending, available, reserve, held
    )
    SELECT m.merchant_id, m.currency, m.seq, decode(m.hash, 'hex'), m.pending, m.available, m.reserve, m.held
    FROM jsonb_to_recordset(marks) AS m (
        merchant_id uuid, currency text, seq bigint, base_seq bigint, hash text, pending bigint, available bigint,
        reserve bigint, held bigint
    )
    WHERE m.base_seq = 0 OR EXISTS (
        SELECT FROM reconciliation_watermarks AS k WHERE k.merchant_id = m.merchant_id AND k.seq = m.base_seq
    )
    ORDER BY m.merchant_id, m.currency
    ON CONFLICT (merchant_id, currency) DO UPDATE
    SET seq = excluded.seq, hash = excluded.hash, pending = excluded.pending, available = excluded.available,
        reserve = excluded.reserve, held = excluded.held
    WHERE w.seq < excluded.seq
$$;

-- A ledger that says another thing than it did is looked at from its beginning until it agrees again.
CREATE FUNCTION forget_watermarks(merchants uuid []) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DELETE FROM reconciliation_watermarks WHERE merchant_id = ANY(merchants)
$$;

-- Has a wallet made what its ledger says (`rebuild_wallet`), which whoever calls this has verified. How much that is is
-- found out there and not told, so that whoever may call this can bring about nothing but what is right. Undone when the
-- adjustments say another thing than the ledger: then people must say which of them is wrong.
CREATE FUNCTION correct_wallet(difference uuid) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found reconciliation_breaks;
BEGIN
    SELECT * INTO found FROM reconciliation_breaks AS b WHERE b.id = difference FOR UPDATE;
    IF found.kind IS DISTINCT FROM 'wallet_differs' OR found.state <> 'open' OR found.proposed_by IS NOT NULL THEN
        RETURN false;
    END IF;
    BEGIN
        IF NOT rebuild_wallet(
            found.merchant_id, found.currency, 'reconciliation', 'the ledger verifies; break ' || difference
        ) THEN
            RETURN false;
        END IF;
        -- The wallet's row is locked by now: whoever was writing all three has committed.
        IF NOT EXISTS (
            SELECT
            FROM wallets AS w
            CROSS JOIN (
                SELECT
                    coalesce(sum(a.d_pending), 0) AS pending, coalesce(sum(a.d_available), 0) AS available,
                    coalesce(sum(a.d_reserve), 0) AS reserve, coalesce(sum(a.d_held), 0) AS held
                FROM wallet_adjustments AS a
                WHERE a.merchant_id = found.merchant_id AND a.currency = found.currency
            ) AS a
            WHERE w.merchant_id = found.merchant_id AND w.currency = found.currency
                AND (w.pending, w.available, w.reserve, w.held) = (a.pending, a.available, a.reserve, a.held)
        ) THEN
            RAISE EXCEPTION 'the adjustments say otherwise' USING ERRCODE = 'PN002';
        END IF;
    EXCEPTION WHEN SQLSTATE 'PN002' THEN
        RETURN false;
    END;
    UPDATE reconciliation_breaks AS b
    SET state = 'repaired', resolved_at = clock_timestamp(), repairs = b.repairs + 1,
        repair = jsonb_build_object('by', 'rebuild_wallet')
    WHERE b.id = difference;
    RETURN true;
END $$;

-- Puts an operation back on its way that nothing would have moved any more: its command anew, which sends nothing that
-- may have been sent before; a question to the PSP; or what the PSP has said that it did not do, which stands in the
-- attempt. Only while it is stuck, and three times at most.
CREATE FUNCTION mend_operation(difference uuid, event uuid, cure text, stream text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found reconciliation_breaks;
    mended operations;
BEGIN
    SELECT * INTO found FROM reconciliation_breaks AS b WHERE b.id = difference FOR UPDATE;
    IF found.kind IS DISTINCT FROM 'stuck' OR found.state <> 'open' OR found.repairs >= 3
        OR found.proposed_by IS NOT NULL THEN
        RETURN false;
    END IF;
    SELECT * INTO mended FROM operations AS o WHERE o.id = found.operation_id;
    IF NOT is_stuck(mended) THEN RETURN false; END IF;
    IF cure = 'psp.evidence' THEN
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        SELECT event, mend_operation.stream, cure, mended.merchant_id, mended.payment_id, mended.id, jsonb_build_object(
            'event_id', event, 'payment_id', mended.payment_id, 'operation_id', mended.id, 'outcome', a.outcome,
            'source', 'answer', 'reference', a.psp_reference, 'amount', NULL, 'currency', NULL, 'page_url', NULL,
            'reason', coalesce(a.reason, ''), 'psp_at_ms', NULL, 'fraud_check', NULL
        )
        FROM psp_attempts AS a
        WHERE a.operation_id = mended.id AND a.outcome IN ('declined', 'expired');
    ELSIF cure IN ('psp.submit', 'psp.inquire') THEN
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        VALUES (event, mend_operation.stream, cure, mended.merchant_id, mended.payment_id, mended.id, mended.request);
    END IF;
    IF NOT EXISTS (SELECT FROM outbox AS o WHERE o.id = event) THEN RETURN false; END IF;
    UPDATE reconciliation_breaks AS b
    SET state = 'repairing', repairs = b.repairs + 1, repair = jsonb_build_object('id', event, 'by', cure)
    WHERE b.id = difference;
    RETURN true;
END $$;

-- Keeps lines of a report and has those posted that are not yet: each by a message under the line's own id, which its
-- actor recognises. A line is kept and posted as it was first told: a PSP that changes its mind is people's business.
CREATE FUNCTION keep_settlement_lines(run uuid, lines jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO settlement_lines (id, psp, kind, reference, our_reference, amount, currency, at, run_id)
    SELECT l.id, l.psp, l.kind, l.reference, l.our_reference, l.amount, l.currency,
        'epoch'::timestamptz + l.at_ms * interval '1 millisecond', run
    FROM jsonb_to_recordset(lines) AS l (
        id uuid, psp text, kind text, reference text, our_reference text, amount bigint, currency text, at_ms bigint
    )
    ORDER BY l.id
    ON CONFLICT (id) DO NOTHING;

    INSERT INTO outbox (id, stream, type, merchant_id, payment_id, body)
    SELECT k.id, l.stream, 'settlement.line', l.merchant_id, l.payment_id, jsonb_build_object(
        'id', k.id, 'psp', k.psp, 'kind', k.kind, 'reference', k.reference, 'operation_id', l.operation_id,
        'payment_id', l.payment_id, 'amount', k.amount, 'currency', k.currency,
        'at_ms', (extract(EPOCH FROM k.at) * 1000)::bigint
    )
    FROM jsonb_to_recordset(lines) AS l (
        id uuid, stream text, merchant_id uuid, payment_id uuid, operation_id uuid
    )
    INNER JOIN settlement_lines AS k ON k.id = l.id
    WHERE NOT EXISTS (
        SELECT FROM wallet_adjustments AS a WHERE a.operation_id = k.id AND a.kind = 'settlement'
    )
    AND NOT EXISTS (SELECT FROM parked AS w WHERE w.id = k.id)
    AND NOT EXISTS (SELECT FROM dead_letters AS d WHERE d.row_id = k.id AND d.status = 'dead')
    ORDER BY k.at, k.id
    ON CONFLICT (id) DO NOTHING
$$;

-- Whether no report has a line for what an entry says that a PSP owes us, or is owed. A reversal has a name of its own in
-- reports, and captures may be paid out under the name of their authorization.
CREATE FUNCTION is_unreported(entry ledger_entries, psp text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT entry.type IN (
        'capture', 'surplus', 'refund', 'surplus_return', 'reversal', 'refund_reversal', 'surplus_return_reversal'
    )
    AND 'psp:' || psp || ':receivable' IN (entry.debit_account, entry.credit_account)
    AND NOT EXISTS (
        SELECT FROM settlement_lines AS l
        WHERE l.reference = entry.psp_reference AND l.psp = is_unreported.psp AND l.kind IN ('charge', 'refund')
            AND entry.type NOT LIKE '%reversal'
    )
    AND NOT EXISTS (
        SELECT FROM settlement_lines AS l
        WHERE l.our_reference = entry.operation_id::text AND l.psp = is_unreported.psp AND l.kind = 'reversal'
            AND entry.type LIKE '%reversal'
    )
    AND NOT EXISTS (
        SELECT FROM operations AS o
        INNER JOIN settlement_lines AS l ON l.our_reference = o.id::text
        WHERE o.payment_id = entry.payment_id AND o.kind = 'authorize' AND entry.type = 'capture'
            AND l.psp = is_unreported.psp AND l.kind = 'charge'
    )
$$;

-- Somebody says what should be done about a difference; nothing is, before somebody else agrees. `proposal` is an
-- adjustment {debit, credit, amount}, or {} to leave it as it is. Returns `done`, or why not.
CREATE FUNCTION propose_repair(difference uuid, proposal jsonb, actor text, note text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found reconciliation_breaks;
    accounts text := '^(psp:[a-z][a-z0-9_]{0,31}:receivable|suspense:[a-z][a-z0-9_]{0,31}|loss|bank|psp_fee_expense'
        || '|merchant:available)$';
BEGIN
    SELECT * INTO found FROM reconciliation_breaks AS b WHERE b.id = difference FOR UPDATE;
    IF found.id IS NULL THEN RETURN 'not_found'; END IF;
    IF found.state <> 'open' THEN RETURN 'not_open'; END IF;
    IF proposal <> '{}' THEN
        IF found.currency IS NULL OR found.size = 0 THEN RETURN 'no_money_differs'; END IF;
        IF coalesce(proposal ->> 'debit', '') !~ accounts OR coalesce(proposal ->> 'credit', '') !~ accounts
            OR proposal ->> 'debit' = proposal ->> 'credit' THEN
            RETURN 'account_refused';
        END IF;
        -- It repairs this difference and no more than that.
        IF (proposal ->> 'amount')::bigint NOT BETWEEN 1 AND found.size THEN RETURN 'amount_refused'; END IF;
        IF found.merchant_id IS NULL AND 'merchant:available' IN (proposal ->> 'debit', proposal ->> 'credit') THEN
            RETURN 'no_merchant';
        END IF;
    END IF;
    UPDATE reconciliation_breaks AS b
    SET proposed_by = actor, proposed_at = clock_timestamp(), repair = proposal
    WHERE b.id = difference;
    INSERT INTO audit_log (actor, action, subject, note, detail)
    VALUES (actor, 'reconciliation.propose', difference::text, note, proposal);
    RETURN 'done';
END $$;

-- Somebody else agrees, to exactly what was proposed: the posting is on its way, in one transaction with the audit row.
CREATE FUNCTION approve_repair(difference uuid, event uuid, stream text, house uuid, actor text, note text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found reconciliation_breaks;
    is_adjustment boolean;
BEGIN
    SELECT * INTO found FROM reconciliation_breaks AS b WHERE b.id = difference FOR UPDATE;
    IF found.id IS NULL THEN RETURN 'not_found'; END IF;
    IF found.state <> 'open' THEN RETURN 'not_open'; END IF;
    IF found.proposed_by IS NULL THEN RETURN 'nothing_proposed'; END IF;
    IF (found.repair ->> 'amount')::bigint > found.size THEN RETURN 'amount_refused'; END IF;
    IF lower(found.proposed_by) = lower(actor) THEN RETURN 'same_person'; END IF;
    is_adjustment := found.repair ? 'debit';
    UPDATE reconciliation_breaks AS b
    SET
        approved_by = actor, state = CASE WHEN is_adjustment THEN 'repairing' ELSE 'dismissed' END,
        resolved_at = CASE WHEN is_adjustment THEN NULL ELSE clock_timestamp() END,
        repair = found.repair || jsonb_build_object(
            'by', CASE WHEN is_adjustment THEN 'books.adjustment' ELSE 'dismissal' END, 'id', event
        )
    WHERE b.id = difference;
    IF is_adjustment THEN
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, body)
        VALUES (event, approve_repair.stream, 'books.adjustment', coalesce(found.merchant_id, house), found.payment_id,
            jsonb_build_object(
                'id', event, 'debit', found.repair -> 'debit', 'credit', found.repair -> 'credit',
                'amount', found.repair -> 'amount', 'currency', found.currency, 'payment_id', found.payment_id,
                'reference', coalesce(found.reference, '')
            ));
    END IF;
    INSERT INTO audit_log (actor, action, subject, note, detail)
    VALUES (actor, CASE WHEN is_adjustment THEN 'reconciliation.approve' ELSE 'reconciliation.dismiss' END,
        difference::text, note, found.repair || jsonb_build_object('id', event, 'proposed_by', found.proposed_by));
    RETURN 'done';
END $$;

-- Who may put messages on the road may not thereby move money: this kind comes from the function above alone, or again
-- from where it was kept aside.
CREATE FUNCTION refuse_bare_adjustment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_user IN ('paynode_ingress', 'paynode_gateway', 'paynode_committer', 'paynode_reader') THEN
        RAISE EXCEPTION '% is not for % to say', NEW.type, current_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER outbox_adjustments BEFORE INSERT OR UPDATE OF type, stream, merchant_id, body ON outbox
FOR EACH ROW WHEN (NEW.type = 'books.adjustment') EXECUTE FUNCTION refuse_bare_adjustment();

REVOKE ALL ON FUNCTION fold_ledger(uuid, bigint) FROM public;
REVOKE ALL ON FUNCTION is_stuck(operations) FROM public;
REVOKE ALL ON FUNCTION is_unreported(ledger_entries, text) FROM public;
REVOKE ALL ON FUNCTION note_breaks(uuid, jsonb) FROM public;
REVOKE ALL ON FUNCTION end_reconciliation(uuid, jsonb, jsonb, bigint, integer) FROM public;
REVOKE ALL ON FUNCTION advance_watermarks(jsonb) FROM public;
REVOKE ALL ON FUNCTION forget_watermarks(uuid []) FROM public;
REVOKE ALL ON FUNCTION correct_wallet(uuid) FROM public;
REVOKE ALL ON FUNCTION mend_operation(uuid, uuid, text, text) FROM public;
REVOKE ALL ON FUNCTION keep_settlement_lines(uuid, jsonb) FROM public;
REVOKE ALL ON FUNCTION propose_repair(uuid, jsonb, text, text) FROM public;
REVOKE ALL ON FUNCTION approve_repair(uuid, uuid, text, uuid, text, text) FROM public;

-- Looking is the reader's; what is written, is written by these functions, which the scheduler calls: it logs in as the
-- gateway, and sees nothing of the books.
GRANT SELECT ON reconciliation_runs, reconciliation_breaks, reconciliation_watermarks, settlement_lines
TO paynode_reader;
GRANT EXECUTE ON FUNCTION fold_ledger(uuid, bigint), is_stuck(operations), is_unreported(ledger_entries, text)
TO paynode_reader;
GRANT INSERT ON reconciliation_runs TO paynode_gateway;
GRANT EXECUTE ON FUNCTION note_breaks(uuid, jsonb), end_reconciliation(uuid, jsonb, jsonb, bigint, integer), advance_watermarks(jsonb),
forget_watermarks(uuid []), correct_wallet(uuid), mend_operation(uuid, uuid, text, text),
keep_settlement_lines(uuid, jsonb), propose_repair(uuid, jsonb, text, text),
approve_repair(uuid, uuid, text, uuid, text, text) TO paynode_gateway;
