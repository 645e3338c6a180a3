"""What evidence leads to: commands, business facts, and when it leads to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise, product

import pytest
from hypothesis import given

from paynode.domain.deciding import Command, CommandKind, Decision, decide
from paynode.domain.payment import FINAL, Fact, OperationKind, OperationState, Origin, Payment, Source, Status
from paynode.domain.postings import due
from paynode.domain.psp import Outcome
from tests.domain.evidence import ALPHABET, PAGE_A, histories
from tests.domain.making import LIMITS, OPERATION, POLICY, fact, new_id, payment
from tests.support.properties import law

INQUIRE, SUBMIT = CommandKind.INQUIRE, CommandKind.SUBMIT
SALE, AUTHORIZE = OperationKind.SALE, OperationKind.AUTHORIZE


def decisions(facts: Sequence[Fact]) -> list[Decision]:
    """What each fact led to, one after the other."""
    decided = [Decision(payment=payment())]
    for one in facts:
        decided.append(decide(decided[-1].payment, one, POLICY, new_id))
    return decided[1:]


def after(*names: str) -> Decision:
    return decisions([ALPHABET[name] for name in names])[-1]


@pytest.mark.parametrize(
    ("names", "commands"),
    [
        (("charge",), []),
        (("declined",), []),
        (("expired",), []),
        (("page a",), [(INQUIRE, 600_000)]),  # its callback may be lost
        (("unknown",), [(INQUIRE, 5_000)]),
        (("not sent",), [(SUBMIT, 1_000)]),
        (("not sent", "not sent again"), [(SUBMIT, 2_000)]),
        (("not sent", "not sent again", "not sent a third time"), []),  # given up
        (("unknown", "not sent"), []),  # the ladder that the doubt began goes on; a second one would double it
        (("not sent", "unknown"), [(INQUIRE, 5_000)]),
        (("page a", "unknown"), [(INQUIRE, 600_000)]),  # there is no doubt, but somebody must go on asking
        (("charge", "unknown"), []),
        (("declined", "not sent"), []),
        (("charge of too much",), []),  # for people
    ],
)
def test_commands_follow_from_doubt_and_from_calls_that_never_left(
    names: tuple[str, ...], commands: list[tuple[CommandKind, int]]
) -> None:
    assert after(*names).commands == tuple(
        Command(kind=kind, operation_id=OPERATION, psp="sim", delay_ms=delay_ms) for kind, delay_ms in commands
    )


def test_inquiries_climb_the_ladder_and_people_look_after_its_last_rung() -> None:
    *asked, last = decisions([fact(Outcome.UNKNOWN) for _ in range(4)])
    assert [decision.commands[0].delay_ms for decision in asked] == [5_000, 30_000, 120_000]
    assert {decision.payment.status for decision in asked} == {Status.UNKNOWN}
    assert (last.payment.status, last.payment.review_reason, last.commands) == (
        Status.REVIEW,
        "outcome_unresolved",
        (),
    )


def test_a_page_whose_end_is_still_owed_is_asked_about_again_and_again() -> None:
    opened = fact(Outcome.PENDING, reference="cs_1", page_url=PAGE_A)
    asked = [replace(opened, source=Source.INQUIRY, event_id=new_id()) for _ in range(3)]
    told = decisions([opened, *asked])
    assert [[one.kind for one in decision.commands] for decision in told] == [[INQUIRE]] * 4
    assert {decision.payment.version for decision in told} == {2}, "only the first one was news"


def test_what_was_provably_sent_to_nobody_goes_to_the_next_psp_at_once_and_then_round_again_later() -> None:
    about = replace(payment(), route=("sim", "other"))
    told = []
    for _ in range(4):
        decision = decide(about, fact(Outcome.NOT_SENT), replace(POLICY, not_sent_tries_max=9), new_id)
        about = decision.payment
        (command,) = decision.commands
        told.append((command.psp, command.delay_ms, about.charge.psp))
    assert told == [("other", 0, "other"), ("sim", 1_000, "sim"), ("other", 0, "other"), ("sim", 2_000, "sim")]


@pytest.mark.parametrize("outcome", [Outcome.UNKNOWN, Outcome.ABSENT])
def test_a_promise_is_asked_about_again_whatever_the_last_question_came_to(outcome: Outcome) -> None:
    told = decisions([fact(Outcome.UNKNOWN), ALPHABET["page a"], fact(outcome)])
    assert [one.kind for one in told[-1].commands] == [INQUIRE]


def test_what_may_have_been_sent_stays_where_it_is() -> None:
    about = replace(payment(), route=("sim", "other"))
    for one in (fact(Outcome.NOT_SENT), fact(Outcome.UNKNOWN), fact(Outcome.ABSENT)):
        about = decide(about, one, POLICY, new_id).payment
    assert (about.charge.psp, about.status) == ("other", Status.FAILED)


def test_a_payment_out_of_time_is_not_tried_again() -> None:
    decision = decide(payment(), fact(Outcome.NOT_SENT, reason="payment_deadline"), POLICY, new_id)
    assert (decision.payment.status, decision.commands) == (Status.FAILED, ())


@pytest.mark.parametrize(("kind", "answer"), [(SALE, OperationKind.REFUND), (AUTHORIZE, OperationKind.VOID)])
def test_what_succeeds_after_it_was_given_up_is_given_back(kind: OperationKind, answer: OperationKind) -> None:
    given_up = decide(payment(kind=kind), fact(Outcome.DECLINED), POLICY, new_id).payment
    assert given_up.is_given_up
    decision = decide(given_up, ALPHABET["charge"], POLICY, new_id)
    (made,) = decision.made
    assert (made.kind, made.origin, made.money) == (answer, Origin.LATE_SUCCESS, given_up.money)
    assert [(one.kind, one.operation_id) for one in decision.commands] == [(SUBMIT, made.id)]
    assert not decision.payment.keeps_order_slot, "another payment of the order may have been made meanwhile"
    assert decision.payment.status in (Status.CAPTURED, Status.AUTHORIZED), "explained: nobody needs to look"


def test_an_authorization_that_nobody_waited_for_is_voided_and_nothing_is_sent_for_it_again() -> None:
    about = replace(payment(kind=AUTHORIZE), is_for_pos=True, is_reversed=True)
    (made,) = decide(about, ALPHABET["charge"], POLICY, new_id).made
    assert (made.kind, made.origin) == (OperationKind.VOID, Origin.REVERSAL)
    unsent = decide(about, fact(Outcome.NOT_SENT, reason="breaker_open"), POLICY, new_id)
    assert (unsent.payment.status, unsent.commands) == (Status.FAILED, ())


def test_retries_double_their_pause_up_to_the_maximum_until_given_up() -> None:
    patient = replace(POLICY, not_sent_tries_max=6)
    assert [patient.retry_delay_ms(tries, 1) for tries in range(1, 6)] == [1_000, 2_000, 3_000, 3_000, 3_000]
    assert patient.retry_delay_ms(10**6, 1) == 3_000, "a number of tries that nobody foresaw is no huge number"


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
    assert (nothing.made, nothing.commands, nothing.event) == ((), (), None)


def test_the_same_doubt_told_twice_asks_once() -> None:
    told = decisions([ALPHABET["unknown"], ALPHABET["unknown"]])
    assert [len(decision.commands) for decision in told] == [1, 0]


def test_nothing_is_asked_once_it_is_known_over_all_pairs_and_triples() -> None:
    for facts in product(ALPHABET.values(), repeat=3):
        for decision in decisions(facts):
            state = decision.payment.charge.state
            asked = [one for one in decision.commands if one.operation_id == OPERATION]
            assert not asked or state in (OperationState.UNKNOWN, OperationState.NEW, OperationState.PENDING)
            assert not asked or decision.payment.status not in FINAL


@law(300)
@given(histories)
def test_there_is_always_somebody_who_asks_while_there_is_doubt(facts: Sequence[Fact]) -> None:
    """As many commands as calls in doubt, each answered by the next call: none is lost, none is added."""
    told = decisions(facts)
    for before, decision in pairwise([Decision(payment=payment()), *told]):
        asked = [one for one in decision.commands if one.operation_id == OPERATION]
        if _is_new_doubt(before.payment, decision):
            assert len(asked) == 1
        else:
            assert all(decision.payment.charge.state is OperationState.PENDING for _ in asked)


def _is_new_doubt(before: Payment, decision: Decision) -> bool:
    last = decision.payment.facts[-1] if decision.payment is not before else None
    if last is None or last.psp is not None:
        return False  # no news, or another PSP's
    wanted = {
        Outcome.UNKNOWN: OperationState.UNKNOWN,
        Outcome.NOT_SENT: OperationState.NEW,
        Outcome.PENDING: OperationState.PENDING,
    }
    return wanted.get(last.outcome) is decision.payment.charge.state or _is_promise(decision.payment, last)


def _is_promise(payment: Payment, last: Fact) -> bool:
    is_no_news = last.outcome in (Outcome.UNKNOWN, Outcome.ABSENT)
    return is_no_news and payment.charge.state is OperationState.PENDING


@law(300)
@given(histories)
def test_what_was_due_stays_due_and_is_of_a_kind_at_most_once(facts: Sequence[Fact]) -> None:
    known: set[tuple[str, str, int]] = set()
    for decision in decisions(facts):
        names = [(one.operation_id, one.kind, one.part) for one in due(decision.payment, LIMITS)]
        assert len(names) == len(set(names))
        assert known <= set(names), "the ledger forgets nothing"
        known = set(names)


@law(300)
@given(histories)
def test_money_is_posted_as_soon_as_it_is_captured_and_never_without(facts: Sequence[Fact]) -> None:
    for decision in decisions(facts):
        lines = [line for one in due(decision.payment, LIMITS) for line in one.postings]
        captured = sum(line.money.amount for line in lines if line.type == "capture")
        taken_back = sum(line.money.amount for line in lines if line.type == "reversal")
        is_reversed = decision.payment.charge.state is OperationState.REVERSED
        assert decision.payment.amounts.captured == (0 if is_reversed else captured)
        assert (taken_back > 0) == is_reversed


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
