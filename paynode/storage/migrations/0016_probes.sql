-- migrate:up

-- Who may probe a PSP whose breakers are open: one process at a time, for each kind of call.
CREATE TABLE probes (
    psp text NOT NULL,
    -- A kind of operation, or inquiry.
    operation text NOT NULL,
    -- Rises with each probe, so that one who comes late ends no lease but its own.
    number bigint NOT NULL DEFAULT 1,
    -- Nobody may take it before: the end of the lease while a probe is out, of the pause after one that has failed.
    until timestamptz NOT NULL,
    PRIMARY KEY (psp, operation)
);

GRANT SELECT, INSERT, UPDATE ON probes TO paynode_gateway;
GRANT SELECT ON probes TO paynode_reader;
