"""The one reader of strangers' JSON: whatever parsers disagree about is found, with its place."""

from __future__ import annotations

import json

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.strict_json import Malformed, Misfit, Refused, pointer, read
from tests.support.properties import law


def misfits(text: str) -> list[tuple[str, str]]:
    _, found = read(text.encode("utf-8", "surrogatepass"), depth_max=8)
    return [(pointer(one.place), one.detail) for one in found]


def test_all_that_is_wrong_is_told_with_its_place() -> None:
    text = '{"a": 1.5, "b": [1, {"c": "x\\u0000"}], "d": 1, "d": 2, "e\\u001b": 0, "f": ' + "9" * 21 + "}"
    assert misfits(text) == [
        ("/a", "must be an integer, written without fraction and exponent"),
        ("/b/1/c", "has a control character or a lone surrogate"),
        ("/d", "stands more than once"),
        ("/e\x1b", "its name has a control character or a lone surrogate"),
        ("/f", "is too large"),
    ]


def test_the_first_one_costs_nothing_of_the_others() -> None:
    """Whoever wants one reason does not look through the rest."""
    _, found = read(b'{"a": 1.5, "b": 2.5}', depth_max=8)
    assert next(found) == Misfit(("a",), "must be an integer, written without fraction and exponent")


def test_a_refused_value_is_one_that_no_schema_takes() -> None:
    value, _ = read(b'{"amount": 1e3}', depth_max=8)
    assert value == {"amount": Refused("must be an integer, written without fraction and exponent")}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"{}{}",
        b"NaN",
        b"[Infinity]",
        b"'a'",
        b'{"a": 1,}',
        b"[" * 100_000,
        b"[[[[[[[[[",
    ],
)
def test_what_is_no_json_or_too_deep_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed) as refusal:
        read(raw, depth_max=8)
    assert str(refusal.value).isprintable()


@law(300)
@given(st.binary(max_size=100) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_what_is_taken_is_what_an_unrelated_parser_reads(raw: bytes) -> None:
    try:
        value, found = read(raw, depth_max=8)
    except Malformed:
        return
    if next(found, None) is None:
        assert orjson.loads(raw) == value


numbers = st.integers(-(2**60), 2**60) | st.booleans() | st.none()
texts = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), max_size=8)
values = st.recursive(
    numbers | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=9
)


@law(300)
@given(values)
def test_nothing_is_wrong_with_plain_values(value: object) -> None:
    taken, found = read(json.dumps(value).encode(), depth_max=12)
    assert taken == value
    assert list(found) == []


@pytest.mark.parametrize(("place", "text"), [((), ""), (("a/b", 0, "c~d"), "/a~1b/0/c~0d"), (("\ud800",), "/?")])
def test_a_pointer_is_that_of_rfc_6901(place: tuple[str | int, ...], text: str) -> None:
    assert pointer(place) == text
