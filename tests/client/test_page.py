"""What docs/publishing.md says is true: its examples are taken as they stand, and its tables are complete."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import paynode
import paynode.client
from paynode.client.errors import EventRefused
from paynode.domain.ids import MERCHANT, public
from paynode.domain.publishing import Result, WalletMovement
from paynode.streams import codec, outcome_events
from paynode.streams.signing import claim, sign
from tests.client.standin import NAME, SECRET, all_types

ROOT: Final = Path(paynode.__file__).parents[1]
PAGE: Final = (ROOT / "docs" / "publishing.md").read_text("utf-8")
NOW_MS: Final = 1_780_000_000_000


def blocks(language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_event_is_one_that_paynode_takes() -> None:
    event, _ = blocks("json")
    read = codec.decode(
        claim(sign(event.strip().encode(), NAME, SECRET)), all_types(), now_ms=NOW_MS, partition=0, partitions=1
    )
    assert isinstance(read.data, WalletMovement)
    assert read.data.money.amount == 250


def test_the_outcome_is_one_that_a_publisher_understands() -> None:
    event, outcome = blocks("json")
    told = outcome_events.decode(outcome.strip().encode())
    assert (told.result, told.code) == (Result.REFUSED, "insufficient_funds")
    assert told.event_id in event
    assert public(MERCHANT, told.merchant_id) in event


def test_the_python_is_python_and_what_it_imports_is_there() -> None:
    for code in [*blocks("python"), _example_of_the_package()]:
        tree = ast.parse(code)
        names = [
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "paynode.client"
            for alias in node.names
        ]
        assert names
        assert set(names) <= set(paynode.client.__all__)


def _example_of_the_package() -> str:
    lines = (paynode.client.__doc__ or "").splitlines()
    body = [line for line in lines if line.startswith("    ") or not line]
    return "async def example():\n" + "\n".join(body)


def test_every_reason_of_a_dead_letter_is_explained() -> None:
    sources = [ROOT / "paynode" / "streams" / f"{name}.py" for name in ("signing", "codec")]
    reasons = {found for path in sources for found in re.findall(r'Poison\("([a-z_]+)"', path.read_text("utf-8"))}
    assert "type_not_allowed" in reasons
    explained = set(re.findall(r"`([a-z_]+)`", PAGE))
    assert reasons <= explained
    assert {"merchant_unknown", "event_id_reused", "not_a_pointer"} <= explained


def test_every_way_that_a_call_ends_is_explained() -> None:
    ends = {"Applied", "Refused", "EventRefused", "NotPublished", "OutcomeUnknown"}
    assert ends <= set(paynode.client.__all__)
    assert all(f"| `{name}" in PAGE for name in ends)
    assert issubclass(EventRefused, ValueError)
