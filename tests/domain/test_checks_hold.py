"""No evidence may fail a CHECK: the database's laws about payments, said again in Python and tried on any evidence.

The database says them once more; here is shown that the domain never asks for what it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from itertools import product
from pathlib import Path

from hypothesis import given

import paynode.storage
from paynode.domain.folding import absorb
from paynode.domain.money import AMOUNT_MAX, AMOUNT_MIN
from paynode.domain.payment import Fact, OperationKind, OperationState, Origin, Payment, Source, Status
from paynode.domain.payouts import PayoutState
from paynode.domain.psp import Outcome
from paynode.domain.terms import Availability
from tests.domain.evidence import ALPHABET, histories
from tests.domain.making import LIMITS, payment
from tests.support.properties import law

MIGRATION = Path(paynode.storage.__file__).with_name("migrations") / "0002_payments.sql"
DENIED = {Status.DECLINED, Status.EXPIRED, Status.FAILED}

# By the names of the constraints.
CHECKS: Mapping[str, Callable[[Payment], bool]] = {
    "payments_kept_or_reversed": lambda one: not (one.is_kept and one.is_reversed),
    "payments_authorized_as_asked": lambda one: one.amounts.authorized <= one.money.amount,
    "payments_captured_within_authorized": lambda one: one.amounts.capturable >= 0,
    "payments_refunded_within_captured": lambda one: one.amounts.refundable >= 0,
    "payments_captured_means_money": lambda one: one.status is not Status.CAPTURED or one.amounts.captured > 0,
    "payments_denied_means_no_money": lambda one: one.status not in DENIED or one.amounts.captured == 0,
}


def assert_accepted(one: Payment) -> None:
    for name, holds in CHECKS.items():
        assert holds(one), f"{name} refuses {one}"
    assert AMOUNT_MIN <= one.money.amount <= AMOUNT_MAX
    assert min(astuple(one.amounts)) >= 0
    assert one.version >= 1


def test_the_database_has_these_laws_and_no_other() -> None:
    payments = MIGRATION.read_text().split("CREATE TABLE payments (")[1].split("\n);")[0]
    assert set(re.findall(r"CONSTRAINT (\w+) CHECK", payments)) == set(CHECKS)


def test_every_pair_and_triple_of_evidence_is_accepted() -> None:
    for facts in product(ALPHABET.values(), repeat=3):
        folded = payment()
        for one in facts:
            folded = absorb(folded, one, replace(LIMITS, not_sent_tries_max=2))
            assert_accepted(folded)


@law(500)
@given(histories)
def test_any_evidence_is_accepted(facts: Sequence[Fact]) -> None:
    folded = payment()
    for one in facts:
        folded = absorb(folded, one, LIMITS)
        assert_accepted(folded)


def test_the_database_knows_every_word_that_the_domain_says() -> None:
    sql = MIGRATION.read_text()
    assert _words(sql, "status text NOT NULL CHECK (status IN") == set(Status)
    assert _words(sql, "outcome IN") == set(Outcome)
    assert _words(sql, "state IN") == set(OperationState)
    later = MIGRATION.with_name("0015_giving_back.sql").read_text()
    assert _words(later, "origin IN") == set(Origin)
    terms = MIGRATION.with_name("0021_terms.sql").read_text()
    assert _words(terms, "source IN") == set(Source)
    assert _words(terms, "availability IN") == set(Availability)
    assert _words(terms, "state IN") == set(PayoutState)
    assert _words(sql, "kind IN") == set(OperationKind)


def _words(sql: str, before: str) -> set[str]:
    return set(re.findall(r"'(\w+)'", sql.split(before)[1].split(")")[0]))
