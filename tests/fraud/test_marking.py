"""What a payment says of its fraud check follows from the words that were said, not from their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import pytest

from paynode.actors.screening import late_rejection
from paynode.domain.payment import Fact, Method, OperationKind, Source, Status
from paynode.domain.psp import Outcome
from paynode.domain.screening import Question
from tests.domain import making
from tests.domain.making import EUROS_10, charge, fact, told

CALLBACK = replace(charge(), source=Source.CALLBACK)
MARK = late_rejection(
    Question(
        operation_id=making.OPERATION,
        payment_id=making.PAYMENT,
        merchant_id=making.MERCHANT,
        kind=OperationKind.SALE,
        method=Method.TOKEN,
        money=EUROS_10,
    ),
    event_id=making.new_id(),
)


def saying(word: str, evidence: Fact) -> Fact:
    return replace(evidence, fraud_check=word)


HELD = saying("review", fact(Outcome.HELD))


@pytest.mark.parametrize(
    ("facts", "status", "fraud_check"),
    [
        ([saying("passed", charge()), CALLBACK], Status.CAPTURED, "passed"),
        ([HELD, saying("passed", charge()), CALLBACK], Status.CAPTURED, "passed"),
        ([saying("bypassed", charge()), CALLBACK, MARK], Status.CAPTURED, "rejected"),
        ([HELD, saying("rejected", fact(Outcome.DECLINED))], Status.DECLINED, "rejected"),
        ([HELD], Status.REVIEW, "review"),
        ([HELD, saying("passed", fact(Outcome.NOT_SENT))], Status.PROCESSING, "passed"),
        ([CALLBACK], Status.CAPTURED, "none"),
    ],
)
def test_the_last_word_counts_whenever_it_comes(facts: Sequence[Fact], status: Status, fraud_check: str) -> None:
    for order in permutations(facts):
        history = told(order)
        assert (history.payment.status, history.payment.fraud_check) == (status, fraud_check)
        # Two facts about one charge are one charge, and a mark moves no money.
        postings = [entry.posting for effects in history.effects for entry in effects.entries]
        captured = [one.money.amount for one in postings if one.type == "capture"]
        assert captured == ([1000] if status is Status.CAPTURED else [])
