"""Which status may follow which: every pair and every triple of evidence, for both methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise, product

import pytest

from paynode.domain.folding import absorb
from paynode.domain.payment import FINAL, Method, Payment, Status
from paynode.domain.psp import Outcome
from tests.domain.evidence import ALPHABET
from tests.domain.making import LIMITS, payment

S = Status

# Evidence may come late and out of order, so nearly everything may become `captured` or `review`. What is not here
# must never happen: a charge that is known is never forgotten but taken back (`failed`), and doubt never replaces
# knowledge. A check that held a payment is over when there is news.
_SOMETHING_IS_KNOWN = {S.REQUIRES_ACTION, S.UNKNOWN, S.DECLINED, S.EXPIRED, S.CAPTURED, S.REVIEW}
LEGAL: Mapping[Status, set[Status]] = {
    S.CREATED: _SOMETHING_IS_KNOWN | {S.FAILED},
    S.PROCESSING: _SOMETHING_IS_KNOWN | {S.FAILED},
    S.FAILED: _SOMETHING_IS_KNOWN,
    S.UNKNOWN: {S.REQUIRES_ACTION, S.DECLINED, S.EXPIRED, S.CAPTURED, S.REVIEW, S.FAILED},
    S.REQUIRES_ACTION: {S.DECLINED, S.EXPIRED, S.CAPTURED, S.REVIEW, S.FAILED},
    S.EXPIRED: {S.DECLINED, S.REVIEW, S.FAILED},
    S.DECLINED: {S.REVIEW, S.FAILED},
    S.CAPTURED: {S.REVIEW, S.FAILED},
    S.REVIEW: _SOMETHING_IS_KNOWN - {S.REVIEW} | {S.FAILED},
}


def histories() -> Iterator[list[Payment]]:
    """The payment after none, one, two and three facts. Two calls that never left are enough to give up here."""
    for method, facts in product(Method, product(ALPHABET.values(), repeat=3)):
        states = [payment(method=method)]
        for one in facts:
            states.append(absorb(states[-1], one, replace(LIMITS, not_sent_tries_max=2)))
        yield states


@pytest.fixture(scope="module")
def all_histories() -> list[list[Payment]]:
    return list(histories())


def test_only_legal_transitions_happen_and_all_of_them_do(all_histories: list[list[Payment]]) -> None:
    seen = {
        (before.status, after.status)
        for states in all_histories
        for before, after in pairwise(states)
        if before.status is not after.status
    }
    assert seen == {(before, after) for before, afters in LEGAL.items() for after in afters}


def test_a_captured_amount_is_taken_back_by_the_psp_and_nobody_else(all_histories: list[list[Payment]]) -> None:
    for states in all_histories:
        amounts = [state.amounts.captured for state in states]
        is_reversed = any(fact.outcome is Outcome.REVERSED for fact in states[-1].facts)
        assert amounts == sorted(amounts) or is_reversed


def test_a_final_status_is_left_only_by_evidence_of_something_stronger(all_histories: list[list[Payment]]) -> None:
    for states in all_histories:
        for before, after in pairwise(states):
            if before.status in FINAL and after.status not in FINAL:
                # `failed` is our own conclusion, and no evidence at all; any evidence is stronger.
                assert after.status is Status.REVIEW or before.status is Status.FAILED


def test_a_version_counts_the_facts(all_histories: list[list[Payment]]) -> None:
    for states in all_histories:
        assert all(state.version == 1 + len(state.facts) for state in states)


def test_people_are_told_why_as_long_as_they_must_look(all_histories: list[list[Payment]]) -> None:
    for states in all_histories:
        for before, after in pairwise(states):
            is_held = before.review_reason == "fraud_check"
            assert is_held or (before.review_reason is not None) <= (after.review_reason is not None)
