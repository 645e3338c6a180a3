"""Payouts, write-offs, and what operators put right."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from paynode.domain.adjusting import adjust
from paynode.domain.booking import Effects, MerchantBooks
from paynode.domain.mending import BooksAdjustment
from paynode.domain.money import Money
from paynode.domain.moving import end_payout, move, pay_out
from paynode.domain.payouts import PayoutState
from paynode.domain.postings import AVAILABLE, LOSS, Posting, suspense
from paynode.domain.publishing import OutsideEvent, OutsideType, PayoutEnd, PayoutOrder, Result
from paynode.domain.wallet import Wallet
from tests.domain.making import MERCHANT, around, new_id
from tests.domain.test_moving import event, movement

CREATE, PAID, FAILED = OutsideType.PAYOUT_CREATE, OutsideType.PAYOUT_PAID, OutsideType.PAYOUT_FAILED
WRITE_OFF: Final = OutsideType.WALLET_WRITE_OFF


def books(*, available: int = 0, pending: int = 0, reserve: int = 0) -> MerchantBooks:
    wallet = Wallet(currency="EUR", available=available, pending=pending, reserve=reserve, version=1)
    return MerchantBooks(merchant_id=MERCHANT, wallets={"EUR": wallet})


def asked(held: MerchantBooks, amount: int) -> tuple[MerchantBooks, Effects, OutsideEvent]:
    order = PayoutOrder(money=Money(amount=amount, currency="EUR"), reference="po-1")
    one = event(CREATE, order)
    held, effects = pay_out(held, one, order, None, around())
    return held, effects, one


def ended(held: MerchantBooks, how: OutsideType, payout_id: str) -> tuple[MerchantBooks, Effects]:
    end = PayoutEnd(payout_id=payout_id)
    return end_payout(held, event(how, end), end, None, around())


def lines(effects: Effects) -> list[tuple[str, str, str, int]]:
    postings = [entry.posting for entry in effects.entries]
    return [(one.type, one.debit, one.credit, one.money.amount) for one in postings]


def verdict(effects: Effects) -> tuple[Result, str | None]:
    assert effects.verdict is not None
    return effects.verdict.result, effects.verdict.code


def test_a_payout_leaves_what_is_available_and_then_the_bank() -> None:
    held, effects, order = asked(books(available=1000), 600)
    assert lines(effects) == [("payout", "merchant:available", "payout_transit", 600)]
    assert (held.wallet("EUR").available, verdict(effects)) == (400, (Result.APPLIED, None))
    held, effects = ended(held, PAID, order.id)
    assert lines(effects) == [("payout_paid", "payout_transit", "bank", 600)]
    assert effects.payout is not None
    assert (effects.payout.state, held.payouts, held.wallet("EUR").available) == (PayoutState.PAID, {}, 400)


def test_one_that_failed_comes_back() -> None:
    held, _, order = asked(books(available=1000), 600)
    held, effects = ended(held, FAILED, order.id)
    assert lines(effects) == [("payout_failed", "payout_transit", "merchant:available", 600)]
    assert held.wallet("EUR").available == 1000


@pytest.mark.parametrize(("first", "second"), [(PAID, PAID), (PAID, FAILED), (FAILED, PAID)])
def test_one_ends_once(first: OutsideType, second: OutsideType) -> None:
    held, _, order = asked(books(available=1000), 600)
    held, _ = ended(held, first, order.id)
    held, effects = ended(held, second, order.id)
    assert (lines(effects), verdict(effects)) == ([], (Result.REFUSED, "payout_not_open"))


def test_both_ends_have_one_identity_so_that_the_database_takes_one() -> None:
    held, _, order = asked(books(available=1000), 600)
    kinds = {ended(held, how, order.id)[1].adjustments[0].fact.identity for how in (PAID, FAILED)}
    assert len(kinds) == 1


def test_the_end_of_what_never_was_is_refused() -> None:
    assert verdict(ended(books(available=5), PAID, new_id())[1]) == (Result.REFUSED, "payout_not_open")


@pytest.mark.parametrize(
    ("held", "payable"),
    [
        (books(available=1000), 1000),
        (books(available=1000, pending=500), 1000),
        (books(available=1000, pending=-300), 700),
        (books(available=1000, pending=-1500), 0),
        (books(available=-5), 0),
    ],
)
def test_what_is_owed_elsewhere_is_not_paid_out(held: MerchantBooks, payable: int) -> None:
    assert verdict(asked(held, payable + 1)[1]) == (Result.REFUSED, "insufficient_funds")
    if payable:
        assert verdict(asked(held, payable)[1]) == (Result.APPLIED, None)


def test_a_write_off_pays_a_debt_and_no_more() -> None:
    held = books(available=-300)
    for amount, found in ((301, (Result.REFUSED, "nothing_to_write_off")), (300, (Result.APPLIED, None))):
        one = movement(WRITE_OFF, amount)
        after, effects = move(held, one, one.data, None, around())  # type: ignore[arg-type]
        assert verdict(effects) == found
    assert lines(effects) == [("write_off", "loss", "merchant:available", 300)]
    assert after.wallet("EUR").available == 0


def test_what_two_operators_have_decided_is_posted() -> None:
    posting = Posting(
        type="adjustment", debit=suspense("sim"), credit=AVAILABLE, money=Money(amount=40, currency="EUR")
    )
    one = BooksAdjustment(id=new_id(), posting=posting, payment_id=None, reference="case 7")
    held, effects = adjust(books(), one, around())
    assert lines(effects) == [("adjustment", "suspense:sim", "merchant:available", 40)]
    assert (held.wallet("EUR").available, effects.adjustments[0].fact.identity) == (40, (one.id, "adjustment", 0))
    loss = replace(one, posting=replace(posting, debit=AVAILABLE, credit=LOSS))
    assert adjust(books(), loss, around())[0].wallet("EUR").available == -40
