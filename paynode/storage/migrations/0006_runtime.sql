-- migrate:up

-- Publishers and their keys: the secret signs, so that it must be known as it is.
CREATE TABLE publishers (
    name text PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_-]{0,63}$'),
    secret bytea NOT NULL CHECK (octet_length(secret) >= 32),
    types text[] NOT NULL CHECK (cardinality(types) > 0),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);

-- Every event of an outside publisher that was applied, refused or dead-lettered, for ever: how it is recognised.
CREATE TABLE applied_events (
    event_id uuid PRIMARY KEY,
    content_sha256 bytea NOT NULL CHECK (octet_length(content_sha256) = 32),
    -- The JSON text as it was signed: the stream forgets it.
    content text NOT NULL,
    merchant_id uuid NOT NULL,
    publisher text NOT NULL,
    type text NOT NULL,
    result text NOT NULL CHECK (result IN ('applied', 'refused', 'dead_letter')),
    -- Why it was refused.
    code text,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Messages that somebody died over, or that fail while others succeed: how often, counted before each try.
-- `entry` is the outbox row that a pointer leads to, else the stream entry.
CREATE TABLE suspects (
    stream text NOT NULL,
    entry text NOT NULL,
    attempts integer NOT NULL CHECK (attempts >= 1),
    first_failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_tried_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (stream, entry)
);

-- Outbox rows about a payment behind whose dead letter they wait; in their order.
CREATE TABLE parked (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id uuid NOT NULL UNIQUE,
    stream text NOT NULL,
    type text NOT NULL,
    merchant_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    operation_id uuid,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX parked_payment ON parked (payment_id);

-- What people did, and why. Append-only.
CREATE TABLE audit_log (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL CHECK (actor <> ''),
    action text NOT NULL,
    subject text NOT NULL,
    note text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}'
);
-- What was done to one dead letter, one payment, one merchant.
CREATE INDEX audit_log_subject ON audit_log (subject);
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE ON audit_log
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_log_no_truncate BEFORE TRUNCATE ON audit_log
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Puts what waits behind a payment's dead letters back on the road, in order, once none of them is open any more.
CREATE FUNCTION release_parked(payment uuid) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    released integer;
BEGIN
    IF payment IS NULL OR EXISTS (
        SELECT FROM dead_letters WHERE payment_id = payment AND status = 'dead' AND type = 'psp.evidence'
    ) THEN
        RETURN 0;
    END IF;
    WITH freed AS (
        DELETE FROM parked WHERE payment_id = payment RETURNING *
    )
    INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, created_at, available_at)
    SELECT id, stream, type, merchant_id, payment_id, operation_id, body, created_at,
        clock_timestamp() + row_number() OVER (ORDER BY seq) * interval '1 microsecond'
    FROM freed;
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END $$;

-- A row that was parked while its dead letter was being resolved has nobody to wait for.
CREATE FUNCTION release_stranded() RETURNS integer LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT coalesce(sum(release_parked(payment_id)), 0)::integer FROM (SELECT DISTINCT payment_id FROM parked) AS waiting
$$;

