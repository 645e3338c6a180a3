-- Every statement but the last lists what breaks a law: id (a merchant's, a payment's, an outbox row's or none), what
-- it is about, what was expected and what was found.

-- name: list_imbalances
-- The merchants' side is taken from the wallets: over the ledger alone the sum is zero by construction.
SELECT NULL::text AS id, currency AS what, '0' AS expected, sum(amount)::text AS found
FROM (
    SELECT
        currency,
        CASE WHEN credit_account LIKE 'merchant:%' THEN 0 ELSE amount END
        - CASE WHEN debit_account LIKE 'merchant:%' THEN 0 ELSE amount END AS amount
    FROM ledger_entries
    UNION ALL
    SELECT currency, balance FROM wallets
) AS books
GROUP BY currency
HAVING sum(amount) <> 0;

-- name: list_unfolded_wallets
-- A credit to a bucket raises it, a debit lowers it. FULL JOIN: a wallet without a ledger is as wrong as the reverse.
WITH folded AS (
    SELECT
        merchant_id, currency,
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:pending'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:pending'), 0) AS pending,
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:available'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:available'), 0) AS available,
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:reserve'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:reserve'), 0) AS reserve,
        coalesce(sum(amount) FILTER (WHERE credit_account = 'merchant:held'), 0)
        - coalesce(sum(amount) FILTER (WHERE debit_account = 'merchant:held'), 0) AS held
    FROM ledger_entries
    GROUP BY merchant_id, currency
)

SELECT
    merchant_id::text AS id, currency || ' pending/available/reserve/held' AS what,
    concat_ws('/', f.pending, f.available, f.reserve, f.held) AS expected,
    concat_ws('/', w.pending, w.available, w.reserve, w.held) AS found
FROM folded AS f
FULL JOIN wallets AS w USING (merchant_id, currency)
WHERE
    (coalesce(f.pending, 0), coalesce(f.available, 0), coalesce(f.reserve, 0), coalesce(f.held, 0))
    <> (coalesce(w.pending, 0), coalesce(w.available, 0), coalesce(w.reserve, 0), coalesce(w.held, 0));

-- name: list_unadjusted_wallets
-- The second way to the same number: what each fact said it did, against what the wallet has become.
WITH adjusted AS (
    SELECT
        merchant_id, currency,
        sum(d_pending) AS pending, sum(d_available) AS available, sum(d_reserve) AS reserve, sum(d_held) AS held
    FROM wallet_adjustments
    GROUP BY merchant_id, currency
)

SELECT
    merchant_id::text AS id, currency || ' pending/available/reserve/held' AS what,
    concat_ws('/', a.pending, a.available, a.reserve, a.held) AS expected,
    concat_ws('/', w.pending, w.available, w.reserve, w.held) AS found
FROM adjusted AS a
FULL JOIN wallets AS w USING (merchant_id, currency)
WHERE
    (coalesce(a.pending, 0), coalesce(a.available, 0), coalesce(a.reserve, 0), coalesce(a.held, 0))
    <> (coalesce(w.pending, 0), coalesce(w.available, 0), coalesce(w.reserve, 0), coalesce(w.held, 0));

-- name: list_seq_gaps
-- In the order of the index, so that the ledger is read once and kept nowhere.
SELECT merchant_id::text AS id, 'seq' AS what, (before + 1)::text AS expected, seq::text AS found
FROM (
    SELECT merchant_id, seq, lag(seq, 1, 0::bigint) OVER (PARTITION BY merchant_id ORDER BY seq) AS before
    FROM ledger_entries
) AS numbered
WHERE seq <> before + 1;

-- name: list_torn_heads
-- The head is written apart from the entries: it remembers the last one also when that one is gone.
SELECT
    merchant_id::text AS id, 'last entry' AS what,
    concat_ws(' ', h.seq, encode(h.hash, 'hex')) AS expected, concat_ws(' ', e.seq, encode(e.hash, 'hex')) AS found
FROM ledger_heads AS h
FULL JOIN (
    SELECT DISTINCT ON (merchant_id) merchant_id, seq, hash FROM ledger_entries ORDER BY merchant_id, seq DESC
) AS e USING (merchant_id)
WHERE h.seq IS DISTINCT FROM e.seq OR h.hash IS DISTINCT FROM e.hash;

-- name: list_unposted_captures
-- By currency too: a capture posted in another one is missing in the right one and surplus in the wrong one.
SELECT
    coalesce(p.id, e.payment_id)::text AS id, 'captured ' || coalesce(p.currency, e.currency) AS what,
    coalesce(p.amount_captured, 0)::text AS expected, coalesce(e.amount, 0)::text AS found
FROM payments AS p
FULL JOIN (
    -- A reversal mirrors every posting of its capture: that of the captured amount itself leaves the merchant.
    SELECT payment_id, currency, sum(CASE WHEN type = 'capture' THEN amount ELSE -amount END) AS amount
    FROM ledger_entries
    WHERE type = 'capture' OR (type = 'reversal' AND debit_account = 'merchant:pending')
    GROUP BY payment_id, currency
) AS e ON e.payment_id = p.id AND e.currency = p.currency
WHERE
    coalesce(p.amount_captured, 0) <> coalesce(e.amount, 0)
    AND p.review_reason IS DISTINCT FROM 'captured_too_much'
    AND p.review_reason IS DISTINCT FROM 'reversed_after_refund';

-- name: list_unposted_refunds
-- As above: refunds that the PSP has made, less those that it took back.
SELECT
    coalesce(p.id, e.payment_id)::text AS id, 'refunded ' || coalesce(p.currency, e.currency) AS what,
    coalesce(p.amount_refunded, 0)::text AS expected, coalesce(e.amount, 0)::text AS found
