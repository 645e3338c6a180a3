"""Wallet movements of internal services: never below zero, never half, and each said to be done or refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.booking import Effects, MerchantBooks, Surroundings
from paynode.domain.ledger import Entry
from paynode.domain.money import AMOUNT_MAX, Money
from paynode.domain.moving import BALANCE_MAX, move, on_request
from paynode.domain.payment import OperationKind, Payment
from paynode.domain.postings import AVAILABLE, SUSPENSE_INTERNAL
from paynode.domain.publishing import (
    CaptureRequest,
    OutsideData,
    OutsideEvent,
    OutsideType,
    RefundRequest,
    Result,
    WalletMovement,
)
from paynode.domain.wallet import Delta, Wallet
from tests.domain.making import MERCHANT, PAYMENT, POLICY, History, new_id, payment
from tests.support.properties import law

CREDIT, DEBIT = OutsideType.WALLET_CREDIT, OutsideType.WALLET_DEBIT
AROUND = Surroundings(
    now_ms=1_700_000_000_000, new_id=new_id, between_ms=lambda low, high: (low + high) // 2, epoch=3, policy=POLICY
)

movements = st.lists(
    st.tuples(st.sampled_from((CREDIT, DEBIT)), st.integers(1, 2000), st.sampled_from(("EUR", "JPY"))), max_size=30
)


def event(event_type: OutsideType, data: OutsideData) -> OutsideEvent:
    return OutsideEvent(
        id=new_id(),
        publisher="billing",
        source="billing",
        type=event_type,
        at=datetime(2026, 1, 1, tzinfo=UTC),
        merchant_id=MERCHANT,
        data=data,
        content="{}",
        content_sha256=bytes(32),
    )


def movement(event_type: OutsideType, amount: int, currency: str = "EUR") -> OutsideEvent:
    data = WalletMovement(money=Money(amount=amount, currency=currency), reason="a bonus", reference="ref-1")
    return event(event_type, data)


def books(**available: int) -> MerchantBooks:
    wallets = {
        currency: Wallet(currency=currency, available=amount, pending=10_000, version=1)
        for currency, amount in available.items()
    }
    return MerchantBooks(merchant_id=MERCHANT, wallets=wallets)


@law(300)
@given(movements)
def test_the_wallet_is_what_a_simple_sum_says_and_never_below_zero(
    asked: Sequence[tuple[OutsideType, int, str]],
) -> None:
    held, model, ledger = MerchantBooks(merchant_id=MERCHANT), {"EUR": 0, "JPY": 0}, list[Entry]()
    for event_type, amount, currency in asked:
        held, effects = moved(held, movement(event_type, amount, currency), None)
        ledger += effects.entries
        change = amount if event_type is CREDIT else -amount
        is_possible = model[currency] + change >= 0
        model[currency] += change if is_possible else 0
        assert effects.verdict is not None
        assert effects.verdict.result is (Result.APPLIED if is_possible else Result.REFUSED)
        assert bool(effects.entries) is bool(effects.adjustments) is is_possible
        assert {code: held.wallet(code).balance for code in model} == model
    for currency, total in model.items():
        delta = Delta.of([entry.posting for entry in ledger if entry.posting.money.currency == currency])
        assert (delta.total, delta.available) == (total, total)
    assert [entry.seq for entry in ledger] == [*range(1, len(ledger) + 1)]
    assert all(after.prev_hash == before.hash for before, after in pairwise(ledger))


@pytest.mark.parametrize(
    ("event_type", "debit", "credit"),
    [(CREDIT, SUSPENSE_INTERNAL, AVAILABLE), (DEBIT, AVAILABLE, SUSPENSE_INTERNAL)],
)
def test_a_movement_is_one_posting_about_no_payment(event_type: OutsideType, debit: str, credit: str) -> None:
    asked = movement(event_type, 500)
    _, effects = moved(books(EUR=500), asked, "row")
    [entry] = effects.entries
    assert (entry.posting.debit, entry.posting.credit, entry.posting.money.amount) == (debit, credit, 500)
    assert (entry.payment_id, entry.operation_id, entry.reference, entry.epoch) == (None, asked.id, "ref-1", 3)
    assert effects.claim == "row"


def test_a_debit_takes_what_is_available_to_the_last_cent_and_not_what_is_pending() -> None:
    after, _ = moved(books(EUR=500), movement(DEBIT, 500), None)
    assert after.wallet("EUR").available == 0
    _, effects = moved(after, movement(DEBIT, 1), None)
    assert refusal(effects) == "insufficient_funds"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (movement(DEBIT, 1, "JPY"), "insufficient_funds"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(asked: OutsideEvent, code: str) -> None:
    before = books(EUR=500)
    after, effects = moved(before, asked, None)
    assert after is before
    assert refusal(effects) == code


def test_no_wallet_grows_beyond_what_sums_can_hold() -> None:
    full = books(EUR=BALANCE_MAX - AMOUNT_MAX)
    after, effects = moved(full, movement(CREDIT, AMOUNT_MAX), None)
    assert effects.entries
    _, effects = moved(after, movement(CREDIT, 1), None)
    assert refusal(effects) == "balance_limit"


@pytest.mark.parametrize(
    ("kind", "asked", "made"),
    [
        (OperationKind.SALE, RefundRequest(payment_id=PAYMENT, amount=300, reason="late"), OperationKind.REFUND),
        (OperationKind.AUTHORIZE, CaptureRequest(payment_id=PAYMENT, is_final=True), OperationKind.CAPTURE),
    ],
)
def test_a_request_of_a_publisher_becomes_the_operation_that_a_merchants_would(
    kind: OperationKind, asked: RefundRequest | CaptureRequest, made: OperationKind
) -> None:
    history = History(payment=payment(kind=kind)).succeed()
    told = event(OutsideType.REFUND_REQUEST, asked)
    _, after, effects = on_request(history.books, history.payment, told, asked, "row", AROUND)
    assert after is not None
    assert effects.verdict is not None
    assert (after.operations[-1].kind, after.operations[-1].id) == (made, told.id)
    assert (effects.verdict.result, effects.claim, effects.decided) == (Result.APPLIED, "row", None)
    assert [command.operation_id for command in effects.commands] == [told.id]


@pytest.mark.parametrize(
    ("about", "code"),
    [
        (None, "payment_unknown"),
        (payment(merchant_id=new_id()), "payment_unknown"),
        (payment(), "payment_not_refundable"),
    ],
)
def test_a_request_of_a_publisher_that_cannot_be_is_refused(about: Payment | None, code: str) -> None:
    asked = RefundRequest(payment_id=PAYMENT)
    told = event(OutsideType.REFUND_REQUEST, asked)
    before = books(EUR=500)
    after, same, effects = on_request(before, about, told, asked, None, AROUND)
    assert (after, same) == (before, about)
    assert refusal(effects) == code


def moved(before: MerchantBooks, asked: OutsideEvent, ref: str | None) -> tuple[MerchantBooks, Effects]:
    assert isinstance(asked.data, WalletMovement)
    return move(before, asked, asked.data, ref, AROUND)


def refusal(effects: Effects) -> str | None:
    assert effects.verdict is not None
    assert effects.verdict.result is Result.REFUSED
    assert (effects.entries, effects.adjustments) == ((), ())
    return effects.verdict.code