-- The operator's two verbs, each with its audit row, in one transaction. They run with their owner's rights: nobody who
-- may call them needs any on the tables, and none can be used without being seen. They return `done`, or why not:
-- `not_found`, `resolved_already`, `nothing_to_requeue`, `evidence_of_money`, `operation_open`.
CREATE FUNCTION requeue_dead_letter(letter uuid, actor text, note text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found dead_letters;
    released integer;
BEGIN
    SELECT * INTO found FROM dead_letters WHERE id = letter FOR UPDATE;
    IF found.id IS NULL THEN RETURN 'not_found'; END IF;
    IF found.status <> 'dead' THEN RETURN 'resolved_already'; END IF;
    IF found.message IS NULL THEN RETURN 'nothing_to_requeue'; END IF;
    UPDATE dead_letters SET status = 'requeued', resolved_at = clock_timestamp(), resolved_by = actor
    WHERE id = letter;
    -- By content too: of a letter about a reused id, the verdict is another event's.
    DELETE FROM applied_events
    WHERE event_id = found.event_id AND result = 'dead_letter'
        AND content_sha256 = sha256(convert_to(found.fields ->> 'event', 'UTF8'));
    DELETE FROM suspects WHERE stream = found.stream AND entry IN (found.row_id::text, found.entry_id);
    INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
    SELECT m.id, m.stream, m.type, m.merchant_id, m.payment_id, m.operation_id, m.body
    FROM jsonb_populate_record(NULL::outbox, found.message) AS m;
    released := release_parked(found.payment_id);
    INSERT INTO audit_log (actor, action, subject, note, detail)
    VALUES (actor, 'dead_letter.requeue', letter::text, note,
        jsonb_build_object('reason', found.reason, 'released', released));
    RETURN 'done';
END $$;

CREATE FUNCTION discard_dead_letter(letter uuid, actor text, note text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    found dead_letters;
    released integer;
BEGIN
    SELECT * INTO found FROM dead_letters WHERE id = letter FOR UPDATE;
    IF found.id IS NULL THEN RETURN 'not_found'; END IF;
    IF found.status <> 'dead' THEN RETURN 'resolved_already'; END IF;
    -- What may say that money moved is not thrown away: it is mended and requeued.
    IF found.type = 'psp.evidence' AND found.payment_id IS NOT NULL
        AND coalesce(found.message -> 'body' ->> 'outcome', '')
        NOT IN ('declined', 'expired', 'pending', 'not_sent', 'unknown') THEN
        RETURN 'evidence_of_money';
    END IF;
    -- Without its command, or the evidence that brings the next one, an open operation would never end, and keep its
    -- order's slot.
    IF found.type IN ('psp.submit', 'psp.inquire', 'psp.evidence') AND EXISTS (
        SELECT FROM operations
        WHERE id = (found.message ->> 'operation_id')::uuid AND state IN ('new', 'pending', 'unknown', 'review')
    ) THEN
        RETURN 'operation_open';
    END IF;
    -- Whoever asked, and every retry of his, waits until it is decided; a point of sale's capture or void comes only by it.
    IF found.type = 'payment.request' AND EXISTS (
        SELECT FROM requests WHERE id = (found.message ->> 'id')::uuid AND decided_at IS NULL
    ) THEN
        RETURN 'operation_open';
    END IF;
    UPDATE dead_letters SET status = 'discarded', resolved_at = clock_timestamp(), resolved_by = actor
    WHERE id = letter;
    DELETE FROM suspects WHERE stream = found.stream AND entry IN (found.row_id::text, found.entry_id);
    released := release_parked(found.payment_id);
    INSERT INTO audit_log (actor, action, subject, note, detail)
    VALUES (actor, 'dead_letter.discard', letter::text, note,
        jsonb_build_object('reason', found.reason, 'released', released));
    RETURN 'done';
END $$;

REVOKE ALL ON FUNCTION release_parked(uuid) FROM public;
REVOKE ALL ON FUNCTION release_stranded() FROM public;
REVOKE ALL ON FUNCTION requeue_dead_letter(uuid, text, text) FROM public;
REVOKE ALL ON FUNCTION discard_dead_letter(uuid, text, text) FROM public;

-- The committer decides what dies or waits; it counts suspects and remembers outside events.
GRANT SELECT ON publishers, audit_log TO paynode_committer;
GRANT SELECT, INSERT ON applied_events, parked TO paynode_committer;
GRANT SELECT, INSERT, UPDATE, DELETE ON suspects TO paynode_committer, paynode_gateway;
-- The gateway buries commands, and the scheduler, which logs in as it, does what operators ask for.
GRANT SELECT, INSERT ON dead_letters TO paynode_gateway;
GRANT EXECUTE ON FUNCTION requeue_dead_letter(uuid, text, text), discard_dead_letter(uuid, text, text),
release_stranded() TO paynode_gateway;
GRANT SELECT ON applied_events, parked, suspects, audit_log TO paynode_reader;
GRANT SELECT (name, types, created_at, revoked_at) ON publishers TO paynode_reader;
