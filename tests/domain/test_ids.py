"""TypeIDs, by the vectors of its specification (0.3.0) and by their own law."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain import ids
from tests.support.properties import law

# (suffix, UUID): `valid.yml` of the specification. The prefix is ours to choose.
VALID = [
    ("00000000000000000000000000", "00000000-0000-0000-0000-000000000000"),
    ("00000000000000000000000001", "00000000-0000-0000-0000-000000000001"),
    ("0000000000000000000000000a", "00000000-0000-0000-0000-00000000000a"),
    ("0000000000000000000000000g", "00000000-0000-0000-0000-000000000010"),
    ("00000000000000000000000010", "00000000-0000-0000-0000-000000000020"),
    ("7zzzzzzzzzzzzzzzzzzzzzzzzz", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    ("0123456789abcdefghjkmnpqrs", "0110c853-1d09-52d8-d73e-1194e95b5f19"),
    ("01h455vb4pex5vsknk084sn02q", "01890a5d-ac96-774b-bcce-b302099a8057"),
]

# `invalid.yml`, as an id with the prefix `prefix` is asked for.
INVALID = {
    "uppercase prefix": "PREFIX_00000000000000000000000000",
    "numeric prefix": "12345_00000000000000000000000000",
    "period in the prefix": "pre.fix_00000000000000000000000000",
    "prefix that is not ASCII": "préfix_00000000000000000000000000",
    "spaces before the prefix": "  prefix_00000000000000000000000000",
    "empty prefix with a separator": "_00000000000000000000000000",
    "nothing but a separator": "_",
    "short suffix": "prefix_1234567890123456789012345",
    "long suffix": "prefix_123456789012345678901234567",
    "space in the suffix": "prefix_1234567890123456789012345 ",
    "uppercase suffix": "prefix_0123456789ABCDEFGHJKMNPQRS",
    "hyphens in the suffix": "prefix_123456789-123456789-123456",
    "letters outside the alphabet": "prefix_ooooooiiiiiiuuuuuuulllllll",
    "ambiguous letters": "prefix_i23456789ol23456789oi23456",
    "hyphens as in Crockford's": "prefix_123456789-0123456789-0123456",
    "129 bits": "prefix_8zzzzzzzzzzzzzzzzzzzzzzzzz",
    "prefix beginning with an underscore": "_prefix_00000000000000000000000000",
    "prefix ending with an underscore": "prefix__00000000000000000000000000",
    # and what the specification leaves out
    "nothing": "",
    "no prefix": "00000000000000000000000000",
    "another prefix": "other_00000000000000000000000000",
    "newline at the end": "prefix_00000000000000000000000000\n",
    "digits of another script": "prefix_\N{ARABIC-INDIC DIGIT ZERO}0000000000000000000000000",
    "NUL at the end": "prefix_00000000000000000000000000\0",
    "its UUID": "00000000-0000-0000-0000-000000000000",
}

prefixes = st.sampled_from([ids.PAYMENT, ids.REFUND, ids.EVENT, ids.MERCHANT, ids.WEBHOOK_ENDPOINT])


@pytest.mark.parametrize(("suffix", "uuid"), VALID)
def test_the_vectors_of_the_specification_are_read_and_written(suffix: str, uuid: str) -> None:
    assert ids.public("pay", uuid) == f"pay_{suffix}"
    assert ids.parse("pay", f"pay_{suffix}") == uuid


def test_a_prefix_may_have_an_underscore_inside() -> None:
    assert ids.parse("pre_fix", "pre_fix_00000000000000000000000000") == "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID.keys())
def test_what_the_specification_refuses_is_no_id(text: str) -> None:
    assert ids.parse("prefix", text) is None


@law(300)
@given(prefixes, st.uuids())
def test_an_id_goes_out_and_comes_back(prefix: str, uuid: UUID) -> None:
    assert ids.parse(prefix, ids.public(prefix, str(uuid))) == str(uuid)


@law(300)
@given(prefixes, prefixes, st.uuids())
def test_an_id_of_one_kind_is_none_of_another(prefix: str, other: str, uuid: UUID) -> None:
    assert (ids.parse(other, ids.public(prefix, str(uuid))) is None) == (prefix != other)


@law(300)
@given(st.uuids(), st.uuids())
def test_ids_sort_as_their_uuids_do(one: UUID, other: UUID) -> None:
    assert (ids.public("pay", str(one)) < ids.public("pay", str(other))) == (one < other)


@law(500)
@given(st.text(max_size=40) | st.from_regex(r"pay_[0-9a-z]{20,30}"))
def test_whatever_is_read_as_an_id_is_written_the_same_way(text: str) -> None:
    uuid = ids.parse("pay", text)
    assert uuid is None or ids.public("pay", uuid) == text
