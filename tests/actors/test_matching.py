"""Callbacks that named nothing we knew: what becomes of each when its turn comes."""

from __future__ import annotations

from collections.abc import Sequence

from uuid_utils import uuid7

from paynode.actors.matching import Matcher, MatchingRules
from paynode.domain.accepting import Operated
from paynode.domain.callbacks import Aside
from paynode.domain.errors import Unavailable
from paynode.domain.ids import public
from paynode.domain.partition import partition_of
from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Answer, Outcome
from paynode.domain.road import events_stream
from paynode.runtime.stopping import Stop

RULES = MatchingRules(interval_s=0.01, page_size=3, look_for_s=60, look_max_s=8)
MERCHANT = "01890000-0000-7000-8000-000000000001"


class Inbox:
    """Gives what it was given, and remembers what was done with it."""

    def __init__(self, *asides: Aside) -> None:
        self.asides = asides
        self.asked: list[tuple[int, float, float]] = []
        self.facts: list[tuple[Fact, str]] = []
        self.questions: list[Aside] = []
        self.is_faster_elsewhere = False
        self.is_away = False

    async def take_aside(self, count: int, *, look_for_s: float, look_max_s: float) -> Sequence[Aside]:
        self.asked.append((count, look_for_s, look_max_s))
        if self.is_away:
            raise Unavailable("gone")
        return self.asides

    async def match(self, aside: Aside, fact: Fact, stream: str) -> bool:
        self.facts.append((fact, stream))
        return not self.is_faster_elsewhere

    async def match_by_asking(self, aside: Aside) -> bool:
        self.questions.append(aside)
        return not self.is_faster_elsewhere


class Told:
    def __init__(self, stop: Stop) -> None:
        self.stop = stop
        self.counts: list[int] = []
        self.errors: list[Exception] = []

    def matched(self, callbacks: int) -> None:
        self.counts.append(callbacks)
        self.stop.set()

    def matching_failed(self, error: Exception) -> None:
        self.errors.append(error)


def aside(*, is_known: bool = True, psp: str = "sim") -> Aside:
    operated = Operated(operation_id=str(uuid7()), payment_id=str(uuid7()), merchant_id=MERCHANT) if is_known else None
    claim = Answer(outcome=Outcome.APPROVED, reference="ch_1", amount=1250, currency="EUR", psp_at_ms=7)
    return Aside(inbox_id=str(uuid7()), psp=psp, event_id="evt_1", claim=claim, operated=operated)


async def counted(inbox: Inbox) -> list[int]:
    """What is told of one round."""
    told = Told(Stop())
    await Matcher(inbox, told, RULES, partitions=32, unsigned=["payu"]).run_once()
    return told.counts


async def test_what_is_known_by_now_becomes_the_evidence_that_it_is() -> None:
    found = aside()
    inbox = Inbox(aside(is_known=False), found)
    assert await counted(inbox) == [1]
    [(fact, stream)] = inbox.facts
    assert found.operated is not None
    assert (fact.operation_id, fact.payment_id) == (found.operated.operation_id, found.operated.payment_id)
    assert (fact.outcome, fact.source, fact.amount, fact.currency) == (Outcome.APPROVED, Source.CALLBACK, 1250, "EUR")
    assert fact.event_id == found.inbox_id, "whoever does it again does the same"
    assert stream == events_stream(partition_of(public("mer", MERCHANT), 32))
    assert inbox.asked == [(3, 60, 8)]


async def test_a_psp_whose_callbacks_are_not_signed_is_asked_instead_of_believed() -> None:
    found = aside(psp="payu")
    inbox = Inbox(found)
    assert await counted(inbox) == [1]
    assert (inbox.facts, inbox.questions) == ([], [found])


async def test_what_somebody_else_has_matched_is_not_counted() -> None:
    inbox = Inbox(aside(), aside(psp="payu"))
    inbox.is_faster_elsewhere = True
    assert await counted(inbox) == []


async def test_a_round_that_breaks_off_is_told_and_the_next_one_begins_anew() -> None:
    inbox, stop = Inbox(aside()), Stop()
    inbox.is_away = True
    told = Told(stop)
    told_first = told.matching_failed

    def then_be_back(error: Exception) -> None:
        told_first(error)
        inbox.is_away = False

    told.matching_failed = then_be_back  # type: ignore[method-assign]
    await Matcher(inbox, told, RULES, partitions=32, unsigned=[]).run(stop)
    assert (len(told.errors), told.counts) == (1, [1])
