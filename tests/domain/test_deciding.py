"""What evidence leads to: commands, business facts, and when it leads to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given

from paynode.domain.deciding import Command, CommandKind, Decision, decide
from paynode.domain.payment import FINAL, Fact, OperationState, Payment, Status
from paynode.domain.psp import Outcome
from tests.domain.evidence import ALPHABET, histories
from tests.domain.making import FEES, OPERATION, POLICY, fact, payment
from tests.support.properties import law

INQUIRE, SUBMIT = CommandKind.INQUIRE, CommandKind.SUBMIT


def decisions(facts: Sequence[Fact]) -> list[Decision]:
    """What each fact led to, one after the other."""
    decided = [Decision(payment=payment())]
    for one in facts:
        decided.append(decide(decided[-1].payment, one, FEES, POLICY))
    return decided[1:]


def after(*names: str) -> Decision:
    return decisions([ALPHABET[name] for name in names])[-1]


@pytest.mark.parametrize(
    ("names", "commands"),
    [
        (("charge",), []),
        (("declined",), []),
        (("expired",), []),
        (("page a",), []),
        (("unknown",), [(INQUIRE, 5_000)]),
        (("not sent",), [(SUBMIT, 1_000)]),
        (("not sent", "not sent again"), [(SUBMIT, 2_000)]),
        (("not sent", "not sent again", "not sent a third time"), []),  # given up
        (("unknown", "not sent"), []),  # the ladder that the doubt began goes on; a second one would double it
        (("not sent", "unknown"), [(INQUIRE, 5_000)]),
        (("page a", "unknown"), []),  # the page is known: there is no doubt
        (("charge", "unknown"), []),
        (("declined", "not sent"), []),
        (("charge of too much",), []),  # for people
    ],
)
def test_commands_follow_from_doubt_and_from_calls_that_never_left(
    names: tuple[str, ...], commands: list[tuple[CommandKind, int]]
) -> None:
    assert after(*names).commands == tuple(
        Command(kind=kind, operation_id=OPERATION, delay_ms=delay_ms) for kind, delay_ms in commands
    )


def test_inquiries_climb_the_ladder_and_stay_on_its_last_rung() -> None:
    calls = [fact(Outcome.UNKNOWN) for _ in range(5)]
    pauses = [decision.commands[0].delay_ms for decision in decisions(calls)]
    assert pauses == [5_000, 30_000, 120_000, 120_000, 120_000], "no timer ends `unknown`"


def test_retries_double_their_pause_up_to_the_maximum_until_given_up() -> None:
    patient = replace(POLICY, not_sent_tries_max=6)
    assert [patient.retry_delay_ms(tries) for tries in range(1, 6)] == [1_000, 2_000, 3_000, 3_000, 3_000]
    assert patient.retry_delay_ms(10**6) == 3_000, "a number of tries that nobody foresaw is no huge number"


@pytest.mark.parametrize(
    ("names", "event"),
    [
        (("charge",), "payment.captured"),
        (("charge", "declined"), "payment.review"),
        (("unknown", "unknown again"), "payment.updated"),
        (("unknown", "unknown"), None),
    ],
)
def test_the_timeline_names_a_change_and_passes_over_what_is_no_news(names: tuple[str, ...], event: str | None) -> None:
    assert after(*names).event == event


def test_no_news_leads_to_nothing() -> None:
    nothing = after("charge", "charge")
    assert (nothing.business_facts, nothing.commands, nothing.event) == ((), (), None)


def test_the_same_doubt_told_twice_asks_once() -> None:
    told = decisions([ALPHABET["unknown"], ALPHABET["unknown"]])
    assert [len(decision.commands) for decision in told] == [1, 0]


def test_nothing_is_asked_once_it_is_known_over_all_pairs_and_triples() -> None:
    for facts in product(ALPHABET.values(), repeat=3):
        for decision in decisions(facts):
            state = decision.payment.operation.state
            assert not decision.commands or state in (OperationState.UNKNOWN, OperationState.NEW)
            assert not decision.commands or decision.payment.status not in FINAL


@law(300)
@given(histories)
def test_there_is_always_somebody_who_asks_while_there_is_doubt(facts: Sequence[Fact]) -> None:
    """As many commands as calls in doubt, each answered by the next call: none is lost, none is added."""
    told = decisions(facts)
    for before, decision in pairwise([Decision(payment=payment()), *told]):
        if _is_new_doubt(before.payment, decision):
            assert len(decision.commands) == 1
        else:
            assert not decision.commands


def _is_new_doubt(before: Payment, decision: Decision) -> bool:
    last = decision.payment.facts[-1] if decision.payment is not before else None
    if last is None:
        return False
    wanted = {Outcome.UNKNOWN: OperationState.UNKNOWN, Outcome.NOT_SENT: OperationState.NEW}
    return wanted.get(last.outcome) is decision.payment.operation.state


@law(300)
@given(histories)
def test_a_business_fact_of_a_kind_becomes_due_at_most_once(facts: Sequence[Fact]) -> None:
    due = [one for decision in decisions(facts) for one in decision.business_facts]
    assert len(due) == len({(one.operation_id, one.kind, one.part) for one in due})


@law(300)
@given(histories)
def test_money_is_posted_as_soon_as_it_is_captured_and_never_without(facts: Sequence[Fact]) -> None:
    captured = 0
    for decision in decisions(facts):
        grown = decision.payment.amounts.captured - captured
        captured += grown
        posted = [posting for one in decision.business_facts for posting in one.postings if posting.type == "capture"]
        assert sum(posting.money.amount for posting in posted) == grown


def test_every_status_that_evidence_can_give_is_reached_here() -> None:
    seen = {after(name).payment.status for name in ALPHABET} | {Status.FAILED, payment().status}
    # The others belong to operations that are asked for apart from the sale.
    assert set(Status) - seen == {
        Status.CREATED,
        Status.AUTHORIZED,
        Status.PARTIALLY_CAPTURED,
        Status.VOIDED,
        Status.CANCELED,
    }
