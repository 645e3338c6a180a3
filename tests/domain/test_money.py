"""Amounts and fees: integers, within bounds, rounded one way."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN, FeePlan, Money
from paynode.domain.terms import Split, Terms
from tests.support.properties import law

amounts = st.integers(AMOUNT_MIN, AMOUNT_MAX)
plans = st.builds(FeePlan, fixed=st.integers(0, 10**6), basis_points=st.integers(0, 10_000))


def euros(amount: int) -> Money:
    return Money(amount=amount, currency="EUR")


@pytest.mark.parametrize("amount", [1.0, 1.5, True, "1", Decimal(1), None])
def test_an_amount_is_an_int_and_nothing_that_looks_like_one(amount: object) -> None:
    with pytest.raises(TypeError):
        Money(amount=amount, currency="EUR")  # type: ignore[arg-type]


@pytest.mark.parametrize("currency", ["", "EU", "EURO"])
def test_a_currency_has_three_letters(currency: str) -> None:
    with pytest.raises(ValueError, match="ISO 4217"):
        Money(amount=1, currency=currency)


def test_two_currencies_are_never_mixed() -> None:
    dollars = Money(amount=1, currency="USD")
    with pytest.raises(ValueError, match="cannot mix"):
        euros(1) + dollars
    with pytest.raises(ValueError, match="cannot mix"):
        euros(1) - dollars


@law(200)
@given(amounts, amounts)
def test_money_adds_and_subtracts_like_integers(one: int, other: int) -> None:
    assert euros(one) + euros(other) == euros(one + other)
    assert euros(one) - euros(other) == euros(one - other)
    assert -euros(one) + euros(one) == euros(0)


@pytest.mark.parametrize(
    ("amount", "fixed", "basis_points", "fee"),
    [
        (1000, 0, 0, 0),
        (1000, 25, 0, 25),
        (1000, 0, 150, 15),
        (1000, 25, 150, 40),
        (33, 0, 150, 0),  # 0.495
        (34, 0, 150, 1),  # 0.51
        (100, 0, 150, 2),  # 1.5: half rounds up
        (300, 0, 150, 5),  # 4.5: always up, not to the even one
        (1, 0, 5000, 1),  # 0.5
        (1, 0, 4999, 0),
        (10, 25, 150, 10),  # more than the amount: the amount
        (AMOUNT_MAX, 0, 10_000, AMOUNT_MAX),
        (AMOUNT_MAX, 1, 10_000, AMOUNT_MAX),
        (AMOUNT_MAX, 0, 1, 10**8),
    ],
)
def test_fees(amount: int, fixed: int, basis_points: int, fee: int) -> None:
    terms = Terms(fees=FeePlan(fixed=fixed, basis_points=basis_points))
    assert terms.split(amount, has_fixed_fee=True) == Split(fee=fee, reserve=0, rest=amount - fee)


@law(500)
@given(plans, amounts)
def test_a_fee_is_exact_and_never_more_than_what_it_is_taken_from(plan: FeePlan, amount: int) -> None:
    fee = Terms(fees=plan).split(amount, has_fixed_fee=True).fee
    exact = Decimal(amount) * plan.basis_points / 10_000
    assert fee == min(amount, plan.fixed + int(exact.quantize(Decimal(1), ROUND_HALF_UP)))
    assert 0 <= fee <= amount
    assert type(fee) is int


@law(200)
@given(plans, amounts, amounts)
def test_a_fee_grows_with_the_amount(plan: FeePlan, one: int, other: int) -> None:
    less, more = sorted((one, other))
    assert _fee(plan, less) <= _fee(plan, more)


def _fee(plan: FeePlan, amount: int) -> int:
    return Terms(fees=plan).split(amount, has_fixed_fee=True).fee
