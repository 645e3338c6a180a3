-- name: make_months
-- In a function that runs with its owner's rights: nobody else may make tables.
SELECT made, held_up FROM make_ledger_months();
