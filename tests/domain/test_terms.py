"""A captured amount is divided so that nothing is lost, and its dates follow from the terms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.money import AMOUNT_MAX, FeePlan, shares
from paynode.domain.terms import DAY_MS, Availability, Split, Terms
from tests.support.properties import law


@pytest.mark.parametrize(
    ("amount", "weights", "parts"),
    [
        (100, (1, 1, 1), (34, 33, 33)),  # of equals the first
        (1, (2500, 2500, 5000), (0, 0, 1)),  # the largest remainder
        (2, (3300, 3300, 3400), (1, 0, 1)),
        (10, (0, 0, 10_000), (0, 0, 10)),
        (7, (10_000, 0, 0), (7, 0, 0)),
    ],
)
def test_what_is_left_goes_to_the_largest_remainder(
    amount: int, weights: tuple[int, ...], parts: tuple[int, ...]
) -> None:
    assert shares(amount, weights) == parts


@law(500)
@given(st.integers(1, AMOUNT_MAX), st.lists(st.integers(0, 10_000), min_size=1, max_size=6).filter(any))
def test_shares_sum_up_and_none_is_a_unit_off(amount: int, weights: list[int]) -> None:
    found = shares(amount, weights)
    assert sum(found) == amount
    for share, weight in zip(found, weights, strict=True):
        assert 0 <= share * sum(weights) - amount * weight + sum(weights) < 2 * sum(weights)


@law(300)
@given(st.integers(1, AMOUNT_MAX), st.integers(0, 5_000), st.integers(0, 5_000), st.integers(0, 2_000), st.booleans())
def test_a_split_is_the_whole(amount: int, kept: int, held: int, fixed: int, has_fixed: bool) -> None:
    terms = Terms(fees=FeePlan(fixed=fixed, basis_points=kept), reserve_basis_points=held)
    split = terms.split(amount, has_fixed_fee=has_fixed)
    assert split.fee + split.reserve + split.rest == amount
    assert min(split.fee, split.reserve, split.rest) >= 0


def test_a_fixed_fee_takes_what_is_left_and_no_more() -> None:
    terms = Terms(fees=FeePlan(fixed=50, basis_points=1000), reserve_basis_points=5000)
    assert terms.split(100, has_fixed_fee=True) == Split(fee=50, reserve=50, rest=0)
    assert terms.split(100, has_fixed_fee=False) == Split(fee=10, reserve=50, rest=40)


def test_dates() -> None:
    fees = FeePlan(fixed=0, basis_points=0)
    by_date = Terms(fees=fees, available_days=3, reserve_days=90)
    assert by_date.available_at_ms(1_000) == 1_000 + 3 * DAY_MS
    assert by_date.released_at_ms(1_000) == 1_000 + 90 * DAY_MS
    assert Terms(fees=fees, availability=Availability.SETTLEMENT).available_at_ms(1_000) is None
