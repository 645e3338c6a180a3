-- migrate:up

CREATE TABLE payments (
    id uuid PRIMARY KEY,
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    idempotency_key text NOT NULL,
    order_id text NOT NULL,
    -- order_id while the order may not be paid by another payment; cleared once, never set again.
    order_slot text,
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    capture text NOT NULL CHECK (capture IN ('automatic', 'manual')),
    method jsonb NOT NULL,
    customer jsonb,
    description text,
    metadata jsonb NOT NULL,
    status text NOT NULL CHECK (status IN (
        'created', 'requires_action', 'processing', 'unknown', 'review', 'declined', 'authorized',
        'partially_captured', 'captured', 'voided', 'canceled', 'expired', 'failed'
    )),
    refund_status text NOT NULL DEFAULT 'none' CHECK (refund_status IN ('none', 'pending', 'partial', 'full')),
    fraud_check text NOT NULL DEFAULT 'none',
    review_reason text,
    psp text NOT NULL,
    psp_reference text,
    -- The PSPs that may take it, in their order; the first is tried first.
    route text [] NOT NULL DEFAULT '{}',
    page_url text,
    amount_authorized bigint NOT NULL DEFAULT 0 CHECK (amount_authorized >= 0),
    amount_capturing bigint NOT NULL DEFAULT 0 CHECK (amount_capturing >= 0),
    amount_captured bigint NOT NULL DEFAULT 0 CHECK (amount_captured >= 0),
    amount_voiding bigint NOT NULL DEFAULT 0 CHECK (amount_voiding >= 0),
    amount_voided bigint NOT NULL DEFAULT 0 CHECK (amount_voided >= 0),
    amount_refunding bigint NOT NULL DEFAULT 0 CHECK (amount_refunding >= 0),
    amount_refunded bigint NOT NULL DEFAULT 0 CHECK (amount_refunded >= 0),
    version bigint NOT NULL DEFAULT 1 CHECK (version >= 1),
    -- Its order's slot was let go of: whatever succeeds now is given back.
    given_up_at timestamptz,
    -- A payment at a point of sale: nobody waits after `reverse_at`. One of the two marks is set, once, and stays.
    reverse_at timestamptz,
    kept_at timestamptz,
    reversed_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (merchant_id, idempotency_key),
    UNIQUE (merchant_id, order_slot),
    CONSTRAINT payments_kept_or_reversed CHECK (kept_at IS NULL OR reversed_at IS NULL),
    CONSTRAINT payments_authorized_as_asked CHECK (amount_authorized <= amount),
    CONSTRAINT payments_captured_within_authorized CHECK (
        amount_captured + amount_capturing + amount_voided + amount_voiding <= amount_authorized
    ),
    CONSTRAINT payments_refunded_within_captured CHECK (amount_refunded + amount_refunding <= amount_captured),
    CONSTRAINT payments_captured_means_money CHECK (status <> 'captured' OR amount_captured > 0),
    CONSTRAINT payments_denied_means_no_money CHECK (
        status NOT IN ('declined', 'expired', 'failed') OR amount_captured = 0
    )
);

-- The list of a merchant's payments, newest first: UUIDv7 keys sort by time.
CREATE INDEX payments_merchant_newest ON payments (merchant_id, id DESC);
CREATE INDEX payments_merchant_order ON payments (merchant_id, order_id);
-- At points of sale, what nobody has decided about. What has come to nothing needs no mark; should evidence come that it
-- has not, it is found here again.
CREATE INDEX payments_to_reverse ON payments (reverse_at)
WHERE reverse_at IS NOT NULL AND kept_at IS NULL AND reversed_at IS NULL
AND status NOT IN ('declined', 'voided', 'canceled', 'expired', 'failed');

CREATE TABLE operations (
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments (id),
    merchant_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('sale', 'authorize', 'capture', 'void', 'refund', 'cancel')),
    amount bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    psp text NOT NULL,
    -- What the gateway needs to ask for it, as the ingress made it: copied into every command about it.
    request jsonb NOT NULL,
    state text NOT NULL CHECK (state IN (
        'new', 'pending', 'unknown', 'approved', 'declined', 'expired', 'failed', 'reversed', 'review'
    )),
    psp_reference text,
    -- No capture comes after it: what is left of the authorization is let go.
    is_final boolean NOT NULL DEFAULT false,
    -- Who wanted it: a merchant's request, or a rule of ours.
    origin text NOT NULL DEFAULT 'request' CHECK (origin IN ('request', 'late_success', 'reversal')),
    -- What a refund holds of the merchant's money until the PSP has answered, by the bucket it came from.
    hold_available bigint NOT NULL DEFAULT 0 CHECK (hold_available >= 0),
    hold_pending bigint NOT NULL DEFAULT 0 CHECK (hold_pending >= 0),
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX operations_payment ON operations (payment_id);
-- What is in doubt is rare and counted every few seconds.
CREATE INDEX operations_unknown ON operations (updated_at) WHERE state = 'unknown';
-- One payment is charged by one operation: whatever else is asked refers to it.
CREATE UNIQUE INDEX operations_one_charge ON operations (payment_id) WHERE kind IN ('sale', 'authorize');

-- What is known about operations, as it came; a payment is the fold of these.
CREATE TABLE evidence (
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments (id),
    operation_id uuid NOT NULL REFERENCES operations (id),
    outcome text NOT NULL CHECK (outcome IN (
        'approved', 'declined', 'pending', 'expired', 'absent', 'reversed', 'held', 'not_sent', 'unknown'
    )),
    source text NOT NULL CHECK (source IN ('answer', 'callback', 'inquiry', 'operator')),
    psp_reference text,
    amount bigint,
    currency text,
    page_url text,
    reason text NOT NULL,
    fraud_check text,
    psp_at timestamptz,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX evidence_payment ON evidence (payment_id);

-- The timeline of a payment; no two events of one version.
CREATE TABLE payment_events (
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments (id),
    merchant_id uuid NOT NULL,
    version bigint NOT NULL,
    type text NOT NULL,
    data jsonb NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (payment_id, version)
);

CREATE TABLE idempotency_keys (
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    path text NOT NULL,
    key text NOT NULL,
    fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
    payment_id uuid NOT NULL REFERENCES payments (id),
    -- The request about the payment that it brought; NULL: the payment itself.
    request_id uuid,
    -- Until then the first request is being worked on; a retry after it adopts the payment.
    in_flight_until timestamptz NOT NULL,
    response_status integer,
    response_headers jsonb,
    response_body bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (merchant_id, path, key),
    CONSTRAINT idempotency_keys_store_only_acceptance CHECK (response_status IN (201, 202)),
    CONSTRAINT idempotency_keys_whole_answer CHECK (
        (response_status IS NULL) = (response_body IS NULL) AND (response_status IS NULL) = (response_headers IS NULL)
    )
);
