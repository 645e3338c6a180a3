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

-- A verdict that comes later: the check's own, or a person's (`by_whom`). In one transaction the screening is settled and
-- what follows is on its way: a held charge's command once more, which finds the verdict and is sent or declined; or, for
-- one that went unscreened and should not have, `marker` (evidence, which moves no money) and an audit row, for people,
-- and, if `giving_back` is not NULL, a request with that id to give the money back. Returns the words of `Settled`.
CREATE FUNCTION settle_screening(
    operation uuid, opinion text, why text, by_whom text, note text, command uuid,
    marker uuid, marker_stream text, marker_body jsonb, giving_back uuid
) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found screenings;
    charge operations;
    wanted boolean;
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
    SELECT charge.state = 'new' AND p.given_up_at IS NULL AND p.reversed_at IS NULL INTO wanted
    FROM payments AS p WHERE p.id = charge.payment_id;
    result := CASE
        WHEN found.verdict = 'bypassed' AND settle_screening.opinion = 'pass' THEN 'confirmed'
        WHEN found.verdict = 'bypassed' THEN 'marked'
        WHEN settle_screening.opinion = 'review' THEN 'kept'
        WHEN wanted IS NOT TRUE THEN 'closed'
        WHEN settle_screening.opinion = 'pass' THEN 'released'
        ELSE 'refused'
    END;
    UPDATE screenings AS s
    SET
        is_owed = false, settled_at = clock_timestamp(), settled_by = coalesce(by_whom, 'fraud-check'),
        opinion = settle_screening.opinion, opinion_reason = why,
        verdict = CASE result WHEN 'released' THEN 'passed' WHEN 'refused' THEN 'rejected' ELSE s.verdict END
    WHERE s.operation_id = settle_screening.operation;
    IF result IN ('released', 'refused') THEN
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        VALUES (command, 'paynode:{psp-' || charge.psp || '}:commands', 'psp.submit', charge.merchant_id,
            charge.payment_id, charge.id, charge.request);
    ELSIF result = 'marked' AND settle_screening.opinion = 'reject' THEN
        INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
        VALUES (marker, marker_stream, 'psp.evidence', found.merchant_id, found.payment_id, found.operation_id,
            marker_body);
        IF giving_back IS NOT NULL THEN
            back := CASE found.kind WHEN 'sale' THEN 'refund' ELSE 'void' END;
            INSERT INTO requests (id, payment_id, merchant_id, kind, reason)
            VALUES (giving_back, found.payment_id, found.merchant_id, back, 'fraud_rejected_late');
            INSERT INTO outbox (id, stream, type, merchant_id, payment_id, body)
            VALUES (giving_back, marker_stream, 'payment.request', found.merchant_id, found.payment_id,
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
REVOKE ALL ON FUNCTION settle_screening(uuid, text, text, text, text, uuid, uuid, text, jsonb, uuid) FROM public;

GRANT SELECT, INSERT ON screenings TO paynode_gateway;
GRANT UPDATE (tries) ON screenings TO paynode_gateway;
GRANT SELECT, INSERT, UPDATE ON fraud_exposure TO paynode_gateway;
GRANT EXECUTE ON FUNCTION customer_digest(uuid, text),
settle_screening(uuid, text, text, text, text, uuid, uuid, text, jsonb, uuid) TO paynode_gateway;
GRANT SELECT ON screenings, fraud_exposure TO paynode_reader;
