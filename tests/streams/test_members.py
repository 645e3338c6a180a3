"""Objects of strangers: the short way of reading them takes what the long way takes, and nothing else."""

from __future__ import annotations

import json
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.strict_json import Malformed, read
from paynode.streams.members import NotStrict, read_object
from tests.support.properties import law

NAMES: Final = st.sampled_from(["a", "b", "data", "type", "é", "a b", 'a"b', "\x7f"])
TEXTS: Final = st.text(st.sampled_from('ab"\\/\x1f\x7f\x85é\u00a0 {}:,'), max_size=6)
VALUES: Final = st.recursive(
    st.one_of(TEXTS, st.integers(-(2**65), 2**65), st.booleans(), st.none(), st.floats(allow_nan=False)),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.lists(st.tuples(NAMES, inner), max_size=3)),
    max_leaves=8,
)


def written(value: object, *, is_ascii: bool) -> str:
    """JSON in which a list of pairs is an object, so that members may stand twice."""
    if isinstance(value, list) and value and all(isinstance(one, tuple) for one in value):
        pairs = [f"{json.dumps(name, ensure_ascii=is_ascii)}: {written(one, is_ascii=is_ascii)}" for name, one in value]
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(one, is_ascii=is_ascii) for one in value) + "]"
    return json.dumps(value, ensure_ascii=is_ascii)


@law(2000)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=4), st.booleans(), st.integers(0, 400), st.sampled_from('"\\:,{ \n'))
def test_both_ways_of_reading_an_object_agree(
    members: list[tuple[str, object]], is_ascii: bool, place: int, noise: str
) -> None:
    text = written(members, is_ascii=is_ascii) if members else "{}"
    for candidate in (text, text[:place] + noise + text[place:]):
        assert _taken(candidate.encode()) == _taken_the_long_way(candidate.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": 1, "a": 2}',
        b'{"data": {"a": "x", "a": "y"}}',
        b'{"data": {"a": 1}, "data": {"a": 1}}',
        b'{"a": 1.0}',
        b'{"a": 1e2}',
        b'{"a": 123456789012345678901}',
        b'{"a": "\\ud800"}',
        b'{"a": "\\u0000"}',
        b'{"a": "\x7f"}',
        '{"a": "\x85"}'.encode(),
        b'{"a": "\xff"}',
        b'["a"]',
        b"",
    ],
)
def test_what_readers_differ_on_is_refused(raw: bytes) -> None:
    with pytest.raises(NotStrict):
        read_object(raw, depth_max=4)


def _taken(raw: bytes) -> object:
    try:
        return read_object(raw, depth_max=4)
    except NotStrict:
        return None


def _taken_the_long_way(raw: bytes) -> object:
    try:
        value, misfits = read(raw, depth_max=4)
    except Malformed:
        return None
    return value if next(misfits, None) is None and isinstance(value, dict) else None
