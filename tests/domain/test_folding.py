"""From evidence to a payment: the tables, and the law that order and repetition make no difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given

from paynode.domain.folding import absorb
from paynode.domain.payment import FINAL, FREES_ORDER, Amounts, Fact, Method, OperationState, Payment, Status
from paynode.domain.psp import Outcome
from tests.domain.evidence import ALPHABET, PAGE_A, PAGE_B, histories, two_tellings
from tests.domain.making import EUROS_10, LIMITS, charge, fact, payment
from tests.support.properties import law


def fold(facts: Sequence[Fact], about: Payment | None = None) -> Payment:
    folded = about or payment()
    for one in facts:
        folded = absorb(folded, one, LIMITS)
    return folded


def of(*names: str, method: Method = Method.TOKEN) -> Payment:
    return fold([ALPHABET[name] for name in names], payment(method=method))


# What one outcome makes of a new payment, whatever the method, but for the last: nothing has happened yet.
ONE_FACT = {
    "charge": (OperationState.APPROVED, Status.CAPTURED),
    "declined": (OperationState.DECLINED, Status.DECLINED),
    "expired": (OperationState.EXPIRED, Status.EXPIRED),
    "page a": (OperationState.PENDING, Status.REQUIRES_ACTION),
    "unknown": (OperationState.UNKNOWN, Status.UNKNOWN),
    "absent": (OperationState.FAILED, Status.FAILED),
    "reversed": (OperationState.REVERSED, Status.FAILED),
    "held": (OperationState.NEW, Status.REVIEW),
    "not sent": (OperationState.NEW, None),
}
# What was taken back had been given.
AMOUNTS = {"charge": Amounts(authorized=1000, captured=1000), "reversed": Amounts(authorized=1000)}
UNTOUCHED = {Method.HOSTED_PAGE: Status.CREATED, Method.TOKEN: Status.PROCESSING}


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize(("name", "state", "status"), [(name, *rest) for name, rest in ONE_FACT.items()])
def test_one_fact_decides_the_status(name: str, state: OperationState, status: Status | None, method: Method) -> None:
    folded = of(name, method=method)
    assert (folded.charge.state, folded.status) == (state, status or UNTOUCHED[method])
    assert folded.amounts == (AMOUNTS.get(name, Amounts()))
    assert folded.version == 2


def test_the_table_of_outcomes_is_complete() -> None:
    assert {ALPHABET[name].outcome for name in ONE_FACT} == set(Outcome)
    assert set(UNTOUCHED) == set(Method)


def test_calls_that_never_left_end_the_payment_only_when_there_were_enough() -> None:
    assert of("not sent", "not sent again").status is Status.PROCESSING
    assert of("not sent", "not sent again", "not sent a third time").status is Status.FAILED
    refused = [fact(Outcome.NOT_SENT, reason="breaker_open") for _ in range(9)]
    assert fold(refused).status is Status.PROCESSING, "that was no try: our own guards refused it"
    two = replace(payment(), route=("sim", "other"))
    assert fold([fact(Outcome.NOT_SENT) for _ in range(5)], two).status is Status.PROCESSING, "of each PSP as many"
    assert fold([fact(Outcome.NOT_SENT) for _ in range(6)], two).status is Status.FAILED


@pytest.mark.parametrize(
    ("names", "status"),
    [
        (("declined", "charge"), Status.REVIEW),
        (("expired", "declined"), Status.DECLINED),
        (("expired", "page a"), Status.EXPIRED),
        (("page a", "unknown"), Status.REQUIRES_ACTION),
        (("unknown", "not sent", "not sent again", "not sent a third time"), Status.UNKNOWN),
        (("not sent", "not sent again", "not sent a third time", "charge"), Status.CAPTURED),
    ],
)
def test_evidence_of_a_charge_beats_evidence_of_none_which_beats_doubt(names: tuple[str, ...], status: Status) -> None:
    assert of(*names).status is status
    assert of(*reversed(names)).status is status


@pytest.mark.parametrize(
    ("names", "reason", "captured"),
    [
        (("charge in dollars",), "currency_mismatch", 0),
        (("charge without currency",), "currency_mismatch", 0),
        (("charge of too much",), "amount_mismatch", 0),
        (("charge of too little",), "amount_mismatch", 0),
        (("charge without amount",), "amount_mismatch", 0),
        (("charge without reference",), "reference_missing", 0),
        (("charge", "second charge"), "charged_twice", 1000),
        (("charge", "declined"), "charged_and_denied", 1000),
        (("charge", "expired"), "charged_and_denied", 1000),
        # in the order of precedence
        (("charge in dollars", "charge of too much"), "currency_mismatch", 0),
        (("charge of too much", "charge without reference"), "amount_mismatch", 0),
        (("charge without reference", "second charge"), "reference_missing", 1000),
        (("charge", "second charge", "declined"), "charged_twice", 1000),
        (("charge", "charge of too much"), "amount_mismatch", 1000),
    ],
)
def test_contradictions_ask_for_people_and_say_why(names: tuple[str, ...], reason: str, captured: int) -> None:
    for order in (names, tuple(reversed(names))):
        folded = of(*order)
        assert (folded.status, folded.review_reason) == (Status.REVIEW, reason)
        assert folded.amounts.captured == captured, "what was charged as asked is booked all the same"


@law(300)
@given(histories)
def test_review_says_why_and_needs_a_charge_a_check_or_many_doubts(facts: Sequence[Fact]) -> None:
    folded = fold(facts)
    assert (folded.status is Status.REVIEW) == (folded.review_reason is not None)
    if folded.review_reason not in (None, "fraud_check", "outcome_unresolved"):
        assert any(one.outcome in (Outcome.APPROVED, Outcome.REVERSED) for one in facts)


@law(500)
@given(two_tellings())
def test_order_and_repetition_make_no_difference(tellings: tuple[Sequence[Fact], Sequence[Fact]]) -> None:
    one, other = (fold(facts) for facts in tellings)
    assert seen(one) == seen(other)
    assert one.version == other.version, "each fact counts once"
    if one.review_reason is None:
        assert (one.psp_reference, one.charge) == (other.psp_reference, other.charge)


def seen(folded: Payment) -> tuple[object, ...]:
    """All of a payment but which of two charges carries the posting."""
    operation = folded.charge
    return folded.status, folded.amounts, folded.review_reason, folded.page_url, operation.state, operation.money


def test_a_page_is_found_even_if_a_fact_without_it_came_first() -> None:
    assert of("pending without page", "page a").page_url == PAGE_A
    assert of("page a", "pending without page").page_url == PAGE_A


def test_of_two_pages_it_is_always_the_same_one() -> None:
    assert of("page a", "page b").page_url == of("page b", "page a").page_url == min(PAGE_A, PAGE_B)


def test_what_is_known_already_changes_nothing_at_all() -> None:
    before = of("charge", "unknown")
    repeated = charge("ch_1", event_id="01890a5d-0000-7000-8000-ffffffffffff")
    assert absorb(before, repeated, LIMITS) is before


def test_a_fact_about_another_operation_is_a_mistake_of_ours() -> None:
    stranger = payment(operation_id="01890a5d-0000-7000-8000-00000000dead")
    with pytest.raises(ValueError, match="another payment"):
        absorb(payment(), charge(about=stranger), LIMITS)


@law(200)
@given(histories)
def test_the_terms_never_change(facts: Sequence[Fact]) -> None:
    before, folded = payment(), fold(facts)
    assert (folded.id, folded.merchant_id, folded.money, folded.method) == (
        before.id,
        before.merchant_id,
        EUROS_10,
        before.method,
    )
    assert (folded.charge.id, folded.charge.psp, folded.charge.money) == (
        before.charge.id,
        before.charge.psp,
        EUROS_10,
    )


@pytest.mark.parametrize("status", Status)
def test_an_order_is_free_again_when_nothing_was_or_will_be_paid(status: Status) -> None:
    assert (status in FREES_ORDER) == (status in FINAL - {Status.CAPTURED})


def test_two_calls_in_doubt_are_two_facts() -> None:
    assert len(of("unknown", "unknown again", "unknown").facts) == 2
    assert fact(Outcome.UNKNOWN).identity != fact(Outcome.UNKNOWN).identity
