"""The wallet is the fold of postings, and postings balance by construction."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.money import Money
from paynode.domain.postings import AVAILABLE, FEE_REVENUE, HELD, PENDING, RESERVE, Posting, receivable
from paynode.domain.wallet import Delta, Wallet
from tests.support.properties import law

BUCKETS = {PENDING: "pending", AVAILABLE: "available", RESERVE: "reserve", HELD: "held"}
accounts = st.sampled_from([*BUCKETS, FEE_REVENUE, receivable("sim"), "bank"])


@st.composite
def postings(draw: st.DrawFn) -> Posting:
    debit, credit = draw(st.lists(accounts, min_size=2, max_size=2, unique=True))
    money = Money(amount=draw(st.integers(1, 10**12)), currency="EUR")
    return Posting(type="move", debit=debit, credit=credit, money=money)


@law(300)
@given(st.lists(postings(), max_size=10))
def test_a_credit_raises_a_bucket_and_a_debit_lowers_it(moves: Sequence[Posting]) -> None:
    delta = Delta.of(moves)
    for account, bucket in BUCKETS.items():
        credited = sum(move.money.amount for move in moves if move.credit == account)
        debited = sum(move.money.amount for move in moves if move.debit == account)
        assert getattr(delta, bucket) == credited - debited


@law(300)
@given(st.lists(st.lists(postings(), max_size=4), max_size=6))
def test_the_wallet_after_many_facts_is_that_after_their_sum(facts: Sequence[Sequence[Posting]]) -> None:
    wallet = Wallet(currency="EUR")
    for moves in facts:
        wallet = wallet.apply(Delta.of(moves))
    whole = Wallet(currency="EUR").apply(Delta.of([move for moves in facts for move in moves]))
    assert (wallet.pending, wallet.available, wallet.reserve, wallet.held) == (
        whole.pending,
        whole.available,
        whole.reserve,
        whole.held,
    )
    assert wallet.balance == wallet.pending + wallet.available + wallet.reserve + wallet.held
    assert wallet.version == len(facts)


@pytest.mark.parametrize("amount", [0, -1])
def test_a_posting_moves_something(amount: int) -> None:
    with pytest.raises(ValueError, match="positive amount"):
        Posting(type="move", debit=PENDING, credit=AVAILABLE, money=Money(amount=amount, currency="EUR"))


def test_a_posting_has_two_accounts() -> None:
    with pytest.raises(ValueError, match="two accounts"):
        Posting(type="move", debit=PENDING, credit=PENDING, money=Money(amount=1, currency="EUR"))