FROM payments AS p
FULL JOIN (
    SELECT payment_id, currency, sum(CASE WHEN type = 'refund' THEN amount ELSE -amount END) AS amount
    FROM ledger_entries
    WHERE type IN ('refund', 'refund_reversal')
    GROUP BY payment_id, currency
) AS e ON e.payment_id = p.id AND e.currency = p.currency
WHERE
    coalesce(p.amount_refunded, 0) <> coalesce(e.amount, 0)
    AND p.review_reason IS DISTINCT FROM 'captured_too_much';

-- name: list_unproven_captures
-- Sales only: a payment that is authorized first is captured by as many facts as there are captures. Of one charge there
-- may be two facts: an answer also says what the fraud check said, the callback that overtook it does not.
WITH charges AS (
    SELECT
        e.payment_id, count(DISTINCT (e.psp_reference, e.amount, e.currency)) AS approved,
        count(DISTINCT e.psp_reference) FILTER (
            WHERE e.amount = o.amount AND e.currency = o.currency AND e.psp_reference IS NOT NULL
        ) AS as_asked
    FROM evidence AS e
    INNER JOIN operations AS o ON o.id = e.operation_id
    WHERE e.outcome = 'approved' AND o.kind = 'sale' AND NOT EXISTS (
        -- What was done beside it and has been given back.
        SELECT FROM operations AS back
        WHERE back.payment_id = e.payment_id AND back.psp = coalesce(e.psp, o.psp) AND back.target = e.psp_reference
            AND back.state = 'approved'
    )
    GROUP BY e.payment_id
)

SELECT
    p.id::text AS id, 'charges as asked/charges' AS what,
    CASE WHEN p.amount_captured > 0 OR s.state = 'reversed' THEN '1/1' ELSE '0/0' END AS expected,
    coalesce(c.as_asked, 0) || '/' || coalesce(c.approved, 0) AS found
FROM payments AS p
INNER JOIN operations AS s ON s.payment_id = p.id AND s.kind = 'sale'
LEFT JOIN charges AS c ON c.payment_id = p.id
WHERE
    p.status <> 'review'
    AND (coalesce(c.as_asked, 0), coalesce(c.approved, 0))
    <> CASE WHEN p.amount_captured > 0 OR s.state = 'reversed' THEN (1::bigint, 1::bigint) ELSE (0::bigint, 0::bigint) END;

-- name: list_unposted_movements
-- The event's id is the operation of its posting.
SELECT
    coalesce(v.merchant_id, e.merchant_id)::text AS id, 'event ' || coalesce(v.event_id, e.operation_id) AS what,
    coalesce(v.result, 'no such event') AS expected, coalesce(e.count, 0) || ' postings' AS found
FROM (SELECT * FROM applied_events WHERE type LIKE 'paynode.wallet.%') AS v
FULL JOIN (
    SELECT merchant_id, operation_id, count(*) AS count
    FROM ledger_entries
    WHERE type IN ('credit', 'debit', 'write_off')
    GROUP BY merchant_id, operation_id
) AS e ON e.operation_id = v.event_id
WHERE coalesce(e.count, 0) <> CASE WHEN v.result = 'applied' THEN 1 ELSE 0 END;

-- name: list_version_gaps
-- (payment, version) is unique, so that first, last and count tell whether one is missing.
SELECT
    p.id::text AS id, 'versions in the timeline' AS what, '1 to ' || p.version AS expected,
    coalesce(e.first, 0) || ' to ' || coalesce(e.last, 0) || ', ' || coalesce(e.count, 0) || ' events' AS found
FROM payments AS p
LEFT JOIN (
    SELECT payment_id, min(version) AS first, max(version) AS last, count(*) AS count
    FROM payment_events
    GROUP BY payment_id
) AS e ON e.payment_id = p.id
WHERE (e.first, e.last, e.count) IS DISTINCT FROM (1::bigint, p.version, p.version);

-- name: list_stuck_messages
-- By when it was due, not by when it was made: a command of the inquiry ladder waits for its hour.
SELECT
    id::text AS id, type || ' on ' || stream AS what, 'processed in ' || $1::float8 || ' s' AS expected,
    'due for ' || extract(EPOCH FROM clock_timestamp() - available_at)::bigint || ' s' AS found
FROM outbox
WHERE available_at < clock_timestamp() - $1::float8 * interval '1 second';

-- name: list_fallen_epochs
-- The fencing number of who wrote: one that falls was written by an owner whose time was over.
SELECT merchant_id::text AS id, 'epoch at seq ' || seq AS what, '>= ' || before AS expected, epoch::text AS found
FROM (
    SELECT merchant_id, seq, epoch, lag(epoch) OVER (PARTITION BY merchant_id ORDER BY seq) AS before
    FROM ledger_entries
) AS written
WHERE epoch < before;

-- name: read_ledger
-- The fields that are sealed, in the order of the chain. What is not there is an empty field, not the word NULL.
-- Ordered by the columns and not by the texts of the same name, which no index has.
SELECT
    id::text AS entry_id, line, merchant_id::text AS merchant_id, seq, coalesce(payment_id::text, '') AS payment_id,
    operation_id::text AS operation_id, type, debit_account AS debit, credit_account AS credit, amount, currency,
    (extract(EPOCH FROM at) * 1000)::bigint AS at_ms, coalesce(psp_reference, '') AS reference,
    at = date_trunc('milliseconds', at) AS is_whole_ms, prev_hash, hash
FROM ledger_entries AS e
ORDER BY e.merchant_id, e.seq;
