"""The gate in front of `POST /v1/payments`, against bodies that nobody thought of."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from paynode.http import json_gate
from paynode.http.payment_body import PaymentBody, read_payment
from paynode.http.problem import Problem
from tests.http.house import by_token

GOOD: dict[str, Any] = by_token(order_id="A-1")

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None)  # a busy machine is no flaw
@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_do_more_than_be_refused(raw: bytes) -> None:
    try:
        value, flaws = json_gate.parse(raw, depth_max=8)
    except json_gate.Malformed:
        return
    # What got through is what a second, unrelated parser reads.
    if not flaws:
        assert orjson.loads(raw) == value


@settings(deadline=None)  # a busy machine is no flaw
@given(st.dictionaries(st.sampled_from([*GOOD, "customer", "description", "x"]), _json), st.data())
def test_no_body_does_more_than_be_accepted_or_refused(changes: dict[str, Any], data: st.DataObject) -> None:
    raw = json.dumps(GOOD | changes).encode()
    cut = data.draw(st.integers(0, len(raw)))
    for text in (raw, raw[:cut]):
        answer = _answer(text)
        assert answer.status == 400 if isinstance(answer, Problem) else 1 <= answer.amount <= 10**12


@settings(deadline=None)  # a busy machine is no flaw
@given(st.text(alphabet='[]{}"\\ a', max_size=200))
def test_depth_is_counted_as_the_parser_counts_it(text: str) -> None:
    try:
        value, _ = json_gate.parse(text.encode(), depth_max=3)
    except json_gate.Malformed:
        return
    assert _depth(value) <= 3


def _answer(raw: bytes) -> PaymentBody | Problem:
    try:
        return read_payment(raw, depth_max=8)[0]
    except Problem as problem:
        assert problem.body("req_1"), "it can be told"  # noqa: PT017 - being refused is one of two right ways out
        return problem


def _depth(value: object) -> int:
    match value:
        case dict():
            return 1 + max((_depth(item) for item in value.values()), default=0)
        case list():
            return 1 + max((_depth(item) for item in value), default=0)
        case _:
            return 0
