-- migrate:up

-- What is not processed yet. A row leaves in the transaction of its effect: its deletion is the claim of that effect.
CREATE TABLE outbox (
    id uuid PRIMARY KEY,
    stream text NOT NULL,
    type text NOT NULL,
    -- NULL: what an outside publisher said, requeued. It says itself whose it is, and nobody has verified it yet; all
    -- else is about an operation.
    merchant_id uuid,
    payment_id uuid,
    operation_id uuid,
    body jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Not to be published before this; rows of the future are published by the relay.
    available_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- NULL: the relay publishes it when it is due. Else: when it was last put on its stream, or was about to be.
    published_at timestamptz,
    republished integer NOT NULL DEFAULT 0
) WITH (
    -- Every row is inserted and deleted within milliseconds: vacuum by count, not by a share of nothing.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 5000
);

CREATE INDEX outbox_due ON outbox (available_at) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;
CREATE INDEX outbox_operation ON outbox (operation_id);
-- A partition's own rows in their order, for the time in which Redis is away.
CREATE INDEX outbox_stream ON outbox (stream, available_at, id);

-- Every verified callback, raw and read.
CREATE TABLE inbox (
    id uuid PRIMARY KEY,
    psp text NOT NULL,
    event_id text NOT NULL,
    our_reference text NOT NULL,
    raw bytea NOT NULL,
    claim jsonb NOT NULL,
    -- NULL: no payment of ours has this reference (yet).
    payment_id uuid,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (psp, event_id)
);

CREATE INDEX inbox_unmatched ON inbox (received_at) WHERE payment_id IS NULL;

-- One try of an operation at a PSP, committed before its first byte leaves.
CREATE TABLE psp_attempts (
    id uuid PRIMARY KEY,
    operation_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    psp text NOT NULL,
    path text NOT NULL,
    -- The bytes, so that a second sending is the same to the PSP.
    request bytea NOT NULL,
    gateway text NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Nothing is sent after this ...
    send_by timestamptz NOT NULL,
    -- ... and nobody waits for an answer after this.
    deadline_at timestamptz NOT NULL,
    sends integer NOT NULL DEFAULT 1,
    outcome text CHECK (outcome IN (
        'approved', 'declined', 'pending', 'expired', 'absent', 'reversed', 'held', 'not_sent', 'unknown'
    )),
    reason text,
    psp_reference text,
    concluded_at timestamptz,
    CONSTRAINT psp_attempts_send_before_deadline CHECK (send_by < deadline_at)
);

-- The claim. While an attempt may have been sent, no other attempt of the operation can begin, at any PSP.
CREATE UNIQUE INDEX psp_attempts_claim ON psp_attempts (operation_id) WHERE outcome IS DISTINCT FROM 'not_sent';
CREATE INDEX psp_attempts_payment ON psp_attempts (payment_id);
-- Whether a command is a retry: few attempts are not sent, and this finds them.
CREATE INDEX psp_attempts_not_sent ON psp_attempts (operation_id) WHERE outcome = 'not_sent';

-- Who owns a partition. `epoch` rises with every take and is checked by every batch transaction.
CREATE TABLE partitions (
    partition integer PRIMARY KEY CHECK (partition >= 0),
    owner text,
    epoch bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    -- The session that took it: a lease is over when its session is gone. NULL: nobody can tell, it counts as alive.
    backend_pid integer,
    backend_start timestamptz,
    -- Owners in a row that died before what they had found pending was through.
    unclean_deaths integer NOT NULL DEFAULT 0,
    -- The last committed batch: how an owner whose COMMIT was cut off learns what became of it.
    last_batch uuid
);

CREATE TABLE workers (
    id text PRIMARY KEY,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    alive_until timestamptz NOT NULL
);

-- What only one process does at a time (the relay).
CREATE TABLE leases (
    name text PRIMARY KEY,
    owner text,
    lease_until timestamptz NOT NULL
);

CREATE TABLE dead_letters (
    id uuid PRIMARY KEY,
    stream text NOT NULL,
    entry_id text NOT NULL,
    -- The outbox row that it was, if it was one.
    row_id uuid,
    -- What recognises it: the row's id, or the id that an outside publisher gave.
    event_id uuid,
    type text,
    merchant_id uuid,
    payment_id uuid,
    reason text NOT NULL,
    error text NOT NULL,
    attempts integer NOT NULL,
    -- The original fields, as they came.
    fields jsonb NOT NULL,
    -- The outbox row that a requeue makes; without it nothing can be requeued.
    message jsonb,
    first_failed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    status text NOT NULL DEFAULT 'dead' CHECK (status IN ('dead', 'requeued', 'discarded')),
    resolved_at timestamptz,
    resolved_by text,
    CONSTRAINT dead_letters_resolved_by_somebody CHECK ((status = 'dead') = (resolved_by IS NULL))
);

-- The same entry without a row twice is one letter. (What died, was requeued and died again is two.)
CREATE UNIQUE INDEX dead_letters_entry ON dead_letters (stream, entry_id) WHERE row_id IS NULL AND status = 'dead';
CREATE INDEX dead_letters_open ON dead_letters (id) WHERE status = 'dead';
CREATE INDEX dead_letters_payment ON dead_letters (payment_id) WHERE status = 'dead';
