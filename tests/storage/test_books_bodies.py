"""Bodies that paynode writes to its own actors: what is written is read again, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson
import pytest

from paynode.domain.errors import Poison
from paynode.domain.maturing import Due, MaturityKind
from paynode.domain.mending import BooksAdjustment
from paynode.domain.money import Money
from paynode.domain.psp import SettlementKind
from paynode.domain.report import ReportLine, line_id
from paynode.storage import books_bodies as bodies
from tests.storage.rows import new_id

MATURITY: Final = Due(
    merchant_id=new_id(), payment_id=new_id(), operation_id=new_id(), kind=MaturityKind.RESERVE
).maturity
LINE: Final = ReportLine(
    id=line_id("sim", SettlementKind.FEE, "fee_1"),
    psp="sim",
    kind=SettlementKind.FEE,
    reference="fee_1",
    operation_id=None,
    payment_id=None,
    money=Money(amount=12, currency="EUR"),
    at_ms=1_700_000_000_000,
)
ADJUSTMENT: Final = BooksAdjustment(
    id=new_id(),
    posting=bodies.adjustment_posting("suspense:sim", "loss", Money(amount=5, currency="EUR")),
    payment_id=None,
    reference="case 7",
)

Decode = Callable[[str | bytes], object]


def test_what_is_written_is_read_again() -> None:
    assert bodies.decode_maturity(bodies.encode_maturity(MATURITY)) == MATURITY
    assert bodies.decode_line(bodies.encode_line(LINE)) == LINE
    assert bodies.decode_adjustment(bodies.encode_adjustment(ADJUSTMENT)) == ADJUSTMENT


@pytest.mark.parametrize(
    ("decode", "sound", "changes"),
    [
        (bodies.decode_maturity, bodies.encode_maturity(MATURITY), {"kind": "capture.ripen"}),
        (bodies.decode_maturity, bodies.encode_maturity(MATURITY), {"operation_id": None}),
        (bodies.decode_line, bodies.encode_line(LINE), {"amount": 0}),
        (bodies.decode_line, bodies.encode_line(LINE), {"amount": True}),
        (bodies.decode_line, bodies.encode_line(LINE), {"currency": "eur"}),
        (bodies.decode_line, bodies.encode_line(LINE), {"operation_id": "ours"}),
        (bodies.decode_line, bodies.encode_line(LINE), {"kind": "gift"}),
        (bodies.decode_line, bodies.encode_line(LINE), {"at_ms": None}),
        (bodies.decode_line, bodies.encode_line(LINE), {"is_posted": True}),
        (bodies.decode_adjustment, bodies.encode_adjustment(ADJUSTMENT), {"debit": "loss"}),
        (bodies.decode_adjustment, bodies.encode_adjustment(ADJUSTMENT), {"debit": "merchant:held"}),
        (bodies.decode_adjustment, bodies.encode_adjustment(ADJUSTMENT), {"credit": "fee_revenue"}),
        (bodies.decode_adjustment, bodies.encode_adjustment(ADJUSTMENT), {"credit": "suspense:sim\n"}),
    ],
)
def test_what_somebody_else_wrote_is_poison(decode: Decode, sound: str, changes: dict[str, Any]) -> None:
    with pytest.raises(Poison, match="body_invalid"):
        decode(orjson.dumps({**orjson.loads(sound), **changes}))


@pytest.mark.parametrize("account", ["psp:sim:receivable", "suspense:sim", "suspense:internal", "merchant:available"])
def test_what_may_be_adjusted(account: str) -> None:
    assert bodies.is_adjustable(account)


@pytest.mark.parametrize("account", ["merchant:pending", "merchant:reserve", "payout_transit", "suspense:", "psp:sim"])
def test_what_follows_from_other_things_is_not_adjusted(account: str) -> None:
    assert not bodies.is_adjustable(account)
