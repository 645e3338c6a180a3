"""The two pure decisions of ownership and relay, as tables."""

from __future__ import annotations

from itertools import count
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.ownership import Plan, Sight, plan
from tests.support.properties import law


@pytest.mark.parametrize(
    ("owned", "live", "before", "free", "give", "take"),
    [
        (0, 1, 0, 32, 0, 32),
        (32, 1, 0, 0, 0, 0),
        (32, 2, 0, 0, 16, 0),
        (0, 2, 1, 0, 0, 0),  # its share, and nothing to take yet
        (0, 2, 1, 5, 0, 5),
        (0, 2, 1, 20, 0, 16),
        (16, 2, 0, 0, 0, 0),
        (16, 3, 0, 0, 5, 0),  # 32 by 3: 11, 11 and 10
        (16, 3, 1, 0, 5, 0),
        (0, 3, 2, 32, 0, 10),
        (10, 3, 0, 1, 0, 1),
        (1, 30, 0, 20, 0, 1),  # two each for two, and one for 28: nobody is idle
        (2, 30, 2, 20, 1, 0),
        (1, 100, 32, 0, 1, 0),  # more workers than partitions: one each, for the first
        (0, 100, 31, 1, 0, 1),
        (0, 100, 32, 1, 0, 0),
    ],
)
def test_a_share_is_fair(owned: int, live: int, before: int, free: int, give: int, take: int) -> None:
    sight = Sight(live=live, before=before, vacant=free - free // 2, orphaned=free // 2)
    assert plan(owned=owned, sight=sight, partitions=32) == Plan(give=give, take=take)


@law(200)
@given(st.integers(1, 100), st.integers(1, 120))
def test_the_shares_are_all_the_partitions_and_differ_by_one_at_most(partitions: int, live: int) -> None:
    plans = [
        plan(owned=0, sight=Sight(live=live, before=before, vacant=partitions, orphaned=0), partitions=partitions)
        for before in range(live)
    ]
    shares = [one.take for one in plans]
    assert sum(shares) == partitions
    assert max(shares) - min(shares) <= 1
    assert max(shares) == -(-partitions // live), "nobody holds more than a share that is rounded up"


@law(200)
@given(
    st.integers(1, 64),
    st.lists(st.tuples(st.sampled_from(["join", "die", "look"]), st.integers(0, 99)), max_size=60),
    st.randoms(use_true_random=False),
)
def test_whoever_comes_and_goes_all_partitions_are_soon_in_fair_shares(
    partitions: int, steps: list[tuple[str, int]], chance: Random
) -> None:
    """Each looks for itself, in any order, and acts on what it saw."""
    company = Company(partitions)
    company.join()
    for step, number in steps:
        name = sorted(company.held)[number % len(company.held)]
        if step == "join":
            company.join()
        elif step == "look":
            company.act(name)
        elif len(company.held) > 1:
            del company.held[name]
    # Give, then take: two looks of everybody. A third would change nothing.
    for _ in range(2):
        for name in chance.sample(sorted(company.held), len(company.held)):
            company.act(name)
    shares = [len(held) for held in company.held.values()]
    assert company.free() == set()
    assert sum(shares) == partitions, "no partition has two owners"
    assert max(shares) - min(shares) <= 1
    before = {name: set(held) for name, held in company.held.items()}
    for name in sorted(company.held):
        company.act(name)
    assert company.held == before, "nothing moves without a reason"


class Company:
    """Workers and what they hold, without time."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.held: dict[int, set[int]] = {}
        self._names = count()

    def join(self) -> None:
        self.held[next(self._names)] = set()

    def free(self) -> set[int]:
        return set(range(self.partitions)) - set().union(*self.held.values())

    def act(self, name: int) -> None:
        """One look of one worker, and what follows."""
        mine, free = self.held[name], self.free()
        sight = Sight(
            live=len(self.held), before=sum(other < name for other in self.held), vacant=len(free), orphaned=0
        )
        todo = plan(owned=len(mine), sight=sight, partitions=self.partitions)
        assert 0 in (todo.give, todo.take)
        mine -= set(sorted(mine)[len(mine) - todo.give :])
        mine |= set(sorted(free)[: todo.take])
