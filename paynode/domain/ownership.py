"""How workers share partitions: what one sees of the others, and what it does about it."""

from __future__ import annotations

from dataclasses import dataclass

from paynode.domain.batch import Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a worker sees around it.

    `live` counts the workers that live, this one among them; `before` those of them whose id sorts before its own.
    `vacant` counts the partitions that nobody owns or whose lease has ended, `orphaned` those whose owner's session is
    gone.
    """

    live: int
    before: int
    vacant: int
    orphaned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A partition that is ours now.

    `owner_before` did not give it back; `unclean_deaths` counts the owners in a row that died over it.
    """

    lease: Lease
    owner_before: str | None
    unclean_deaths: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How many partitions to give back, and how many to take."""

    give: int
    take: int


def plan(*, owned: int, sight: Sight, partitions: int) -> Plan:
    """Each worker's share, exactly: what is left over by the division goes one each to the first by id.

    A share that is only rounded up would let 30 workers hold 32 partitions as 16 times two, the other 14 idle. Ids rise
    with time, so that whoever joins ranks last and moves nobody's odd one.
    """
    share = partitions // sight.live + (sight.before < partitions % sight.live)
    takeable = sight.vacant + sight.orphaned
    return Plan(give=max(0, owned - share), take=min(max(0, share - owned), takeable))
