"""Token buckets of merchants, and the fields that tell of them."""

from __future__ import annotations

from typing import Any

import http_sf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.http import rate_fields
from paynode.http.quotas import Quotas, Standing, Waits
from paynode.http.work import Work


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def quotas(clock: Clock, *, quota: int = 5, window_s: float = 10.0, buckets_max: int = 100) -> Quotas:
    limited = {Work.CHECKOUT: quota, Work.READ: 2 * quota}
    return Quotas(limited, window_s=window_s, buckets_max=buckets_max, clock=clock)


def took(buckets: Quotas, merchant: str = "m", work: Work = Work.CHECKOUT) -> Standing:
    standing = buckets.take(merchant, work)
    assert standing is not None
    return standing


def test_as_many_as_the_quota_at_once_and_not_one_more() -> None:
    buckets = quotas(Clock())
    assert [took(buckets).remaining for _ in range(5)] == [4, 3, 2, 1, 0]
    refused = took(buckets)
    assert refused.remaining == 0
    assert refused.retry_after_s == pytest.approx(2.0)
    assert refused.reset_s == pytest.approx(10.0)


def test_a_refusal_costs_nothing() -> None:
    clock = Clock()
    buckets = quotas(clock)
    for _ in range(1000):
        took(buckets)
    clock.now += 2.0
    assert took(buckets).retry_after_s is None
    assert took(buckets).retry_after_s == pytest.approx(2.0)


def test_who_waits_as_long_as_he_was_told_is_let_in() -> None:
    clock = Clock()
    buckets = quotas(clock)
    for _ in range(50):
        standing = took(buckets)
        clock.now += standing.retry_after_s or 0.0
        assert standing.retry_after_s is None or took(buckets).retry_after_s is None


def test_merchants_and_classes_do_not_share() -> None:
    buckets = quotas(Clock())
    for _ in range(6):
        took(buckets)
    assert took(buckets, "other").remaining == 4
    assert took(buckets, work=Work.READ).remaining == 9


def test_a_class_without_a_quota_is_not_limited() -> None:
    buckets = quotas(Clock())
    assert buckets.take("m", Work.CALLBACK) is None
    assert len(buckets) == 0


def test_what_is_given_back_can_be_taken_again() -> None:
    buckets = quotas(Clock())
    for _ in range(5):
        took(buckets)
    buckets.give_back("m", Work.CHECKOUT)
    buckets.give_back("m", Work.CALLBACK)
    assert (took(buckets).retry_after_s, took(buckets).remaining) == (None, 0)


def test_the_memory_is_bounded_and_the_bucket_not_used_for_longest_goes_first() -> None:
    buckets = quotas(Clock(), quota=1000, buckets_max=10)
    for number in range(500):
        took(buckets, f"merchant-{number}")
        assert took(buckets, "steady").remaining == 999 - number, "it is of use all the time, and never forgotten"
        assert len(buckets) <= 10
    assert took(buckets, "merchant-0").remaining == 999


def test_of_each_merchant_and_class_only_so_many_wait_and_nobody_is_remembered_who_does_not() -> None:
    waits = Waits({Work.CHECKOUT: 2, Work.POS: 1})
    assert [waits.begin("m", Work.CHECKOUT) for _ in range(3)] == [True, True, False]
    assert waits.begin("m", Work.POS), "another class"
    assert waits.begin("other", Work.CHECKOUT), "another merchant"
    waits.end("m", Work.CHECKOUT)
    assert [waits.begin("m", Work.CHECKOUT) for _ in range(2)] == [True, False]
    for merchant, work in (("m", Work.CHECKOUT), ("m", Work.CHECKOUT), ("m", Work.POS), ("other", Work.CHECKOUT)):
        waits.end(merchant, work)
    assert len(waits) == 0


@given(pauses=st.lists(st.floats(min_value=0, max_value=3), min_size=1, max_size=200), quota=st.integers(1, 50))
def test_in_no_window_are_more_let_in_than_the_bucket_and_its_refill(pauses: list[float], quota: int) -> None:
    clock = Clock()
    buckets, let_in = quotas(clock, quota=quota), list[float]()
    for pause_s in pauses:
        clock.now += pause_s
        standing = took(buckets)
        assert 0 <= standing.remaining < quota
        if standing.retry_after_s is None:
            let_in.append(clock.now)
    for number, begin in enumerate(let_in):
        for count, end in enumerate(let_in[number:], 1):
            assert count <= quota + (end - begin) * quota / 10.0 + 1e-3


def test_the_fields_are_structured_and_say_what_the_draft_says() -> None:
    fields = rate_fields.of_quota("checkout", Standing(quota=5, remaining=3, reset_s=3.2), window_s=10.0)
    assert fields == {"RateLimit-Policy": '"checkout";q=5;w=10', "RateLimit": '"checkout";r=3;t=4'}
    for field in rate_fields.of_places("overload", 7, retry_after_s=1).values():
        members: Any = http_sf.parse(field.encode(), tltype="list")
        [(name, _)] = members
        assert name == "overload"
