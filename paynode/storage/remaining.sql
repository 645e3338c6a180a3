-- name: find_due_work
-- Whether anything whose time has come is not processed yet, on streams of these forms. What is due later is not waited
-- for: an inquiry may be due tomorrow.
SELECT EXISTS (
    SELECT FROM outbox
    WHERE available_at <= clock_timestamp() AND stream LIKE ANY($1::text[])
)
