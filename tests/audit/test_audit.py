"""The core agrees with a second, simpler implementation of the books, over thousands of histories.

`python -m tests.audit` runs more. A failure names its seed; PAYNODE_TEST_SEED=<seed> runs that one alone.
"""

from __future__ import annotations

import ast
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit import auditor, bookkeeper, dossier, operation, steps, sums, treasury
from tests.audit.bugs import BUGS
from tests.audit.comparing import audit, compare
from tests.audit.histories import history

_FIXED = 1_200
_FRESH = 300
# Histories within which a planted mistake must be seen.
_ENOUGH = 600


def test_the_auditor_agrees_with_the_core() -> None:
    named = os.environ.get("PAYNODE_TEST_SEED")
    blocks = [range(_FIXED), _block(random.SystemRandom().randrange(2**32), _FRESH)]
    met = Counter[str]()
    for seeds in blocks if named is None else [_block(int(named), 1)]:
        print(f"seeds {seeds}")
        complaint = audit(seeds, met)
        assert complaint is None, complaint
    if named is None:
        rare = {what: met[what] for what in _MET if met[what] < 10}
        assert not rare, "the histories hardly meet these any more"


def _block(first: int, count: int) -> range:
    return range(first, first + count)


_MET = (
    *("capture", "fee", "reserve", "available", "reserve_release", "reversal"),
    *("refund_hold", "refund_release", "refund", "refund_reversal"),
    *("credit", "debit", "write_off", "payout", "payout_paid", "payout_failed"),
    *("settlement", "psp_fee", "unexplained", "adjustment", "known"),
    *("insufficient_funds", "operation_outcome_unknown", "payment_under_review", "operation_in_flight"),
    *("payment_not_capturable", "payment_not_refundable", "payment_not_voidable", "payment_not_authorized"),
    *("amount_exceeds_authorized", "amount_exceeds_captured", "payout_not_open"),
)


@pytest.mark.parametrize("bug", BUGS)
def test_a_mistake_is_found(bug: str) -> None:
    with BUGS[bug]():
        assert any(compare(history(seed)) for seed in range(_ENOUGH)), f"not seen in {_ENOUGH} histories"


def test_a_difference_is_told_by_the_shortest_history_that_shows_it() -> None:
    with BUGS["a capture is available at once"]():
        complaint = audit(range(_ENOUGH))
    assert complaint is not None
    assert complaint.count("\n") < 10, complaint
    assert "Accept(" in complaint


def test_the_same_seed_is_the_same_history() -> None:
    assert [history(seed) for seed in range(5)] == [history(seed) for seed in range(5)]


@pytest.mark.parametrize("module", [auditor, bookkeeper, dossier, operation, steps, sums, treasury])
def test_the_auditor_shares_no_rule_with_the_core(module: object) -> None:
    """What it shared with the core it could not find wrong."""
    own = {f"tests.audit.{name}" for name in ("bookkeeper", "dossier", "operation", "steps", "sums", "treasury")}
    for name in _imports(Path(str(getattr(module, "__file__", "")))):
        assert name in own or name.partition(".")[0] in sys.stdlib_module_names, name


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or "."
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
