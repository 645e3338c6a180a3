-- Without triggers of foreign keys: what is written here refers to what is written here.
SET session_replication_role = replica;
SET synchronous_commit = off;
SET work_mem = '256MB';
SET maintenance_work_mem = '256MB';
SELECT make_ledger_partition(date_trunc('month', clock_timestamp(), 'UTC') - make_interval(months => ago))
FROM generate_series(1, {months}) AS ago;
-- Ids of an instant that are the same whenever they are made.
CREATE FUNCTION pg_temp.id_of(instant timestamptz, n bigint, kind text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (
        lpad(to_hex((extract(epoch FROM instant) * 1000)::bigint), 12, '0') || '7'
        || substr(md5(kind || n), 1, 3) || '8' || substr(md5(kind || n), 4, 15)
    )::uuid
$$;
CREATE TEMPORARY TABLE shops AS
SELECT n, gen_random_uuid() AS id FROM generate_series(0, {merchants} - 1) AS n;
INSERT INTO merchants (id, name, fee_fixed, fee_basis_points, psps)
SELECT id, CASE n WHEN 0 THEN 'hot' ELSE 'shop ' || n END, 0, 150, '{sim}' FROM shops;
-- The n-th business fact: of every five entries two are a payment's, three are movements of wallets.
CREATE TEMPORARY TABLE facts AS
SELECT
    f.n, s.n AS shop, s.id AS merchant_id, i.at, pg_temp.id_of(i.at, f.n, 'entry') AS id,
    CASE WHEN f.n % 4 = 0 THEN pg_temp.id_of(i.at - interval '1 second', f.n, 'payment') END AS payment_id,
    pg_temp.id_of(i.at - interval '1 second', f.n, 'operation') AS operation_id
FROM generate_series(0, {entries}::bigint * 4 / 5 - 1) AS f (n)
INNER JOIN shops AS s ON s.n = CASE WHEN f.n / 4 % 2 = 0 THEN 0 ELSE f.n / 8 % ({merchants} - 1) + 1 END
CROSS JOIN LATERAL (SELECT date_trunc(
    'milliseconds',
    clock_timestamp() - (1 - f.n / ({entries} * 0.8)) * {months} * interval '30 days'
) AS at) AS i;
-- then
INSERT INTO ledger_entries (
    id, line, merchant_id, seq, payment_id, operation_id, type, debit_account, credit_account, amount, currency,
    psp_reference, at, epoch, prev_hash, hash
)
SELECT
    id, line, merchant_id, row_number() OVER (PARTITION BY shop ORDER BY n, line), payment_id, operation_id,
    CASE WHEN payment_id IS NULL THEN 'credit' WHEN line = 1 THEN 'capture' ELSE 'fee' END,
    CASE WHEN payment_id IS NULL THEN 'suspense:internal' WHEN line = 1 THEN 'psp:sim:receivable' ELSE 'merchant:pending' END,
    CASE WHEN payment_id IS NULL THEN 'merchant:available' WHEN line = 1 THEN 'merchant:pending' ELSE 'fee_revenue' END,
    CASE line WHEN 1 THEN 1000 ELSE 15 END, 'EUR', 'ch_' || n, at, 1, sha256(int8send(n)), sha256(int8send(n + 1))
FROM facts
CROSS JOIN LATERAL generate_series(1, CASE WHEN payment_id IS NULL THEN 1 ELSE 2 END) AS line
ORDER BY n, line;
-- then
INSERT INTO ledger_heads (merchant_id, seq, hash)
SELECT merchant_id, max(seq), sha256('') FROM ledger_entries GROUP BY merchant_id;
INSERT INTO wallets (merchant_id, currency, pending, available, reserve, held, version)
SELECT merchant_id, 'EUR', 0, 0, 0, 0, 1 FROM ledger_heads;
INSERT INTO payments (
    id, merchant_id, idempotency_key, order_id, order_slot, amount, currency, capture, method, metadata, status, psp,
    psp_reference, amount_authorized, amount_captured, version, created_at, updated_at
)
SELECT
    payment_id, merchant_id, 'order-' || n, 'order-' || n, 'order-' || n, 1000, 'EUR', 'automatic',
    '{"type": "token"}', '{}', CASE WHEN n < {review} * 8 THEN 'review' ELSE 'captured' END, 'sim', 'ch_' || n, 1000,
    1000, 2, at, at
FROM facts WHERE payment_id IS NOT NULL ORDER BY n;
INSERT INTO operations (
    id, payment_id, merchant_id, kind, amount, currency, psp, request, state, created_at, updated_at
)
SELECT operation_id, payment_id, merchant_id, 'sale', 1000, 'EUR', 'sim', '{}', 'approved', at, at
FROM facts WHERE payment_id IS NOT NULL ORDER BY n;
INSERT INTO evidence (id, payment_id, operation_id, outcome, source, psp_reference, amount, currency, reason, at)
SELECT pg_temp.id_of(at, n, 'evidence'), payment_id, operation_id, 'approved', 'answer', 'ch_' || n, 1000, 'EUR', '', at
FROM facts WHERE payment_id IS NOT NULL ORDER BY n;
INSERT INTO payment_events (id, payment_id, merchant_id, version, type, data, at)
SELECT pg_temp.id_of(at, n, 'event' || version), payment_id, merchant_id, version, 'payment.captured', '{}', at
FROM facts CROSS JOIN generate_series(1, 2) AS version WHERE payment_id IS NOT NULL ORDER BY n;
INSERT INTO idempotency_keys (merchant_id, path, key, fingerprint, payment_id, in_flight_until)
SELECT merchant_id, '/v1/payments', 'order-' || n, sha256(''), payment_id, at
FROM facts WHERE payment_id IS NOT NULL ORDER BY n;
DROP TABLE facts;
-- then
VACUUM ANALYZE;
-- then
RESET session_replication_role;
