-- migrate:up

-- What the fraud check said of an operation before it was sent for the first time. The first verdict counts: whoever is
-- brought the operation again reads it here, and asks and counts nothing. Only `held` becomes something else.
CREATE TABLE screenings (
    operation_id uuid PRIMARY KEY,
    payment_id uuid NOT NULL,
    merchant_id uuid NOT NULL,
    -- What was asked, so that it can be asked again.
    kind text NOT NULL CHECK (kind IN ('sale', 'authorize')),
    method text NOT NULL,
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- A salted digest of the customer's e-mail address.
    customer text,
    verdict text NOT NULL CHECK (verdict IN ('passed', 'bypassed', 'rejected', 'held')),
    reason text NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The check was out and has to be asked again; how often that was in vain.
    is_owed boolean NOT NULL,
    tries integer NOT NULL DEFAULT 0 CHECK (tries >= 0),
    -- What was said later, by the check or by a person.
    settled_at timestamptz,
    settled_by text,
    opinion text CHECK (opinion IN ('pass', 'reject', 'review')),
    opinion_reason text,
    CONSTRAINT screenings_settled_whole CHECK (
        (settled_at IS NULL) = (settled_by IS NULL) AND (settled_at IS NULL) = (opinion IS NULL)
    ),
    CONSTRAINT screenings_bypassed_is_asked_again CHECK (verdict <> 'bypassed' OR is_owed OR settled_at IS NOT NULL)
);
CREATE INDEX screenings_owed ON screenings (tries, at) WHERE is_owed;
CREATE INDEX screenings_held ON screenings (at) WHERE verdict = 'held';
CREATE INDEX screenings_marked ON screenings (settled_at) WHERE verdict = 'bypassed' AND opinion IN ('reject', 'review');
CREATE INDEX screenings_payment ON screenings (payment_id);

-- What has passed unscreened, by merchant, currency and hour of the clock, with the cap under which it was counted last.
CREATE TABLE fraud_exposure (
    merchant_id uuid NOT NULL,
    currency text NOT NULL,
    hour timestamptz NOT NULL,
    amount bigint NOT NULL CHECK (amount >= 1),
    payments integer NOT NULL CHECK (payments >= 1),
    cap bigint NOT NULL,
    PRIMARY KEY (merchant_id, currency, hour),
    -- The statement that counts sees to it; here it is looked at once more.
    CONSTRAINT fraud_exposure_within_cap CHECK (amount <= cap)
);

