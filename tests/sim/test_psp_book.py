"""The judge himself: what he sums up of a book, and what he does not let pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.psp_book import Line, PspBook, orders_paid_twice


def _line(number: int, kind: str, of: str, amount: int, charge: str | None = None, result: str = "approved") -> Line:
    at = f"2026-01-01T00:00:{number:02}.000Z"
    names = {"our_reference": of, "psp_reference": f"{kind}-{number}", "charge": charge}
    return {"at": at, "kind": kind, "amount": amount, "result": result, **names}


AUTHORIZE = _line(1, "authorize", "a", 1000)
BOOK: list[Line] = [
    AUTHORIZE,
    _line(2, "capture", "b", 600, "authorize-1"),
    _line(3, "capture", "c", 300, "authorize-1"),
    _line(4, "capture", "d", 200, "authorize-1", "declined"),
    _line(5, "refund", "e", 500, "authorize-1"),
    _line(6, "refund", "f", 100, "authorize-1"),
    _line(7, "reversal", "e", 500, "refund-5", "reversed"),
    _line(8, "void", "g", 100, "authorize-1"),
    _line(9, "reversal", "c", 300, "capture-3", "reversed"),
    _line(10, "sale", "h", 50),
]


def test_it_sums_up_what_was_kept_of_each_operation() -> None:
    book = PspBook(BOOK)
    assert book.breaches == []
    received = {name: book.received(name) for name in "abcdefgh"}
    assert received == {"a": 0, "b": 600, "c": 0, "d": 0, "e": 0, "f": -100, "g": 0, "h": 50}
    assert [len(book.approved(name)) for name in "abdx"] == [1, 1, 0, 0]
    charge = book.charges["authorize-1"]
    sums = (charge.authorized, charge.captured, charge.voided, charge.refunded, charge.reversed)
    assert sums == (1000, 900, 100, 100, 300)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: [*BOOK, _line(11, "sale", "h", 50)],
        lambda: [*BOOK, _line(11, "refund", "f", 1, "authorize-1")],
        lambda: [*BOOK, _line(11, "capture", "x", 1, "authorize-1")],
        lambda: [AUTHORIZE, _line(2, "capture", "b", 1001, "authorize-1")],
        lambda: [AUTHORIZE, _line(2, "refund", "b", 1, "authorize-1"), _line(3, "capture", "c", 1, "authorize-1")],
        lambda: [*BOOK, _line(11, "refund", "x", 51, "sale-10")],
    ],
    ids=["charged twice", "refunded twice", "captured after void", "over-captured", "refunded first", "over-refunded"],
)
def test_it_lets_nothing_pass_at_any_line(spoil: Callable[[], Any]) -> None:
    assert len(PspBook(spoil()).breaches) == 1


def test_it_sees_an_order_that_two_charges_pay() -> None:
    twice = PspBook([_line(1, "sale", "a", 50), _line(2, "authorize", "b", 50)])
    assert list(orders_paid_twice(twice, {"a": "o", "b": "o"})) == ["o is paid by 2 charges: ['a', 'b']"]
    assert list(orders_paid_twice(twice, {"a": "o", "b": "p"})) == []
    for given_back in (
        _line(3, "refund", "c", 50, "sale-1"),
        _line(3, "reversal", "a", 50, "sale-1", "reversed"),
        _line(3, "void", "c", 50, "authorize-2"),
        _line(3, "lapse", "b", 50, "authorize-2", "expired"),
    ):
        assert list(orders_paid_twice(PspBook([*twice.lines, given_back]), {"a": "o", "b": "o"})) == []
