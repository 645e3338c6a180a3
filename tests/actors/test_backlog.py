"""Everybody gets a turn, each merchant's entries keep their order, and a hot one does not fill the memory."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from paynode.actors.backlog import Backlog, Turn
from paynode.actors.room import Room
from paynode.domain.road import Entry
from tests.support.properties import law

SHARE = 3


def entry(number: int, merchant: str) -> Entry:
    return Entry(id=f"{number}-0", fields={"ref": "", "merchant": merchant})


def room() -> Room:
    """For so many whole entries of one merchant as it has turns."""
    return Room(entries=1_000_000, whole=8 * SHARE)


def ids(turn: Turn) -> list[str]:
    return [*(one.id for one in turn.whole), *turn.ids]


@law(300)
@given(st.lists(st.sampled_from("aaab"), max_size=60), st.integers(1, 8))
def test_nothing_is_lost_or_doubled_and_each_merchants_order_is_kept(merchants: Sequence[str], count: int) -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.add(entry(number, merchant) for number, merchant in enumerate(merchants))
    taken: list[str] = []
    while turn := ids(backlog.take(count)):
        assert len(turn) <= count
        taken += turn
        backlog.settle(turn)
    assert len(backlog) == 0
    by_merchant = defaultdict[str, list[int]](list)
    for number in (int(one.split("-")[0]) for one in taken):
        by_merchant[merchants[number]].append(number)
    for merchant, numbers in by_merchant.items():
        assert numbers == [number for number, other in enumerate(merchants) if other == merchant]


def test_a_merchant_with_many_waiting_has_its_share_and_its_neighbour_the_next_turn() -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.add(entry(number, "hot") for number in range(1000))
    first = ids(backlog.take(100))
    assert len(first) == SHARE
    assert ids(backlog.take(100)) == [], "until one of them is settled"
    backlog.add([entry(1000, "quiet")])
    assert ids(backlog.take(100)) == ["1000-0"], "behind a thousand, and next"
    backlog.settle(first[:1])
    assert len(ids(backlog.take(100))) == 1


def test_only_the_next_few_are_kept_whole() -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.add(entry(number, "hot") for number in range(10))
    turn = backlog.take(SHARE)
    assert ([one.id for one in turn.whole], turn.ids) == (["0-0", "1-0", "2-0"], [])
    backlog.settle(ids(turn))
    turn = backlog.take(SHARE)
    assert (turn.whole, turn.ids) == ([], ["3-0", "4-0", "5-0"])


def test_those_who_were_served_go_to_the_end() -> None:
    backlog = Backlog(room(), share=2)
    backlog.add(entry(number, merchant) for number, merchant in enumerate("aabbcc"))
    assert ids(backlog.take(3)) == ["0-0", "1-0", "2-0"]
    assert ids(backlog.take(3)) == ["4-0", "5-0", "3-0"]


def test_entries_that_do_not_say_whose_they_are_are_not_held_to_a_share() -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.add(Entry(id=f"{number}-0", fields={"ref": ""}) for number in range(10))
    assert len(ids(backlog.take(100))) == 10


def test_who_has_long_been_alone_has_more_until_somebody_comes() -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.add(entry(number, "hot") for number in range(1000))
    for _ in range(100):
        turn = ids(backlog.take(1))
        assert len(turn) == 1
        backlog.settle(turn)
    turn = ids(backlog.take(1000))
    assert len(turn) == 50 * SHARE
    backlog.settle(turn)
    backlog.add([entry(1000, "quiet")])
    assert len(ids(backlog.take(1000))) == SHARE + 1
    assert len(ids(backlog.take(1000))) == 0, "and from then on a share like anybody's"


def test_beside_tills_nobody_counts_as_alone() -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.add(entry(number, "hot") for number in range(1000))
    for _ in range(100):
        backlog.settle(ids(backlog.take(1)))
    turn = ids(backlog.take(1000, is_beside_tills=True))
    assert len(turn) == SHARE
    backlog.settle(turn)
    assert len(ids(backlog.take(1000))) == 50 * SHARE, "and when they have gone it has more again"


def test_settling_what_was_never_taken_changes_nothing() -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.settle(["7-0"])
    backlog.add([entry(1, "a")])
    assert ids(backlog.take(1)) == ["1-0"]


@law(300)
@given(st.lists(st.sampled_from("aab"), max_size=40), st.integers(1, 9), st.sets(st.integers(0, 8)))
def test_what_was_begun_and_put_back_is_taken_again_before_all_else_of_its_merchant(
    merchants: Sequence[str], count: int, settled: set[int]
) -> None:
    backlog = Backlog(room(), share=SHARE)
    backlog.add(entry(number, merchant) for number, merchant in enumerate(merchants))
    begun = ids(backlog.take(count))
    done = [one for place, one in enumerate(begun) if place in settled]
    assert backlog.settle(done) == len(done)
    backlog.put_back()
    assert len(backlog) == backlog.in_hand == len(merchants) - len(done)
    taken: list[int] = []
    while turn := ids(backlog.take(count)):
        taken += [int(one.split("-")[0]) for one in turn]
        backlog.settle(turn)
    for merchant in set(merchants):
        mine = [number for number, other in enumerate(merchants) if other == merchant and f"{number}-0" not in done]
        assert [number for number in taken if merchants[number] == merchant] == mine