-- All that leaves the house about a customer: who asks for it never sees the address.
CREATE FUNCTION customer_digest(payment uuid, salt text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT encode(sha256(convert_to(salt || ':' || lower(customer ->> 'email'), 'UTF8')), 'hex')
    FROM payments
    WHERE id = payment AND salt <> ''
$$;

-- The end of a held charge that nobody wants any more: evidence that it was never sent. While it is held nothing can have
-- been, but for an attempt from before the check was switched on. The caller has locked the screening, so that nobody lets
-- it go meanwhile.
CREATE FUNCTION end_held_charge(operation uuid, event uuid, stream text, source text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
    SELECT event, end_held_charge.stream, 'psp.evidence', o.merchant_id, o.payment_id, o.id, jsonb_build_object(
        'event_id', event, 'payment_id', o.payment_id, 'operation_id', o.id, 'outcome', 'not_sent',
        'source', end_held_charge.source, 'reference', NULL, 'amount', NULL, 'currency', NULL, 'page_url', NULL,
        'reason', 'payment_deadline', 'psp_at_ms', NULL, 'fraud_check', NULL
    )
    FROM operations AS o
    WHERE o.id = end_held_charge.operation AND o.state = 'new' AND NOT EXISTS (
        SELECT FROM psp_attempts AS a WHERE a.operation_id = o.id AND a.outcome IS DISTINCT FROM 'not_sent'
    )
$$;

-- How the money of a charge is given back: `refund` what is captured, `void` the rest of an authorization. `none`: nothing
-- came of it. NULL: nobody can say yet, or the actor would refuse it at this moment.
CREATE FUNCTION way_of_giving_back(charge uuid) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT CASE
        WHEN o.state IN ('new', 'pending', 'unknown') THEN NULL
        WHEN o.state <> 'approved' THEN 'none'
        WHEN EXISTS (
            SELECT FROM operations AS other
            WHERE other.payment_id = p.id AND other.state IN ('new', 'pending', 'unknown')
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
-- what follows is on its way: a held charge's command once more, which finds the verdict and is sent, within `allowance_s`
-- seconds from now, or declined; the end of one that is not wanted any more (`event`, as above); or, for one that went
-- unscreened and should not have, `event` with `marker` (evidence, which moves no money) and an audit row, for people,
-- and, if `giving_back` is not NULL, a request with that id to give the money back, once it is known how. `stream` is the
-- partition's. Returns the words of `Settled`.
CREATE FUNCTION settle_screening(
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
        WHEN found.verdict = 'bypassed' AND settle_screening.opinion = 'pass' THEN 'confirmed'
        WHEN found.verdict = 'bypassed' THEN 'marked'
        WHEN settle_screening.opinion = 'review' THEN 'kept'
        WHEN wanted IS NOT TRUE THEN 'closed'
        WHEN settle_screening.opinion = 'pass' THEN 'released'
        ELSE 'refused'
    END;
    IF result = 'marked' AND settle_screening.opinion = 'reject' AND giving_back IS NOT NULL THEN
        back := way_of_giving_back(charge.id);
        IF back IS NULL THEN
            UPDATE screenings AS s SET tries = s.tries + 1 WHERE s.operation_id = settle_screening.operation;
            RETURN 'deferred';
        END IF;
    END IF;
    UPDATE screenings AS s
    SET
        is_owed = false, settled_at = clock_timestamp(), settled_by = coalesce(by_whom, 'fraud-check'),
        opinion = settle_screening.opinion, opinion_reason = why,
        verdict = CASE result WHEN 'released' THEN 'passed' WHEN 'refused' THEN 'rejected' ELSE s.verdict END
    WHERE s.operation_id = settle_screening.operation;
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
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        VALUES (command, 'paynode:{psp-' || charge.psp || '}:commands', 'psp.submit', charge.merchant_id,
            charge.payment_id, charge.id, charge.request);
    ELSIF result = 'closed' THEN
        PERFORM end_held_charge(
            charge.id, event, settle_screening.stream, CASE WHEN by_whom IS NULL THEN 'inquiry' ELSE 'operator' END
        );
    ELSIF result = 'marked' AND settle_screening.opinion = 'reject' THEN
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        VALUES (event, settle_screening.stream, 'psp.evidence', found.merchant_id, found.payment_id,
            found.operation_id, marker);
        IF back IN ('refund', 'void') THEN
            INSERT INTO requests (id, payment_id, merchant_id, kind, reason)
            VALUES (giving_back, found.payment_id, found.merchant_id, back, 'fraud_rejected_late');
            INSERT INTO outbox (id, stream, type, merchant_id, payment_id, body)
            VALUES (giving_back, settle_screening.stream, 'payment.request', found.merchant_id, found.payment_id,
                jsonb_build_object(
                    'id', giving_back, 'payment_id', found.payment_id, 'kind', back, 'amount', NULL, 'is_final', false,
                    'reason', 'fraud_rejected_late', 'expected_version', NULL
                ));
        END IF;
    END IF;
    IF result = 'marked' OR by_whom IS NOT NULL THEN
        INSERT INTO audit_log (actor, action, subject, note, detail)
        VALUES (coalesce(by_whom, 'fraud-check'), 'screening.' || result, found.payment_id::text, note,
            jsonb_build_object('operation_id', found.operation_id, 'opinion', settle_screening.opinion, 'reason', why,
                'amount', found.amount, 'currency', found.currency));
    END IF;
    RETURN result;
END $$;

REVOKE ALL ON FUNCTION customer_digest(uuid, text) FROM public;
REVOKE ALL ON FUNCTION end_held_charge(uuid, uuid, text, text) FROM public;
REVOKE ALL ON FUNCTION way_of_giving_back(uuid) FROM public;
REVOKE ALL ON FUNCTION settle_screening(
    uuid, text, text, text, text, double precision, uuid, uuid, text, jsonb, uuid
) FROM public;

GRANT SELECT, INSERT ON screenings TO paynode_gateway;
GRANT UPDATE (tries) ON screenings TO paynode_gateway;
GRANT SELECT, INSERT, UPDATE ON fraud_exposure TO paynode_gateway;
GRANT EXECUTE ON FUNCTION customer_digest(uuid, text),
settle_screening(uuid, text, text, text, text, double precision, uuid, uuid, text, jsonb, uuid) TO paynode_gateway;
GRANT SELECT ON screenings, fraud_exposure TO paynode_reader;
