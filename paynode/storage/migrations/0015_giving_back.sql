-- migrate:up

-- What a PSP did beside the charge that is the payment's: twice, or after it had proved that nothing was sent. It is given
-- back by an operation of its own, which names the PSP's charge that it undoes.
ALTER TABLE operations ADD COLUMN target text;
-- One word more: whoever knows fewer refuses none that he wrote himself.
-- squawk-ignore ban-drop-constraint
ALTER TABLE operations DROP CONSTRAINT operations_origin_check;
ALTER TABLE operations ADD CONSTRAINT operations_origin_check
CHECK (
    origin IN ('request', 'late_success', 'reversal', 'surplus') AND (origin = 'surplus') = (target IS NOT NULL)
) NOT VALID;
-- The actor looks whether a surplus is being given back; here it is looked at once more.
-- squawk-ignore require-concurrent-index-creation
CREATE UNIQUE INDEX operations_given_back_once ON operations (payment_id, psp, target) WHERE target IS NOT NULL;

-- Who told it, where that is not the PSP that had the operation by then.
ALTER TABLE evidence ADD COLUMN psp text;

-- A callback is evidence under its own id in the inbox, where the worker reads who told it; and a PSP may speak of what it
-- was to have before it was proved that nothing had been sent to it.
GRANT SELECT (id, psp) ON inbox TO paynode_committer;
GRANT SELECT (operation_id, psp, outcome) ON psp_attempts TO paynode_ingress;
