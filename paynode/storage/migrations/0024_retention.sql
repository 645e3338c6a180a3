-- migrate:up

-- Old months of the ledger leave it: their tables are detached, exported, and dropped by an operator. What they came to is
-- kept here, so that the laws of money hold over what is left, and still bite.

-- One row each time. What has an id before `before`, the first instant of a month (UTC), is in the ledger no more.
CREATE TABLE ledger_retirements (
    before timestamptz PRIMARY KEY,
    -- The tables that were detached, and how many entries are in them.
    partitions text [] NOT NULL CHECK (cardinality(partitions) >= 1),
    entries bigint NOT NULL CHECK (entries >= 0),
    -- The export that the retired entries can be read from again.
    manifest text NOT NULL,
    manifest_sha256 bytea NOT NULL CHECK (octet_length(manifest_sha256) = 32),
    -- Of the three tables below.
    openings_sha256 bytea NOT NULL CHECK (octet_length(openings_sha256) = 32),
    retired_by text NOT NULL CHECK (retired_by <> ''),
    retired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT ledger_retirements_whole_months CHECK (before = date_trunc('month', before, 'UTC'))
);

-- The last retired entry of each merchant: the next one has the next number and follows this hash.
CREATE TABLE ledger_openings (
    before timestamptz NOT NULL,
    merchant_id uuid NOT NULL,
    seq bigint NOT NULL CHECK (seq >= 1),
    hash bytea NOT NULL CHECK (octet_length(hash) = 32),
    epoch bigint NOT NULL,
    PRIMARY KEY (before, merchant_id)
);

-- Credits less debits of everything before, by account: the merchant's buckets as well as the platform's accounts.
CREATE TABLE ledger_opening_balances (
    before timestamptz NOT NULL,
    merchant_id uuid NOT NULL,
    account text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    balance bigint NOT NULL CHECK (balance <> 0),
    PRIMARY KEY (before, merchant_id, account, currency)
);

-- What was posted for a payment in the months that left with this retirement; earlier ones have rows of their own.
CREATE TABLE ledger_opening_payments (
    before timestamptz NOT NULL,
    payment_id uuid NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    captured bigint NOT NULL,
    refunded bigint NOT NULL,
    PRIMARY KEY (payment_id, currency, before)
);

CREATE TRIGGER ledger_retirements_append_only BEFORE UPDATE OR DELETE ON ledger_retirements
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_retirements_no_truncate BEFORE TRUNCATE ON ledger_retirements
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_openings_append_only BEFORE UPDATE OR DELETE ON ledger_openings
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_openings_no_truncate BEFORE TRUNCATE ON ledger_openings
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_opening_balances_append_only BEFORE UPDATE OR DELETE ON ledger_opening_balances
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_opening_balances_no_truncate BEFORE TRUNCATE ON ledger_opening_balances
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_opening_payments_append_only BEFORE UPDATE OR DELETE ON ledger_opening_payments
FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER ledger_opening_payments_no_truncate BEFORE TRUNCATE ON ledger_opening_payments
FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Only the owner of the schema retires.
GRANT SELECT ON ledger_retirements, ledger_openings, ledger_opening_balances, ledger_opening_payments TO paynode_reader;

-- The openings of one retirement as one hash. Of payments there are millions: hashed by the last byte of their ids first,
-- so that no text comes near the limit of a value.
CREATE FUNCTION openings_digest(retirement timestamptz) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT sha256(convert_to(coalesce(string_agg(line, E'\n' ORDER BY line), ''), 'UTF8'))
    FROM (
        SELECT concat_ws('|', 'head', merchant_id, seq, encode(hash, 'hex'), epoch) AS line
        FROM ledger_openings WHERE before = retirement
        UNION ALL
        SELECT concat_ws('|', 'balance', merchant_id, account, currency, balance)
        FROM ledger_opening_balances WHERE before = retirement
        UNION ALL
        SELECT concat_ws('|', 'payments', right(payment_id::text, 2), encode(sha256(convert_to(string_agg(
            concat_ws('|', payment_id, currency, captured, refunded), E'\n' ORDER BY payment_id, currency
        ), 'UTF8')), 'hex'))
        FROM ledger_opening_payments WHERE before = retirement
        GROUP BY right(payment_id::text, 2)
    ) AS lines
$$;

