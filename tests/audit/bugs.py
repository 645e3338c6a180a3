"""Mistakes planted into the core: what the auditor must not let pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any, Final, TypeAlias

from paynode.domain.booking import Effects, Lines, MerchantBooks, Surroundings
from paynode.domain.payment import Operation, Payment
from paynode.domain.postings import AVAILABLE, PENDING, BusinessFact, Posting
from paynode.domain.terms import Split, Terms
from paynode.domain.wallet import Wallet

# Modules, whose names they import are theirs to use and here to replace.
_BOOKING: Final[Any] = import_module("paynode.domain.booking")
_TERMS: Final[Any] = import_module("paynode.domain.terms")
_CORE: Final[Any] = import_module("tests.audit.core")

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


def _lines(kind: str, change: Callable[[Posting], Posting | None]) -> Plant:
    """The lines of one kind of fact are posted otherwise than they are due; None: left out."""

    def plant() -> AbstractContextManager[None]:
        post = _BOOKING.post

        def wrong(books: MerchantBooks, fact: BusinessFact, around: Surroundings) -> tuple[MerchantBooks, Lines]:
            if fact.kind == kind:
                lines = tuple(line for line in map(change, fact.postings) if line is not None)
                fact = replace(fact, postings=lines or fact.postings)
            posted: tuple[MerchantBooks, Lines] = post(books, fact, around)
            return posted

        return _replaced(_BOOKING, "post", wrong)

    return plant


def _fee_rounds_down() -> AbstractContextManager[None]:
    def shares(amount: int, weights: Sequence[int]) -> tuple[int, ...]:
        *few, _ = (amount * weight // sum(weights) for weight in weights)
        return (*few, amount - sum(few))

    return _replaced(_TERMS, "shares", shares)


def _ties_go_to_the_merchant() -> AbstractContextManager[None]:
    shares = _TERMS.shares

    def wrong(amount: int, weights: Sequence[int]) -> tuple[int, ...]:
        divided: tuple[int, ...] = shares(amount, weights[::-1])
        return divided[::-1]

    return _replaced(_TERMS, "shares", wrong)


def _fixed_fee_with_each_capture() -> AbstractContextManager[None]:
    split = Terms.split

    def wrong(one: Terms, captured: int, *, has_fixed_fee: bool) -> Split:
        return split(one, captured, has_fixed_fee=True)

    return _replaced(Terms, "split", wrong)


def _reserve_never_released() -> AbstractContextManager[None]:
    return _replaced(_BOOKING, "release", lambda payment, operation: None)


def _reserve_released_again() -> AbstractContextManager[None]:
    return _replaced(_BOOKING, "released", lambda payment, operation: payment)


def _debts_left_out() -> AbstractContextManager[None]:
    """A capture becomes available whole, whatever the merchant owes where it was pending."""

    matured, availability, post = _BOOKING.matured, _BOOKING.availability, _BOOKING.post

    def wrong(
        books: MerchantBooks, payment: Payment, operation: Operation, around: Surroundings
    ) -> tuple[MerchantBooks, Payment, Lines]:
        after, wallet = matured(payment, books.wallet(operation.money.currency), operation)
        whole = replace(wallet, pending=wallet.maturing + operation.rest_pending)
        fact = availability(after, operation, whole)
        if fact is None:
            return books.with_wallet(wallet), after, Lines()
        books, lines = post(books.with_wallet(wallet), fact, around)
        return books, after, lines

    return _replaced(_BOOKING, "make_available", wrong)


def _payable(of: Callable[[Wallet], int]) -> Plant:
    """Another amount may be paid out."""
    return lambda: _replaced(Wallet, "payable", property(of))


def _payout_ends_again() -> AbstractContextManager[None]:
    end_payout = _CORE.end_payout

    def wrong(books: MerchantBooks, *rest: Any) -> tuple[MerchantBooks, Effects]:
        after, effects = end_payout(books, *rest)
        return replace(after, payouts=books.payouts), effects

    return _replaced(_CORE, "end_payout", wrong)


def _lines_posted_again() -> AbstractContextManager[None]:
    settle = _CORE.settle

    def wrong(books: Any, payment: Any, line: Any, around: Any) -> Any:
        return settle(books, payment, replace(line, is_posted=False), around)

    return _replaced(_CORE, "settle", wrong)


def _hold_keeps_what_matures() -> AbstractContextManager[None]:
    """What a refund holds of what is pending is still to mature, in the books."""
    rescheduled = _BOOKING.rescheduled

    def wrong(payment: Payment, wallet: Wallet, fact: BusinessFact, now_ms: int) -> tuple[Payment, Wallet]:
        return (payment, wallet) if fact.kind == "refund_hold" else rescheduled(payment, wallet, fact, now_ms)

    return _replaced(_BOOKING, "rescheduled", wrong)


BUGS: Final[Mapping[str, Plant]] = {
    "a fee rounds down": _fee_rounds_down,
    "the last unit goes to the merchant": _ties_go_to_the_merchant,
    "the fixed fee with each capture": _fixed_fee_with_each_capture,
    "a capture is available at once": _lines(
        "capture", lambda line: replace(line, credit=AVAILABLE) if line.type == "capture" else line
    ),
    "a reversal keeps the fee": _lines(
        "reversal", lambda line: line if line.debit in (PENDING, "merchant:reserve") else None
    ),
    "a reversal keeps the reserve": _lines("reversal", lambda line: None if line.debit == "merchant:reserve" else line),
    "a refund is released to available": _lines(
        "refund_release", lambda line: replace(line, credit=AVAILABLE) if line.credit == PENDING else line
    ),
    "what a refund holds is still to mature": _hold_keeps_what_matures,
    "the reserve is never released": _reserve_never_released,
    "the reserve is released again": _reserve_released_again,
    "what matures pays no debt": _debts_left_out,
    "more is paid out than is available": _payable(lambda wallet: max(wallet.available + wallet.pending, 0)),
    "a payout leaves a debt behind": _payable(lambda wallet: max(wallet.available, 0)),
    "a payout ends again": _payout_ends_again,
    "a line is posted again": _lines_posted_again,
}
