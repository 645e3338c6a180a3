"""The two pure decisions of ownership and relay, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.actors.ownership import Plan, plan
from paynode.actors.relay import lost
from paynode.domain.road import Pointer, Published
from tests.support.properties import law


@pytest.mark.parametrize(
    ("owned", "live", "partitions", "give", "take"),
    [
        (0, 1, 32, 0, 32),
        (32, 1, 32, 0, 0),
        (32, 2, 32, 16, 0),
        (0, 2, 32, 0, 16),
        (16, 2, 32, 0, 0),
        (16, 3, 32, 5, 0),  # a share is rounded up: 11
        (0, 3, 32, 0, 11),
        (10, 3, 32, 0, 1),
        (1, 100, 32, 0, 0),  # more workers than partitions: one each, for some
        (2, 100, 32, 1, 0),
        (0, 100, 32, 0, 1),
        (0, 1, 1, 0, 1),
    ],
)
def test_a_share_is_fair(owned: int, live: int, partitions: int, give: int, take: int) -> None:
    assert plan(owned=owned, live=live, partitions=partitions) == Plan(give=give, take=take)


@law(200)
@given(st.integers(0, 100), st.integers(1, 120), st.integers(1, 100))
def test_nobody_gives_and_takes_and_the_shares_cover_all_partitions(owned: int, live: int, partitions: int) -> None:
    todo = plan(owned=owned, live=live, partitions=partitions)
    assert 0 in (todo.give, todo.take)
    assert 0 <= todo.give <= owned
    share = owned - todo.give + todo.take
    assert share * live >= partitions, "else a partition would belong to nobody"
    assert (share - 1) * live < partitions, "else somebody would hold more than a share"


ROW_AT_MS, MARGIN_MS = 1_000_000, 5_000


@pytest.mark.parametrize(
    ("first_entry_ms", "is_lost"),
    [
        (None, True),  # the stream is empty
        (ROW_AT_MS - 60_000, False),  # a backlog: ours stands somewhere behind
        (ROW_AT_MS, False),
        (ROW_AT_MS + MARGIN_MS, False),  # clocks differ
        (ROW_AT_MS + MARGIN_MS + 1, True),
    ],
)
def test_a_row_is_lost_when_its_entry_cannot_be_in_the_stream(first_entry_ms: int | None, is_lost: bool) -> None:
    pointer = Pointer(stream="events", ref="one")
    old = [Published(pointer=pointer, at_ms=ROW_AT_MS)]
    assert lost(old, {"events": first_entry_ms}, margin_ms=MARGIN_MS) == ([pointer] if is_lost else [])


def test_each_row_is_judged_by_its_own_stream_and_the_order_is_kept() -> None:
    rows = [
        Published(pointer=Pointer(stream=stream, ref=ref), at_ms=ROW_AT_MS)
        for stream, ref in [("empty", "c"), ("full", "b"), ("empty", "a")]
    ]
    missing = lost(rows, {"empty": None, "full": ROW_AT_MS - 1}, margin_ms=MARGIN_MS)
    assert [pointer.ref for pointer in missing] == ["c", "a"]
