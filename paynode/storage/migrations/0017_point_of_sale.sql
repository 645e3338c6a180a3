-- migrate:up

-- As in 0012, but for two things. The payment's row is locked before anything is compared with the clock; and what was
-- given up is not kept: its authorization is being voided, whatever its status says meanwhile.
CREATE OR REPLACE FUNCTION decide_pos(
    payment uuid, wants_keep boolean, seen_version bigint, marked_at timestamptz, event uuid, request uuid,
    stream text, OUT verdict text, OUT is_new boolean, OUT left_s double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    marked payments;
    held uuid;
    follows text;
BEGIN
    -- Waited for before the clock is read. An update that waits reads it again only when the other transaction has
    -- committed: after one that was rolled back, it would keep a payment whose time has passed.
    PERFORM FROM payments AS p WHERE p.id = payment FOR NO KEY UPDATE;
    UPDATE payments AS p SET kept_at = clock_timestamp(), version = p.version + 1, updated_at = marked_at
    WHERE p.id = payment AND wants_keep AND p.version = seen_version AND p.status = 'authorized'
        AND p.given_up_at IS NULL AND p.amount_voiding = 0
        AND p.kept_at IS NULL AND p.reversed_at IS NULL AND p.reverse_at > clock_timestamp()
    RETURNING p.* INTO marked;
    IF NOT FOUND THEN
        UPDATE payments AS p SET reversed_at = clock_timestamp(), version = p.version + 1, updated_at = marked_at
        WHERE p.id = payment AND p.kept_at IS NULL AND p.reversed_at IS NULL AND p.reverse_at <= clock_timestamp()
            AND p.status NOT IN ('declined', 'voided', 'canceled', 'expired', 'failed')
        RETURNING p.* INTO marked;
    END IF;
    is_new := FOUND;
    IF NOT is_new THEN
        SELECT * INTO marked FROM payments WHERE id = payment;
    END IF;
    verdict := CASE WHEN marked.kept_at IS NOT NULL THEN 'kept' WHEN marked.reversed_at IS NOT NULL THEN 'reversed' END;
    left_s := greatest(0, extract(EPOCH FROM marked.reverse_at - clock_timestamp()));
    IF NOT is_new THEN RETURN; END IF;

    INSERT INTO payment_events (id, payment_id, merchant_id, version, type, data)
    VALUES (event, payment, marked.merchant_id, marked.version, 'payment.' || verdict, jsonb_build_object(
        'status', marked.status, 'amount_authorized', marked.amount_authorized,
        'amount_captured', marked.amount_captured, 'amount_refunded', marked.amount_refunded,
        'refund_status', marked.refund_status, 'review_reason', marked.review_reason,
        'source', 'point_of_sale', 'outcome', verdict,
        'reason', CASE verdict WHEN 'reversed' THEN 'authorization_timed_out' ELSE '' END
    ));
    IF verdict = 'reversed' THEN
        -- Of a charge that the fraud check holds nothing will be heard any more: that ends it. Locked before it is
        -- looked at once more: nobody lets it go meanwhile, and afterwards everybody sees the mark.
        SELECT s.operation_id INTO held FROM screenings AS s
        WHERE s.payment_id = payment AND s.verdict = 'held' FOR UPDATE;
        IF held IS NOT NULL THEN
            PERFORM end_held_charge(held, gen_random_uuid(), stream, 'inquiry');
        END IF;
    END IF;
    follows := CASE WHEN verdict = 'reversed' THEN 'reverse' WHEN marked.capture = 'automatic' THEN 'capture' END;
    IF follows IS NULL THEN RETURN; END IF;
    INSERT INTO requests (id, payment_id, merchant_id, kind, is_final)
    VALUES (request, payment, marked.merchant_id, follows, follows = 'capture');
    -- Published by the caller right after the commit; if it dies before that, the relay sees an old row.
    INSERT INTO outbox (id, stream, type, merchant_id, payment_id, body, published_at)
    VALUES (request, stream, 'payment.request', marked.merchant_id, payment, jsonb_build_object(
        'id', request, 'payment_id', payment, 'kind', follows, 'amount', NULL, 'is_final', follows = 'capture',
        'reason', '', 'expected_version', NULL
    ), clock_timestamp());
END $$;
