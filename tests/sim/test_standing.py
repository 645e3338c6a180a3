"""The sums of one charge, without a process: no order of operations gives more than there is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from paynode.sim.memory import Memory
from paynode.sim.records import Entry, Kind, Session
from paynode.sim.report import Line, Report, totals_of
from paynode.sim.standing import Standing, refusal_of_cancel
from tests.support.properties import law

_ENTRY = Entry(
    id="au_1",
    kind=Kind.AUTHORIZE,
    reference="op-1",
    idempotency_key="op-1",
    request_hash="",
    amount=1000,
    currency="EUR",
    decline_code=None,
    created_ms=100,
)
_SESSION = Session(
    id="cs_1",
    reference="op-1",
    idempotency_key="op-1",
    request_hash="",
    amount=1000,
    currency="EUR",
    return_url="",
    description="",
    created_ms=100,
    expires_ms=400,
)
_FOLLOWING = (Kind.CAPTURE, Kind.VOID, Kind.REFUND, Kind.REVERSAL, Kind.LAPSE)


@law(200)
@given(
    is_sale=st.booleans(),
    steps=st.lists(st.tuples(st.sampled_from(_FOLLOWING), st.integers(1, 1200), st.booleans()), max_size=20),
)
def test_never_more_is_captured_voided_or_refunded_than_there_is(
    is_sale: bool, steps: Sequence[tuple[Kind, int, bool]]
) -> None:
    memory = Memory()
    memory.know(replace(_ENTRY, kind=Kind.SALE) if is_sale else _ENTRY)
    standing = memory.standing_of(_ENTRY)
    done: list[Entry] = [_ENTRY] if is_sale else []
    for number, (kind, amount, is_final) in enumerate(steps):
        entry = replace(_ENTRY, id=f"x_{number}", kind=kind, reference=f"op-{number}", amount=amount, charge_id="au_1")
        if kind is Kind.REVERSAL:
            if done:
                memory.know(replace(entry, charge_id=done.pop().id))
        elif kind is Kind.LAPSE:
            if standing.remaining:
                memory.know(entry)
        elif standing.refusal(kind, amount, "EUR") is None:
            amount = standing.remaining if kind is Kind.VOID else amount
            memory.know(replace(entry, amount=amount, is_final=is_final))
            if kind is not Kind.VOID:
                done.append(memory.entry(entry.id))
        assert 0 <= standing.captured + standing.voided <= 1000
        assert 0 <= standing.reversed <= standing.captured
        assert 0 <= standing.refunded <= standing.captured
        assert standing.remaining >= 0
        assert standing.refusal(Kind.REFUND, standing.refundable + 1, "EUR") is not None


def test_a_charge_that_came_twice_by_one_name_is_told_apart_by_the_name_of_the_psp() -> None:
    memory = Memory()
    memory.know(_ENTRY)
    memory.know(replace(_ENTRY, id="au_2", idempotency_key="op-1-again"))
    assert [memory.standing("op-1", charge_id) for charge_id in ("au_1", "au_2")] == [
        memory.standing_of(_ENTRY),
        Standing(memory.entry("au_2")),
    ]
    assert memory.standing("op-1", None) is memory.standing("op-1", "au_1")
    assert memory.standing("op-2", "au_1") is None, "of somebody else's name"


def test_an_inquiry_that_lags_sees_everything_as_it_was_then() -> None:
    memory = Memory()
    memory.know(_ENTRY)
    memory.know(replace(_ENTRY, id="lp_1", kind=Kind.LAPSE, charge_id="au_1", created_ms=300))
    assert [memory.shown(_ENTRY, at_ms)["status"] for at_ms in (299, 300, None)] == ["approved", "expired", "expired"]
    paid, canceled, expired = (
        replace(_SESSION, charge=replace(_ENTRY, created_ms=200, session_id="cs_1")),
        replace(_SESSION, cancel=replace(_ENTRY, kind=Kind.CANCEL, created_ms=200, session_id="cs_1")),
        replace(_SESSION, is_expired=True),
    )
    for session, at_ms, status, code in [
        (paid, 200, "approved", "already_paid"),
        (canceled, 200, "canceled", "already_canceled"),
        (expired, 400, "expired", "already_expired"),
    ]:
        assert [session.status_at(one) for one in (at_ms - 1, at_ms, None)] == ["open", status, status]
        assert refusal_of_cancel(session) == code
    assert refusal_of_cancel(_SESSION) is None


def test_the_report_is_in_order_whatever_the_order_of_the_book() -> None:
    report = Report(fee_basis_points=100)
    for number, at_ms in enumerate([500, 300, 400, 400]):
        report.know(replace(_ENTRY, id=f"ch_{number}", kind=Kind.SALE, created_ms=at_ms), None)
    report.know(replace(_ENTRY, id="ch_no", kind=Kind.SALE, decline_code="do_not_honor"), None)
    report.know(_ENTRY, None)  # an authorization moves nothing
    lines = report.between(300, 501)
    assert [line.at_ms for line in lines] == [300, 300, 400, 400, 400, 400, 500, 500]
    assert report.between(301, 500) == lines[2:6]
    after: tuple[int, int] | None = None
    pages: list[Line] = []
    while True:
        page, has_more = report.page(300, 501, after=after, limit=3)
        pages += page
        if not has_more:
            break
        after = page[-1].at_ms, page[-1].number
    assert pages == list(lines)
    assert totals_of(lines)["EUR"] == {
        "count": 4,
        "amount": 4000,
        "refund": 0,
        "reversal": 0,
        "refund_failure": 0,
        "fee": 40,
        "net": 3960,
    }
