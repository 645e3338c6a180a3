"""A chain is followed to the first entry that nobody vouches for; and no two entries have the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paynode.domain.ledger import GENESIS, NO_ENTRIES, Entry, Head, canonical, seal
from paynode.domain.verifying import Anchored, Chain, Expected, Fault, Row, Why
from tests.architecture.sources import ROOT
from tests.domain.making import MERCHANT, OPERATION, PAYMENT, new_id
from tests.support.properties import law

_SEALED: Final = tuple(
    field.name for field in fields(Row) if field.name not in ("is_whole_ms", "epoch", "prev_hash", "hash")
)


def content(row: Row) -> bytes:
    return canonical(**{name: getattr(row, name) for name in _SEALED})


def row(**changes: object) -> Row:
    """An entry, sealed as it is."""
    plain = Row(
        entry_id=new_id(),
        line=1,
        merchant_id=MERCHANT,
        seq=1,
        payment_id=PAYMENT,
        operation_id=OPERATION,
        type="capture",
        debit="psp:sim:receivable",
        credit="merchant:pending",
        amount=1000,
        currency="EUR",
        at_ms=1_700_000_000_000,
        reference="ch_1",
        is_whole_ms=True,
        epoch=1,
        prev_hash=GENESIS,
        hash=GENESIS,
    )
    changed = replace(plain, **changes)  # type: ignore[arg-type]
    return replace(changed, hash=seal(changed.prev_hash, content(changed)))


def chain(count: int, opening: Head = NO_ENTRIES) -> list[Row]:
    rows: list[Row] = []
    for _ in range(count):
        before = Head(seq=rows[-1].seq, hash=rows[-1].hash) if rows else opening
        rows.append(row(seq=before.seq + 1, prev_hash=before.hash))
    return rows


def head(of: Row) -> Head:
    return Head(seq=of.seq, hash=of.hash)


def follow(rows: Sequence[Row], expected: Expected) -> Fault | None:
    followed = Chain(MERCHANT, expected)
    for one in rows:
        followed.follow(one)
    followed.end()
    return followed.fault


def found(rows: Sequence[Row], expected: Expected) -> tuple[int, Why] | None:
    fault = follow(rows, expected)
    return None if fault is None else (fault.seq, fault.why)


def test_a_row_has_every_field_of_an_entry() -> None:
    ours = {"entry_id" if field.name == "id" else field.name for field in fields(Entry)} - {"posting"}
    assert {field.name for field in fields(Row)} == {
        *ours,
        *("type", "debit", "credit", "amount", "currency", "is_whole_ms"),
    }


def test_a_chain_may_begin_behind_what_was_taken_away() -> None:
    opening = Head(seq=40, hash=b"7" * 32)
    rows = chain(3, opening)
    assert follow(rows, Expected(opening=opening, head=head(rows[-1]))) is None
    assert found(rows, Expected(head=head(rows[-1]))) == (1, Why.MISSING)
    other = Head(seq=40, hash=b"8" * 32)
    assert found(rows, Expected(opening=other, head=head(rows[-1]))) == (41, Why.REPLACED)
    assert found([], Expected(opening=opening, head=Head(seq=41, hash=GENESIS))) == (41, Why.CUT_OFF)
    assert follow([], Expected(opening=opening, head=opening)) is None


def test_anchors_of_what_was_taken_away_say_nothing_but_for_the_last() -> None:
    opening = Head(seq=40, hash=b"7" * 32)
    rows = chain(2, opening)
    old = Anchored(head=Head(seq=39, hash=b"9" * 32), anchor=1)

    def with_anchors(*anchored: Anchored) -> tuple[int, Why] | None:
        return found(rows, Expected(opening=opening, head=head(rows[-1]), anchored=anchored))

    assert with_anchors(old, Anchored(head=opening, anchor=2)) is None
    forged = Anchored(head=Head(seq=40, hash=b"8" * 32), anchor=2)
    assert with_anchors(old, forged) == (40, Why.NOT_AS_ANCHORED)


def test_what_an_anchor_vouches_for_bounds_the_search() -> None:
    rows = chain(9)
    anchored = tuple(Anchored(head=head(rows[at - 1]), anchor=at) for at in (2, 5, 8))
    followed = Chain(MERCHANT, Expected(head=head(rows[-1]), anchored=anchored))
    for one in rows:
        followed.follow(one)
    followed.end()
    assert (followed.fault, followed.vouched, followed.last.seq) == (None, 8, 9)
    anew = [*rows[:5], *chain(4, Head(seq=5, hash=rows[4].hash))]
    fault = follow(anew, Expected(head=head(anew[-1]), anchored=anchored))
    assert fault == Fault(merchant_id=MERCHANT, seq=6, why=Why.NOT_AS_ANCHORED, detail="anchor 8 names another entry 8")


def test_two_anchors_that_contradict_each_other_cannot_both_be_right() -> None:
    rows = chain(2)
    anchored = (Anchored(head=head(rows[1]), anchor=1), Anchored(head=Head(seq=2, hash=GENESIS), anchor=2))
    assert found(rows, Expected(head=head(rows[1]), anchored=anchored)) == (2, Why.NOT_AS_ANCHORED)


@pytest.mark.parametrize("field", ["type", "debit", "credit"])
def test_a_separator_in_a_name_is_no_entry_of_ours(field: str) -> None:
    assert row().is_intact
    assert not row(**{field: "a|b"}).is_intact


def test_two_readings_of_the_same_bytes_exist_and_only_one_is_believed() -> None:
    """Why a separator in a name is looked for: the reference is not ours to choose, and could be chosen for this."""
    honest = row(reference="USD|7|x")
    forged = replace(
        honest,
        type=f"{honest.type}|{honest.debit}|{honest.credit}",
        debit=str(honest.amount),
        credit=honest.currency,
        amount=honest.at_ms,
        currency="USD",
        at_ms=7,
        reference="x",
    )
    assert content(forged) == content(honest)
    assert (honest.is_intact, forged.is_intact) == (True, False)


_WORDS: Final = st.text(st.sampled_from("a1|:"), min_size=1, max_size=4)
_NUMBERS: Final = st.integers(1, 20)
# Few characters and small numbers, so that fields which run into each other would meet.
_ROWS: Final = st.builds(
    row,
    entry_id=st.sampled_from([PAYMENT, OPERATION]),
    line=_NUMBERS,
    seq=_NUMBERS,
    payment_id=st.sampled_from(["", PAYMENT, OPERATION]),
    operation_id=st.sampled_from([PAYMENT, OPERATION]),
    type=_WORDS,
    debit=_WORDS,
    credit=_WORDS,
    amount=_NUMBERS,
    currency=st.sampled_from(["EUR", "USD"]),
    at_ms=_NUMBERS,
    reference=st.one_of(_WORDS, st.builds("{}|{}|{}".format, st.sampled_from(["EUR", "USD"]), _NUMBERS, _WORDS)),
)


@law(500)
@given(one=_ROWS, other=_ROWS)
def test_two_different_entries_never_have_the_same_bytes(one: Row, other: Row) -> None:
    legible = one.is_intact and other.is_intact
    if legible and content(one) == content(other):
        assert [getattr(one, name) for name in _SEALED] == [getattr(other, name) for name in _SEALED]


@law(500)
@given(sealed=_ROWS)
def test_the_bytes_of_an_entry_can_be_read_back(sealed: Row) -> None:
    """Which is a proof of the same: what can be read back in one way only was not anything else."""
    if sealed.is_intact:
        *plain, reference = content(sealed).decode().split("|", len(_SEALED) - 1)
        values = [str(getattr(sealed, name)) for name in _SEALED]
        assert [*plain, reference] == values


def test_the_example_of_the_manual_is_right() -> None:
    """Whoever writes a verifier tries it on this first."""
    manual = (ROOT / "docs" / "ledger.md").read_text()
    example = row(entry_id="01890a5d-0000-7000-8000-000000000001")
    assert content(example).decode() in "".join(line.strip() for line in manual.splitlines())
    assert f"`{example.hash.hex()}`" in manual
