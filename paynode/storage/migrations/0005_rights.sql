-- migrate:up

-- The log-in roles are made before the migrations, with their passwords. Each gets what its process does, no more.

GRANT USAGE ON SCHEMA public TO paynode_ingress, paynode_gateway, paynode_committer, paynode_reader;

-- The ingress accepts: version 1 of a payment, its operation, its command; it never touches money.
GRANT SELECT ON merchants, api_keys TO paynode_ingress;
GRANT SELECT, INSERT ON payments, operations, payment_events, inbox TO paynode_ingress;
GRANT SELECT, INSERT, UPDATE ON idempotency_keys TO paynode_ingress;
GRANT SELECT, INSERT ON outbox TO paynode_ingress;

-- The gateway and the relay: attempts, inbox, outbox.
GRANT SELECT, INSERT, UPDATE ON psp_attempts TO paynode_gateway;
GRANT SELECT, INSERT, UPDATE ON inbox TO paynode_gateway;
GRANT SELECT, INSERT, UPDATE, DELETE ON outbox TO paynode_gateway;
GRANT SELECT, INSERT, UPDATE ON leases TO paynode_gateway;

-- The committer: the only writer of money.
GRANT SELECT ON merchants TO paynode_committer;
GRANT SELECT, UPDATE ON payments, operations TO paynode_committer;
GRANT SELECT, INSERT ON evidence, payment_events, ledger_entries, wallet_adjustments, dead_letters TO paynode_committer;
GRANT SELECT, INSERT, UPDATE ON wallets, ledger_heads TO paynode_committer;
GRANT SELECT, INSERT, DELETE ON outbox TO paynode_committer;
GRANT SELECT, UPDATE ON partitions TO paynode_committer;
GRANT SELECT, INSERT, UPDATE, DELETE ON workers TO paynode_committer;

-- The reader answers GET and `status`; it sees no secret and no stored answer.
GRANT SELECT ON merchants, payments, operations, evidence, payment_events, outbox, psp_attempts, partitions, workers,
leases, dead_letters, ledger_entries, ledger_heads, wallets, wallet_adjustments TO paynode_reader;
