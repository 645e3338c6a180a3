"""Mistakes planted into the core: what the auditor must not let pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Final, TypeAlias

from paynode.domain import booking
from paynode.domain.booking import Adjustment, MerchantBooks, Surroundings
from paynode.domain.ledger import Entry
from paynode.domain.money import Money
from paynode.domain.postings import AVAILABLE, HELD, PENDING, BusinessFact, Posting

Plant: TypeAlias = Callable[[], AbstractContextManager[None]]


@contextmanager
def _replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Something else under a name, until it ends."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _posted(change: Callable[[BusinessFact], BusinessFact]) -> Plant:
    """Another business fact is posted than is due."""

    def plant() -> AbstractContextManager[None]:
        post = booking.post

        def wrong(
            books: MerchantBooks, fact: BusinessFact, around: Surroundings
        ) -> tuple[MerchantBooks, tuple[Entry, ...], Adjustment]:
            return post(books, change(fact), around)

        return _replaced(booking, "post", wrong)

    return plant


def _lines(kind: str, change: Callable[[Posting], Posting | None]) -> Plant:
    """The lines of one kind of fact are others; None: left out."""

    def changed(fact: BusinessFact) -> BusinessFact:
        if fact.kind != kind:
            return fact
        lines = tuple(line for line in map(change, fact.postings) if line is not None)
        return replace(fact, postings=lines) if lines else fact

    return _posted(changed)


def _more(line: Posting, type: str, amount: int) -> Posting:  # noqa: A002 - the field's name
    """The same line with so much more, where it is of that type and stays a line."""
    is_line = line.type == type and line.money.amount + amount > 0
    money = Money(amount=line.money.amount + amount, currency=line.money.currency)
    return replace(line, money=money) if is_line else line


BUGS: Final[Mapping[str, Plant]] = {
    "a fee rounds down": _lines("capture", lambda line: _more(line, "fee", -1)),
    "a refund is released to available": _lines(
        "refund_release", lambda line: replace(line, credit=AVAILABLE) if line.credit == PENDING else line
    ),
    "a reversal keeps the fee": _lines("reversal", lambda line: line if line.debit == PENDING else None),
    "a late refund is paid out of what others hold": _lines(
        "refund", lambda line: replace(line, debit=HELD) if line.debit == AVAILABLE else line
    ),
    "a capture is available at once": _lines(
        "capture", lambda line: replace(line, credit=AVAILABLE) if line.credit == PENDING else line
    ),
}
