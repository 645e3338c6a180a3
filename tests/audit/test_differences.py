"""Where the core and its auditor did not agree: short histories, kept since one of the two was mended."""

from __future__ import annotations

from typing import Final

import pytest

from tests.audit.comparing import compare
from tests.audit.core import Core
from tests.audit.steps import Accept, Ask, History, Join, Say, Settle, Terms

_JOIN: Final = Join("m1", Terms(available_days=1))
_AUTHORIZED: Final = (_JOIN, Accept("p1", "m1", "sim", "authorize", 10, "EUR"), Say("e1", "p1", "approved"))
_CAPTURING: Final = (*_AUTHORIZED, Ask("r1", "p1", "capture", 4))

HISTORIES: Final[dict[str, History]] = {
    # What was taken back had been given: it is evidence of both.
    "a report tells of a reversal before it tells of the capture": (
        *_CAPTURING,
        Settle("sim", "reversal", "ref_r1", "r1", 4, "EUR"),
        Settle("sim", "charge", "ref_r1", "r1", 4, "EUR"),
    ),
    # As a callback would, though the PSP's name of the charge is known from the wrong claim.
    "a report says what was asked for, where the PSP had claimed another amount": (
        *_CAPTURING,
        Say("e2", "r1", "approved", surplus=1),
        Settle("sim", "charge", "ref_r1", "r1", 4, "EUR"),
    ),
    # Which of two charges a reversal is about must be certain before one is given back, also if of another sum.
    "a second charge after a reversal of another amount": (
        *_AUTHORIZED,
        Say("e2", "p1", "reversed", surplus=1),
        Say("e3", "p1", "approved", reference="b"),
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_they_agree(name: str) -> None:
    assert compare(HISTORIES[name]) is None


def test_what_was_given_back_is_shown_even_where_it_was_too_much() -> None:
    """Both refunds were made, though the first had been given up: 15 of 10. As much as the law allows can be shown."""
    core = Core()
    for step in (
        *(_JOIN, Accept("p1", "m1", "sim", "sale", 10, "EUR"), Say("e1", "p1", "approved")),
        *(Ask("r1", "p1", "refund", 10), Say("e2", "r1", "declined")),
        *(Ask("r2", "p1", "refund", 5), Say("e3", "r2", "approved"), Say("e4", "r1", "approved")),
    ):
        core.hear(step)
    amounts = core.payments["p1"].amounts
    assert (amounts.captured, amounts.refunded) == (10, 10)
