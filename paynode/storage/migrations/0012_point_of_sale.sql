-- migrate:up

-- At a point of sale somebody waits: the payment is kept in time, or it is reversed. Which of the two is decided here,
-- once, by one conditional update of the payment's row, whoever comes first: the ingress that waits, a sweep when that
-- ingress is no more.

-- The mark is a version of the payment like any other: what an actor has decided upon the version before it is refused,
-- and decided anew with the mark in sight. With it goes what follows: the capture of what was kept, unless the merchant
-- captures himself, or the reversal. `verdict` is `kept`, `reversed`, or NULL: nothing is decided yet, and `left_s`
-- seconds are left. `is_new`: by this call. To keep it, `seen_version` must be the payment's: the answer that is stored
-- beside the mark shows just that payment. It runs with its owner's rights: nobody who may call it may write payments.
CREATE FUNCTION decide_pos(
    payment uuid, wants_keep boolean, seen_version bigint, marked_at timestamptz, event uuid, request uuid,
    stream text, OUT verdict text, OUT is_new boolean, OUT left_s double precision
) LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    marked payments;
    held uuid;
    follows text;
BEGIN
    -- The clock is read again when the row has been waited for: nothing is kept after its time.
    UPDATE payments AS p SET kept_at = clock_timestamp(), version = p.version + 1, updated_at = marked_at
    WHERE p.id = payment AND wants_keep AND p.version = seen_version AND p.status = 'authorized'
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

-- Payments that nobody waits for any more and about which nothing is decided.
CREATE FUNCTION find_overdue_pos(grace_s double precision, count integer)
RETURNS TABLE (payment_id uuid, merchant_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT id, merchant_id FROM payments
    WHERE reverse_at < clock_timestamp() - grace_s * interval '1 second'
        AND kept_at IS NULL AND reversed_at IS NULL
        AND status NOT IN ('declined', 'voided', 'canceled', 'expired', 'failed')
    ORDER BY reverse_at LIMIT count
$$;

REVOKE ALL ON FUNCTION decide_pos(uuid, boolean, bigint, timestamptz, uuid, uuid, text) FROM public;
GRANT EXECUTE ON FUNCTION decide_pos(uuid, boolean, bigint, timestamptz, uuid, uuid, text)
TO paynode_ingress, paynode_gateway;
REVOKE ALL ON FUNCTION find_overdue_pos(double precision, integer) FROM public;
GRANT EXECUTE ON FUNCTION find_overdue_pos(double precision, integer) TO paynode_gateway;
