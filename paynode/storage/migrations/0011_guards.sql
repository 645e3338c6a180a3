-- migrate:up

-- How the guards of a PSP stand in a process, for `paynode psp status`.
ALTER TABLE gateways ADD COLUMN vitals jsonb NOT NULL DEFAULT '{}';

-- The last thing an operator said of a breaker; every gateway process does it with its next sign of life.
CREATE TABLE breaker_orders (
    psp text NOT NULL,
    -- A kind of operation, or inquiry.
    operation text NOT NULL,
    -- trip: open until it is reset. reset: closed, and what was counted is forgotten.
    action text NOT NULL CHECK (action IN ('trip', 'reset')),
    -- Rises with each order, so that a second reset is not taken for the first.
    number bigint NOT NULL DEFAULT 1,
    ordered_by text NOT NULL,
    ordered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (psp, operation)
);

GRANT SELECT ON breaker_orders TO paynode_gateway, paynode_reader;
