"""Entries as Redis gives them, and what may be taken for a pointer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.road import Entry
from paynode.streams.entries import entries, entry_id
from tests.support.properties import law

REF = "01890a5d-ac96-774b-bcce-b302099a8057"


def test_fields_become_text_and_a_trimmed_entry_has_none() -> None:
    assert entries([(b"1-0", {b"ref": b"x"}), (b"2-0", None), (b"3-0", {})]) == [
        Entry(id="1-0", fields={"ref": "x"}),
        Entry(id="2-0", fields={}),
        Entry(id="3-0", fields={}),
    ]


@law(200)
@given(st.dictionaries(st.binary(max_size=20), st.binary(max_size=40), max_size=4))
def test_any_bytes_are_text_afterwards(fields: dict[bytes, bytes]) -> None:
    (entry,) = entries([(b"1-0", fields)])
    for name, value in entry.fields.items():
        (name + value).encode("utf-8", "strict")  # what was not UTF-8 is replaced, and can be written down again


@pytest.mark.parametrize(
    ("fields", "ref"),
    [
        ({"ref": REF}, REF),
        ({"ref": REF, "amount": "1000000"}, REF),  # whatever else it says is not read
        ({}, None),
        ({"event": "{}"}, None),
        ({"ref": ""}, None),
        ({"ref": REF.upper()}, None),
        ({"ref": REF + "\n"}, None),
        ({"ref": "{" + REF + "}"}, None),
        ({"ref": REF.replace("-", "")}, None),
        ({"ref": "1890a5d-ac96-774b-bcce-b302099a80570"}, None),
        ({"ref": "\N{ARABIC-INDIC DIGIT ZERO}" + REF[1:]}, None),
    ],
)
def test_a_pointer_is_the_canonical_text_of_a_uuid(fields: dict[str, str], ref: str | None) -> None:
    assert Entry(id="1-0", fields=fields).ref == ref


@pytest.mark.parametrize(
    ("less", "more"), [("1-0", "1-1"), ("9-9", "10-0"), ("999-5", "1000-4"), ("1700000000000-9", "1700000000000-10")]
)
def test_ids_compare_as_numbers_and_not_as_text(less: str, more: str) -> None:
    assert entry_id(less) < entry_id(more)