-- As in 0004, but made apart and then attached: which no writer and no reader of the ledger waits for. Only who reads the
-- default partition too, which is whoever reads the whole ledger, is waited for.
CREATE OR REPLACE FUNCTION make_ledger_partition(instant timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month timestamptz := date_trunc('month', instant, 'UTC');
    next_month timestamptz := date_trunc('month', date_trunc('month', instant, 'UTC') + interval '32 days', 'UTC');
    name text := 'ledger_entries_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.ledger_entries INCLUDING ALL)', name);
    EXECUTE format(
        'CREATE TRIGGER no_truncate BEFORE TRUNCATE ON public.%I FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()',
        name
    );
    EXECUTE format(
        'ALTER TABLE public.ledger_entries ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        name, uuid7_floor(month), uuid7_floor(next_month)
    );
END $$;

-- Makes the partitions of this month and of the next twelve; called by whoever migrates and again and again by the
-- scheduler, for an installation may run for years. Where nothing is missing it takes no lock. `made`: how many were
-- missing. `held_up`: how many still are, because entries of theirs went into the default partition when there was none:
-- they stay there, and so do all others of that month.
CREATE FUNCTION make_ledger_months(OUT made integer, OUT held_up integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    month timestamptz;
    name text;
BEGIN
    made := 0;
    held_up := 0;
    FOR month IN
        SELECT date_trunc('month', clock_timestamp(), 'UTC') + make_interval(months => ahead)
        FROM generate_series(0, 12) AS ahead
    LOOP
        name := to_char(month AT TIME ZONE 'UTC', '"ledger_entries_"YYYY_MM');
        IF to_regclass(name) IS NULL THEN
            -- One at a time: of two at once the second one waits, and then finds it made.
            LOCK TABLE ONLY ledger_entries IN SHARE UPDATE EXCLUSIVE MODE;
        END IF;
        CONTINUE WHEN to_regclass(name) IS NOT NULL;
        BEGIN
            PERFORM make_ledger_partition(month);
            made := made + 1;
        EXCEPTION WHEN check_violation THEN
            held_up := held_up + 1;
        END;
    END LOOP;
END $$;
REVOKE ALL ON FUNCTION make_ledger_months() FROM public;
GRANT EXECUTE ON FUNCTION make_ledger_months() TO paynode_gateway;

-- Takes a month out of the ledger. Its table stays, as unchangeable as it was: what it had by being a partition is lost
-- by the detaching.
CREATE FUNCTION detach_ledger_partition(partition regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE public.ledger_entries DETACH PARTITION %s', partition);
    EXECUTE format(
        'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION refuse_change()',
        partition
    );
    EXECUTE format('GRANT SELECT ON %s TO paynode_reader', partition);
END $$;

-- The default partition has entries of retired months, where some clock was wrong or no month was made in time: it goes with
-- the months, under another name, and a new one takes its place. What is not old is copied into the ledger as it was;
-- nothing is edited, nothing is removed.
CREATE FUNCTION renew_ledger_default(before timestamptz, name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM detach_ledger_partition('public.ledger_entries_default');
    EXECUTE format('ALTER TABLE public.ledger_entries_default RENAME TO %I', name);
    CREATE TABLE public.ledger_entries_default PARTITION OF public.ledger_entries DEFAULT;
    CREATE TRIGGER no_truncate BEFORE TRUNCATE ON public.ledger_entries_default
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
    EXECUTE format('INSERT INTO public.ledger_entries SELECT * FROM public.%I WHERE id >= $1', name)
    USING uuid7_floor(before);
END $$;

-- The number of a merchant's last entry from before an instant, by halving: an index on the time of every entry would cost
-- each posting more than the few who ask for a time are worth. Exact as far as times rise with numbers; they are of the
-- clocks of those who wrote, so that whoever asks leaves some room.
CREATE FUNCTION ledger_seq_before(merchant uuid, instant timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    below bigint;
    above bigint;
    middle bigint;
BEGIN
    -- Of what is there: earlier months may have been retired.
    SELECT coalesce(min(e.seq) - 1, 0), coalesce(max(e.seq) + 1, 1) INTO below, above
    FROM ledger_entries AS e
    WHERE e.merchant_id = merchant;
    WHILE above - below > 1 LOOP
        middle := (below + above) / 2;
        IF EXISTS (
            SELECT FROM ledger_entries AS e WHERE e.merchant_id = merchant AND e.seq = middle AND e.at < instant
        ) THEN
            below := middle;
        ELSE
            above := middle;
        END IF;
    END LOOP;
    RETURN below;
END $$;

-- The list of a merchant's payments in one state: without it, all of a merchant's payments are walked to find the few that
-- are under review. Built in the transaction of the migration, so that nothing is accepted meanwhile: 4 s for two
-- million payments.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX payments_merchant_status ON payments (merchant_id, status, id);
