-- migrate:up

-- The last request that asked a late rejected charge's money back. By its id, not by its reason: that word a merchant may
-- write too.
ALTER TABLE screenings ADD COLUMN giving_back uuid;

-- How the money of a charge is given back: `refund` what is captured, `void` the rest of an authorization. `none`: nothing
-- came of it, or it was asked for and decided for good. NULL: nobody can say yet, or the actor would refuse it at this
-- moment. What it did refuse for a moment only is asked for again.
CREATE OR REPLACE FUNCTION way_of_giving_back(charge uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT CASE
        WHEN EXISTS (
            SELECT FROM screenings AS s
            INNER JOIN requests AS r ON r.id = s.giving_back
            WHERE s.operation_id = o.id AND r.decided_at IS NOT NULL AND coalesce(r.refusal, '') NOT IN (
                'operation_in_flight', 'operation_outcome_unknown', 'payment_changed'
            )
        ) THEN 'none'
        WHEN o.state IN ('new', 'pending', 'unknown', 'review') THEN NULL
        WHEN o.state <> 'approved' THEN 'none'
        WHEN EXISTS (
            SELECT FROM operations AS other
            WHERE other.payment_id = p.id AND other.state IN ('new', 'pending', 'unknown', 'review')
        ) OR EXISTS (
            SELECT FROM requests AS r WHERE r.payment_id = p.id AND r.decided_at IS NULL
        ) OR (p.reverse_at IS NOT NULL AND p.kept_at IS NULL AND p.reversed_at IS NULL) THEN NULL
        WHEN p.amount_captured > 0 THEN 'refund'
        ELSE 'void'
    END
    FROM operations AS o
    INNER JOIN payments AS p ON p.id = o.payment_id
    WHERE o.id = charge
$$;

-- A verdict that comes later: the check's own, or a person's (`by_whom`). In one transaction the screening is settled and
-- what follows is on its way: a held charge's command anew, which finds the verdict and is sent, within `allowance_s`
-- seconds from now, or declined; the end of one that is not wanted any more (`event`, as above); or, for one that went
-- unscreened and should not have, `event` with `marker` (evidence, which moves no money) and an audit row, for people,
-- and, if `giving_back` is not NULL, a request with that id to give the money back, once it is known how. Such a charge
-- stays owed until that request is decided for good; what the check says of it meanwhile changes nothing. `stream` is the
-- partition's. Returns the words of `Settled`.
CREATE OR REPLACE FUNCTION settle_screening(
    operation uuid, opinion text, why text, by_whom text, note text, allowance_s double precision, command uuid,
    event uuid, stream text, marker jsonb, giving_back uuid
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found screenings;
    charge operations;
    wanted boolean;
    latest timestamptz;
    back text;
    result text;
BEGIN
    SELECT * INTO found FROM screenings WHERE operation_id = settle_screening.operation FOR UPDATE;
    -- The check settles what it owes, people what is held, and each once.
    IF found.operation_id IS NULL OR NOT (CASE WHEN by_whom IS NULL THEN found.is_owed ELSE found.verdict = 'held' END)
    THEN
        RETURN 'known';
    END IF;
    SELECT * INTO charge FROM operations WHERE id = settle_screening.operation;
    -- Its order may have been paid otherwise, and nobody may be waiting at the till any more.
    SELECT charge.state = 'new' AND p.given_up_at IS NULL AND p.reversed_at IS NULL, p.reverse_at INTO wanted, latest
    FROM payments AS p WHERE p.id = charge.payment_id;
    result := CASE
        -- It was marked before: only its money is owed.
        WHEN found.verdict = 'bypassed' AND found.settled_at IS NOT NULL THEN 'known'
        WHEN found.verdict = 'bypassed' AND settle_screening.opinion = 'pass' THEN 'confirmed'
        WHEN found.verdict = 'bypassed' THEN 'marked'
        WHEN settle_screening.opinion = 'review' THEN 'kept'
        WHEN wanted IS NOT TRUE THEN 'closed'
        WHEN settle_screening.opinion = 'pass' THEN 'released'
        ELSE 'refused'
    END;
    IF giving_back IS NOT NULL AND (result = 'known' OR (result = 'marked' AND settle_screening.opinion = 'reject')) THEN
        back := way_of_giving_back(charge.id);
        IF back IS NULL THEN
            UPDATE screenings AS s SET tries = s.tries + 1 WHERE s.operation_id = settle_screening.operation;
            RETURN 'deferred';
        END IF;
    END IF;
    IF result = 'known' THEN
        UPDATE screenings AS s SET is_owed = false WHERE s.operation_id = settle_screening.operation;
    ELSE
        UPDATE screenings AS s
        SET
            is_owed = false, settled_at = clock_timestamp(), settled_by = coalesce(by_whom, 'fraud-check'),
            opinion = settle_screening.opinion, opinion_reason = why,
            verdict = CASE result WHEN 'released' THEN 'passed' WHEN 'refused' THEN 'rejected' ELSE s.verdict END
        WHERE s.operation_id = settle_screening.operation;
    END IF;
    IF result = 'released' THEN
        -- It had no time while it was held, and has it now; but nobody waits at a till for longer.
        UPDATE operations AS o
        SET request = jsonb_set(o.request, '{give_up_at_ms}', to_jsonb(floor(extract(
            EPOCH FROM least(clock_timestamp() + allowance_s * interval '1 second', latest)
        ) * 1000)::bigint))
        WHERE o.id = charge.id
        RETURNING o.* INTO charge;
    END IF;
    IF result IN ('released', 'refused') THEN
        -- Of commands to send it there is one at a time: each that ends unsent brings the next. The one by which it was
        -- held may be there still, its gateway dead: it goes, and whoever has it in hand finds it gone at the claim.
        -- Locked before attempts are looked at, so that none is claimed by it meanwhile.
        PERFORM FROM outbox AS o WHERE o.operation_id = charge.id AND o.type = 'psp.submit' FOR UPDATE;
        -- But for one that may have been sent, before the check was switched on: it stays, and brings what came of it.
        DELETE FROM outbox AS o
        WHERE o.operation_id = charge.id AND o.type = 'psp.submit' AND NOT EXISTS (
            SELECT FROM psp_attempts AS a
            WHERE a.operation_id = charge.id AND a.outcome IS DISTINCT FROM 'not_sent'
        );
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        SELECT command, 'paynode:{psp-' || charge.psp || '}:commands', 'psp.submit', charge.merchant_id,
            charge.payment_id, charge.id, charge.request
        WHERE NOT EXISTS (
            SELECT FROM outbox AS o WHERE o.operation_id = charge.id AND o.type = 'psp.submit'
        );
    ELSIF result = 'closed' THEN
        PERFORM end_held_charge(
            charge.id, event, settle_screening.stream, CASE WHEN by_whom IS NULL THEN 'inquiry' ELSE 'operator' END
        );
    ELSIF result = 'marked' AND settle_screening.opinion = 'reject' THEN
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        VALUES (event, settle_screening.stream, 'psp.evidence', found.merchant_id, found.payment_id,
            found.operation_id, marker);
    END IF;
    IF back IN ('refund', 'void') THEN
        INSERT INTO requests (id, payment_id, merchant_id, kind, reason)
        VALUES (settle_screening.giving_back, found.payment_id, found.merchant_id, back, 'fraud_rejected_late');
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, body)
        VALUES (settle_screening.giving_back, settle_screening.stream, 'payment.request', found.merchant_id,
            found.payment_id, jsonb_build_object(
                'id', settle_screening.giving_back, 'payment_id', found.payment_id, 'kind', back, 'amount', NULL,
                'is_final', false, 'reason', 'fraud_rejected_late', 'expected_version', NULL
            ));
        -- It may be refused, because something was under way that had come first.
        UPDATE screenings AS s
        SET is_owed = true, tries = s.tries + 1, giving_back = settle_screening.giving_back
        WHERE s.operation_id = settle_screening.operation;
    END IF;
    IF result = 'marked' OR by_whom IS NOT NULL THEN
        INSERT INTO audit_log (actor, action, subject, note, detail)
        VALUES (coalesce(by_whom, 'fraud-check'), 'screening.' || result, found.payment_id::text, note,
            jsonb_build_object('operation_id', found.operation_id, 'opinion', settle_screening.opinion, 'reason', why,
                'amount', found.amount, 'currency', found.currency));
    END IF;
    RETURN CASE WHEN result = 'known' AND back IN ('refund', 'void') THEN 'deferred' ELSE result END;
END $$;
