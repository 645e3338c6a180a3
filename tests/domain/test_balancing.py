"""Wallets, chains and cures, without a server."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paynode.domain.balancing import MerchantLook, WalletLook, differences, is_chain, is_repairable
from paynode.domain.ledger import NO_ENTRIES, Head, canonical, seal
from paynode.domain.payment import OperationKind, OperationState
from paynode.domain.psp import Outcome
from paynode.domain.reconciling import BreakKind
from paynode.domain.stuck import Cure, OpenOperation, cure, examine
from paynode.domain.verifying import Row
from paynode.domain.wallet import Delta

_RIGHT = Delta(pending=985, available=20)


def _look(wallet: Delta = _RIGHT, adjusted: Delta = _RIGHT, *, entries: int = 2) -> MerchantLook:
    one = WalletLook(currency="EUR", ledger=_RIGHT, adjusted=adjusted, wallet=wallet)
    return MerchantLook(merchant_id="mer", head=Head(seq=2, hash=bytes(32)), entries=entries, wallets=(one,))


@pytest.mark.parametrize(
    ("look", "kinds", "is_sound", "can_repair"),
    [
        (_look(), [], True, False),
        (_look(entries=1), [], False, False),
        (_look(Delta(pending=985)), [BreakKind.WALLET_DIFFERS], False, True),
        (_look(Delta(pending=1005)), [BreakKind.WALLET_DIFFERS], False, True),
        (_look(adjusted=Delta()), [BreakKind.ADJUSTMENTS_DIFFER], False, False),
        (_look(Delta(), Delta()), [BreakKind.WALLET_DIFFERS, BreakKind.ADJUSTMENTS_DIFFER], False, False),
    ],
)
def test_a_wallet_is_what_its_ledger_and_its_adjustments_say(
    look: MerchantLook, kinds: list[BreakKind], is_sound: bool, can_repair: bool
) -> None:
    found = list(differences(look))
    assert [one.kind for one in found] == kinds
    assert look.is_sound is is_sound
    assert is_repairable(found) is can_repair


def test_money_in_the_wrong_bucket_has_a_size_and_no_drift() -> None:
    [found] = differences(_look(Delta(pending=980, available=25)))
    assert (found.drift, found.size) == (0, 10)
    assert (found.evidence["ledger_pending"], found.evidence["found_pending"]) == (985, 980)


def _chain(length: int) -> list[Row]:
    at, entries = NO_ENTRIES, []
    for seq in range(1, length + 1):
        row = Row(
            entry_id="e",
            line=1,
            merchant_id="mer",
            seq=seq,
            payment_id="pay",
            operation_id="op",
            type="capture",
            debit="psp:sim:receivable",
            credit="merchant:pending",
            amount=seq,
            currency="EUR",
            at_ms=1,
            reference="ch_1",
            is_whole_ms=True,
            epoch=1,
            prev_hash=at.hash,
            hash=b"",
        )
        content = canonical(
            entry_id=row.entry_id,
            line=row.line,
            merchant_id=row.merchant_id,
            seq=seq,
            payment_id=row.payment_id,
            operation_id=row.operation_id,
            type=row.type,
            debit=row.debit,
            credit=row.credit,
            amount=row.amount,
            currency=row.currency,
            at_ms=row.at_ms,
            reference=row.reference,
        )
        entries.append(replace(row, hash=seal(at.hash, content)))
        at = Head(seq=seq, hash=entries[-1].hash)
    return entries


def test_a_chain_leads_from_one_head_to_the_other() -> None:
    chain = _chain(4)
    heads = [NO_ENTRIES, *(Head(seq=one.seq, hash=one.hash) for one in chain)]
    assert is_chain(NO_ENTRIES, heads[4], chain)
    assert is_chain(heads[2], heads[4], chain[2:])
    assert is_chain(heads[2], heads[2], [])
    assert not is_chain(NO_ENTRIES, heads[4], chain[:3])
    assert not is_chain(NO_ENTRIES, heads[4], [*chain[:1], *chain[2:]])
    assert not is_chain(heads[1], heads[4], chain[2:])
    for changed in (
        replace(chain[1], amount=7),
        replace(chain[1], prev_hash=bytes(32)),
        replace(chain[1], hash=bytes(32)),
        replace(chain[1], is_whole_ms=False),
    ):
        assert not is_chain(NO_ENTRIES, heads[4], [*chain[:1], changed, *chain[2:]])


def _operation(**changes: object) -> OpenOperation:
    operation = OpenOperation(
        id="op",
        payment_id="pay",
        merchant_id="mer",
        psp="sim",
        kind=OperationKind.SALE,
        state=OperationState.UNKNOWN,
        amount=1000,
        currency="EUR",
        created_ms=1,
        is_pos=False,
        is_in_review=False,
        is_stuck=True,
        has_attempt=True,
        outcome=Outcome.UNKNOWN,
    )
    return replace(operation, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("has_attempt", "outcome", "by"),
    [
        (False, None, Cure.SUBMIT),
        (True, None, Cure.SUBMIT),
        (True, Outcome.UNKNOWN, Cure.INQUIRE),
        (True, Outcome.APPROVED, Cure.INQUIRE),
        (True, Outcome.PENDING, Cure.INQUIRE),
        (True, Outcome.ABSENT, Cure.INQUIRE),
        (True, Outcome.REVERSED, Cure.INQUIRE),
        (True, Outcome.HELD, Cure.INQUIRE),
        (True, Outcome.DECLINED, Cure.TELL),
        (True, Outcome.EXPIRED, Cure.TELL),
    ],
)
def test_what_may_have_moved_money_is_asked_about_and_what_did_not_is_told(
    has_attempt: bool, outcome: Outcome | None, by: Cure
) -> None:
    assert cure(_operation(has_attempt=has_attempt, outcome=outcome)) is by


def test_nothing_is_wrong_with_what_somebody_is_at() -> None:
    assert examine(_operation(is_stuck=False)) is None
    stuck = examine(_operation())
    assert stuck is not None
    assert (stuck.kind, stuck.size, stuck.evidence["attempt"]) == (BreakKind.STUCK, 0, "unknown")
    asked = examine(_operation(is_stuck=False, state=OperationState.REVIEW))
    assert asked is not None
    assert asked.kind is BreakKind.IN_REVIEW
