-- migrate:up

-- Processes that call PSPs, each with what it knows alone: the state of its breakers, its calls under way. Written every
-- few seconds by the process itself, for `paynode status`. (`workers` are those that compete for partitions.)
CREATE TABLE gateways (
    id text NOT NULL,
    psp text NOT NULL,
    -- By kind of operation: closed, half_open or open.
    breakers jsonb NOT NULL,
    in_flight integer NOT NULL CHECK (in_flight >= 0),
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    alive_until timestamptz NOT NULL,
    PRIMARY KEY (id, psp)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON gateways TO paynode_gateway;
GRANT SELECT ON gateways TO paynode_reader;
