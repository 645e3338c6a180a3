-- Runs and their findings, as they are written.

-- name: begin_run
-- Before anything is looked at.
INSERT INTO reconciliation_runs (id, area, psp, is_full, inputs) VALUES ($1, $2, $3, $4, $5::jsonb)

-- name: note_breaks
-- A page of what was found. What was seen before has the id of then.
SELECT id::text AS id, kind, subject, state FROM note_breaks($1, $2::jsonb)

-- name: end_run
-- What was not found again is over.
SELECT end_reconciliation($1, $2::jsonb, $3::jsonb, $4, $5)
