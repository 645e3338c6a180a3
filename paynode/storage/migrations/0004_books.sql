-- migrate:up

-- One row is one posting, debit -> credit, balanced by construction. Insert-only: by grants, and by trigger for the
-- owner too. Partitioned by its UUIDv7 key, which is by time: a plain time column would cost the key its global
-- uniqueness.
CREATE TABLE ledger_entries (
    id uuid NOT NULL,
    line integer NOT NULL CHECK (line >= 1),
    merchant_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 1),
    payment_id uuid,
    operation_id uuid NOT NULL,
    type text NOT NULL,
    debit_account text NOT NULL,
    credit_account text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    status text NOT NULL DEFAULT 'posted' CHECK (status = 'posted'),
    psp_reference text,
    at timestamptz NOT NULL,
    epoch bigint NOT NULL,
    prev_hash bytea NOT NULL CHECK (octet_length(prev_hash) = 32),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    PRIMARY KEY (id, line),
    CONSTRAINT ledger_entries_two_accounts CHECK (debit_account <> credit_account)
) PARTITION BY RANGE (id);

CREATE INDEX ledger_entries_merchant_seq ON ledger_entries (merchant_id, seq);
CREATE INDEX ledger_entries_payment ON ledger_entries (payment_id);

CREATE TABLE ledger_heads (
    merchant_id uuid PRIMARY KEY,
    seq bigint NOT NULL CHECK (seq >= 1),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);

CREATE TABLE wallets (
    merchant_id uuid NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    -- pending and available may go below zero when a PSP takes back what was paid out; reserve and held never.
    pending bigint NOT NULL,
    available bigint NOT NULL,
    reserve bigint NOT NULL CHECK (reserve >= 0),
    held bigint NOT NULL CHECK (held >= 0),
    balance bigint NOT NULL GENERATED ALWAYS AS (pending + available + reserve + held) STORED,
    version bigint NOT NULL CHECK (version >= 1),
    PRIMARY KEY (merchant_id, currency)
);

-- One row per business fact: the wallet's own memory of what it has applied.
CREATE TABLE wallet_adjustments (
    id uuid PRIMARY KEY,
    operation_id uuid NOT NULL,
    kind text NOT NULL,
    part integer NOT NULL,
    payment_id uuid,
    merchant_id uuid NOT NULL,
    currency text NOT NULL,
    delta bigint NOT NULL,
    d_pending bigint NOT NULL,
    d_available bigint NOT NULL,
    d_reserve bigint NOT NULL,
    d_held bigint NOT NULL,
    created_at timestamptz NOT NULL,
    UNIQUE (operation_id, kind, part),
    CONSTRAINT wallet_adjustments_sum CHECK (delta = d_pending + d_available + d_reserve + d_held)
);

CREATE INDEX wallet_adjustments_merchant ON wallet_adjustments (merchant_id, currency);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

-- Row triggers of a partitioned table reach its partitions; TRUNCATE triggers do not, so each partition gets its own.
CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE ON ledger_entries
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_entries_no_truncate BEFORE TRUNCATE ON ledger_entries
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER wallet_adjustments_append_only BEFORE UPDATE OR DELETE ON wallet_adjustments
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER wallet_adjustments_no_truncate BEFORE TRUNCATE ON wallet_adjustments
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_append_only BEFORE UPDATE OR DELETE ON evidence
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER evidence_no_truncate BEFORE TRUNCATE ON evidence
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- The least UUIDv7 of an instant: 48 bits of milliseconds, then zeros.
CREATE FUNCTION uuid7_floor(instant timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- Makes the partition of the month (UTC) that `instant` is in; nothing when it exists.
CREATE FUNCTION make_ledger_partition(instant timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz := date_trunc('month', instant, 'UTC');
    next_month timestamptz := date_trunc('month', date_trunc('month', instant, 'UTC') + interval '32 days', 'UTC');
    name text := 'ledger_entries_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format(
        'CREATE TABLE public.%I PARTITION OF public.ledger_entries FOR VALUES FROM (%L) TO (%L)',
        name, uuid7_floor(month), uuid7_floor(next_month)
    );
    EXECUTE format(
        'CREATE TRIGGER no_truncate BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
        name
    );
END $$;

-- Catches what no month holds, so that no clock can stop the books.
CREATE TABLE ledger_entries_default PARTITION OF ledger_entries DEFAULT;
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON ledger_entries_default
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
