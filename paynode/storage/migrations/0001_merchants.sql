-- migrate:up

CREATE TABLE merchants (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    -- What paynode keeps of a capture: minor units, and hundredths of a percent.
    fee_fixed bigint NOT NULL CHECK (fee_fixed >= 0),
    fee_basis_points integer NOT NULL CHECK (fee_basis_points BETWEEN 0 AND 10000),
    -- In the order in which they are tried.
    psps text[] NOT NULL CHECK (cardinality(psps) >= 1),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE api_keys (
    id uuid PRIMARY KEY,
    merchant_id uuid NOT NULL REFERENCES merchants (id),
    -- The first characters of the key: enough to find the row, worthless to an attacker.
    prefix text NOT NULL UNIQUE,
    -- sha256 suffices: the key is 256 random bits, which no dictionary holds.
    secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at timestamptz
);

CREATE INDEX api_keys_merchant ON api_keys (merchant_id);
