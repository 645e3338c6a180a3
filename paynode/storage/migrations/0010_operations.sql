-- migrate:up

-- What merchants ask about a payment. Its actor decides; the row is how the ingress hears of it.
CREATE TABLE requests (
    -- The outbox row's id too, and that of the operation which it becomes.
    id uuid PRIMARY KEY,
    payment_id uuid NOT NULL REFERENCES payments (id),
    merchant_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('capture', 'void', 'cancel', 'refund', 'reverse')),
    -- As asked; NULL: all that is left.
    amount bigint CHECK (amount BETWEEN 1 AND 1000000000000),
    is_final boolean NOT NULL DEFAULT false,
    reason text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    decided_at timestamptz,
    -- NULL once decided: there is such an operation.
    refusal text,
    CONSTRAINT requests_refused_means_decided CHECK (refusal IS NULL OR decided_at IS NOT NULL)
);
CREATE INDEX requests_payment ON requests (payment_id);

GRANT SELECT, INSERT ON requests TO paynode_ingress;
GRANT SELECT, UPDATE ON requests TO paynode_committer;
GRANT INSERT ON operations TO paynode_committer;
GRANT SELECT ON requests TO paynode_reader;
