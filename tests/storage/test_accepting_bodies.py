"""Outbox bodies: what is written is read back, and nothing else is believed."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paynode.domain.errors import Poison
from paynode.domain.money import Money
from paynode.domain.payment import Fact, Method, PspOrder, Source
from paynode.domain.psp import Outcome
from paynode.storage.bodies import decode_fact, decode_order, encode_fact, encode_order

_uuids = st.uuids().map(str)
_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50)
_int64 = st.integers(-(2**63) + 1, 2**63 - 1)

facts = st.builds(
    Fact,
    event_id=_uuids,
    payment_id=_uuids,
    operation_id=_uuids,
    outcome=st.sampled_from(Outcome),
    source=st.sampled_from(Source),
    reference=st.none() | _texts,
    amount=st.none() | _int64,
    currency=st.none() | _texts,
    page_url=st.none() | _texts,
    reason=_texts,
    psp_at_ms=st.none() | _int64,
)
orders = st.builds(
    PspOrder,
    operation_id=_uuids,
    payment_id=_uuids,
    merchant_id=_uuids,
    psp=_texts,
    money=st.builds(Money, amount=st.integers(1, 10**12), currency=st.sampled_from(["EUR", "JPY"])),
    method=st.just(Method.TOKEN),
    token=_texts,
    description=_texts,
) | st.builds(
    PspOrder,
    operation_id=_uuids,
    payment_id=_uuids,
    merchant_id=_uuids,
    psp=_texts,
    money=st.builds(Money, amount=st.integers(1, 10**12), currency=st.sampled_from(["EUR", "JPY"])),
    method=st.just(Method.HOSTED_PAGE),
    return_url=_texts,
    description=_texts,
)

U = "01890a5d-ac96-774b-bcce-b302099a8057"
FACT = Fact(event_id=U, payment_id=U, operation_id=U, outcome=Outcome.APPROVED, source=Source.ANSWER, amount=1)
ORDER = PspOrder(
    operation_id=U,
    payment_id=U,
    merchant_id=U,
    psp="sim",
    money=Money(amount=1, currency="EUR"),
    method=Method.TOKEN,
    token="tok_approve",
)


@settings(deadline=None)
@given(facts)
def test_a_fact_is_read_back_as_it_was_written(fact: Fact) -> None:
    assert decode_fact(encode_fact(fact)) == fact


@settings(deadline=None)
@given(orders)
def test_an_order_is_read_back_as_it_was_written(order: PspOrder) -> None:
    assert decode_order(encode_order(order)) == order


def test_the_members_are_the_fields() -> None:
    # Whoever brings a fact says who told it.
    assert set(orjson.loads(encode_fact(FACT))) == {field.name for field in fields(Fact)} - {"psp"}
    names = {field.name for field in fields(PspOrder)} - {"money"} | {"amount", "currency"}
    assert set(orjson.loads(encode_order(ORDER))) == names


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": None},
        {"event_id": U.upper()},
        {"payment_id": "x"},
        {"operation_id": 7},
        {"outcome": "perhaps"},
        {"outcome": None},
        {"source": "rumour"},
        {"amount": 1.0},
        {"amount": True},
        {"amount": "1"},
        {"amount": 2**63},
        {"currency": 7},
        {"reason": None},
        {"reason": "a\0b"},
        {"page_url": "x" * 9000},
        {"psp_at_ms": "now"},
        {"colour": "red"},
    ],
)
def test_a_fact_that_is_not_exactly_one_is_poison(changes: dict[str, Any]) -> None:
    _is_poison(decode_fact, orjson.dumps(orjson.loads(encode_fact(FACT)) | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"merchant_id": None},
        {"amount": 0},
        {"amount": 10**12 + 1},
        {"amount": None},
        {"amount": 1.5},
        {"currency": "eur"},
        {"currency": "EUR\n"},
        {"currency": None},
        {"method": "cash"},
        {"token": None},
        {"method": "hosted_page"},
        {"description": None},
    ],
)
def test_an_order_that_is_not_exactly_one_is_poison(changes: dict[str, Any]) -> None:
    _is_poison(decode_order, orjson.dumps(orjson.loads(encode_order(ORDER)) | changes))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"event_id": NaN}'])
def test_what_is_no_object_is_poison(body: bytes) -> None:
    _is_poison(decode_fact, body)
    _is_poison(decode_order, body)


def test_a_missing_member_is_poison() -> None:
    fact = orjson.loads(encode_fact(FACT))
    del fact["page_url"]
    _is_poison(decode_fact, orjson.dumps(fact))


def _is_poison(decode: Any, body: bytes) -> None:
    with pytest.raises(Poison) as caught:
        decode(body)
    assert caught.value.reason == "body_invalid"
