"""A PSP's report against the books: every kind of difference, and that agreement is silent."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest

from paynode.domain.errors import Unavailable
from paynode.domain.ids import HOUSE, MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.domain.reconciling import RunReport, Window
from paynode.domain.report import line_id
from paynode.domain.road import events_stream
from paynode.recon.settlement import SettlementReconciliation, SettlementRules
from paynode.storage.postgres import Pool, Session
from paynode.storage.recon_settlement import PgLineKeeping, PgReports
from tests.recon.hands import breaks, kinds, outbox, run_rows, runs, tamper
from tests.storage import rows, world
from tests.storage.world import Shop

_PARTITIONS = 32


@dataclass
class Scripted:
    """A PSP that reports what a test says."""

    lines: list[SettlementLine] = field(default_factory=list)

    async def settlement(self, since: datetime, until: datetime) -> AsyncIterator[SettlementLine]:
        for line in self.lines:
            yield line


@pytest.fixture
def psp() -> Scripted:
    return Scripted()


@pytest.fixture
def settlement(reading: Pool, writing: Pool, psp: Scripted) -> SettlementReconciliation:
    return SettlementReconciliation(
        "sim",
        psp,
        PgReports(reading, page_size=2),
        PgLineKeeping(writing),
        runs(writing),
        SettlementRules(page_size=2, partitions=_PARTITIONS),
    )


@pytest.fixture
async def shop(owner: Session) -> Shop:
    return await world.open_shop(owner)


async def _run(settlement: SettlementReconciliation, *, is_dry: bool = False) -> RunReport:
    window = Window(since_ms=0, until_ms=round(time.time() * 1000) + 60_000)
    return await settlement.run_once(window, settle_ms=0, is_dry=is_dry)


def _line(operation: str | None, **changes: object) -> SettlementLine:
    line = SettlementLine(
        kind=SettlementKind.CHARGE,
        reference="ch_1",
        our_reference=operation,
        amount=1000,
        currency="EUR",
        at_ms=1_772_366_400_000,
    )
    return replace(line, **changes)  # type: ignore[arg-type]


async def _captured(owner: Session, shop: Shop, reference: str = "ch_1") -> str:
    """A sale that is booked under this name; its operation's id."""
    payment = await world.capture(owner, shop)
    if reference != "ch_1":
        await tamper(owner, "UPDATE ledger_entries SET psp_reference = $2 WHERE payment_id = $1", payment, reference)
    operation: str = await owner.fetchval("SELECT id::text FROM operations WHERE payment_id = $1", payment)
    return operation


async def _in_doubt(owner: Session, shop: Shop, kind: str = "sale", state: str = "unknown") -> str:
    """An operation of which the books know no money; its id."""
    payment = rows.payment(merchant_id=shop.id, status="unknown")
    operation = rows.operation(payment_id=payment["id"], merchant_id=shop.id, state=state, kind=kind)
    await rows.insert(owner, "payments", payment)
    await rows.insert(owner, "operations", operation)
    return str(operation["id"])


async def _post(owner: Session) -> None:
    """What the actors do with lines, as far as it shows here."""
    for one in await outbox(owner, "settlement.line"):
        adjustment = rows.adjustment(
            operation_id=one["id"], kind="settlement", merchant_id=one["merchant_id"], delta=0, d_pending=0
        )
        await rows.insert(owner, "wallet_adjustments", adjustment)
        await owner.execute("DELETE FROM outbox WHERE id = $1", one["id"])


async def test_a_report_that_agrees_is_kept_and_posted_and_nothing_is_found(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    references = [f"ch_{number}" for number in range(5)]
    operations = [await _captured(owner, shop, reference) for reference in references]
    psp.lines = [_line(one, reference=name) for one, name in zip(operations, references, strict=True)]
    psp.lines += [
        _line(operations[0], kind=SettlementKind.FEE, reference="fee_ch_0", amount=12),
        _line(operations[0], kind=SettlementKind.FEE, reference="fee_ch_1", amount=0),
    ]
    report = await _run(settlement)
    assert (report.tally.differing, report.tally.checked, report.inputs["lines"]) == (0, 6, 7)
    assert await breaks(owner) == []
    messages = await outbox(owner, "settlement.line")
    assert len(messages) == 6
    first = next(one for one in messages if one["body"]["reference"] == "ch_0")
    payment = await owner.fetchval("SELECT payment_id::text FROM operations WHERE id = $1", operations[0])
    assert first["id"] == line_id("sim", SettlementKind.CHARGE, "ch_0")
    assert first["body"] == {
        "id": first["id"],
        "psp": "sim",
        "kind": "charge",
        "reference": "ch_0",
        "operation_id": operations[0],
        "payment_id": payment,
        "amount": 1000,
        "currency": "EUR",
        "at_ms": 1_772_366_400_000,
    }
    assert first["merchant_id"] == shop.id
    assert first["stream"] == events_stream(partition_of(public(MERCHANT, shop.id), _PARTITIONS))
    await _run(settlement)
    assert len(await outbox(owner)) == 6
    await _post(owner)
    assert (await _run(settlement)).tally.differing == 0
    assert await outbox(owner) == [], "posted once"


async def test_a_line_whose_message_was_lost_is_brought_again(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    psp.lines = [_line(await _captured(owner, shop))]
    await _run(settlement)
    await owner.execute("DELETE FROM outbox")
    await _run(settlement)
    assert len(await outbox(owner, "settlement.line")) == 1


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"amount": 900}, ("amount_differs", 1000, 900, -100)),
        ({"amount": 1001}, ("amount_differs", 1000, 1001, 1)),
        ({"currency": "USD"}, ("currency_differs", 0, 1000, 1000)),
        ({"kind": SettlementKind.REFUND, "reference": "re_1"}, ("unexplained", 0, -1000, -1000)),
    ],
)
async def test_a_line_that_says_otherwise_is_for_people(
    owner: Session,
    settlement: SettlementReconciliation,
    psp: Scripted,
    shop: Shop,
    change: dict[str, object],
    found: tuple[str, int, int, int],
) -> None:
    operation = await _captured(owner, shop)
    psp.lines = [_line(operation, **change)]
    if change.get("kind"):
        psp.lines.append(_line(operation))
    await _run(settlement)
    [one] = await breaks(owner)
    assert (one["kind"], one["expected"], one["found"], one["drift"]) == found
    assert (one["state"], str(one["operation_id"]), one["size"]) == ("open", operation, abs(found[3]))
    [run] = await run_rows(owner)
    assert run["outcome"]["drift"] == {one["currency"]: found[3]}


async def test_a_second_charge_is_booked_as_surplus_by_its_line(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operation = await _captured(owner, shop)
    psp.lines = [_line(operation), _line(operation, reference="ch_2")]
    await _run(settlement)
    assert await kinds(owner) == [("charged_twice", 1000, "repairing")]
    await _post(owner)
    await _run(settlement)
    assert await kinds(owner) == [("charged_twice", 1000, "open")], "its line is posted, and it is still not booked"


@pytest.mark.parametrize(
    ("kind", "line", "drift"),
    [("sale", SettlementKind.CHARGE, 1000), ("refund", SettlementKind.REFUND, -1000)],
)
async def test_what_is_reported_and_not_booked_is_repaired_by_its_line(
    owner: Session,
    settlement: SettlementReconciliation,
    psp: Scripted,
    shop: Shop,
    kind: str,
    line: SettlementKind,
    drift: int,
) -> None:
    operation = await _in_doubt(owner, shop, kind)
    psp.lines = [_line(operation, kind=line)]
    await _run(settlement)
    assert await kinds(owner) == [("missing_in_books", drift, "repairing")]
    [message] = await outbox(owner, "settlement.line")
    assert message["body"]["operation_id"] == operation
    # The actor books it; the report need not have the line again.
    debit, credit = ("psp:sim:receivable", "merchant:pending") if drift > 0 else ("merchant:held", "psp:sim:receivable")
    entry = rows.ledger_entry(
        merchant_id=shop.id,
        payment_id=message["payment_id"],
        operation_id=operation,
        type="capture" if drift > 0 else "refund",
        debit_account=debit,
        credit_account=credit,
    )
    await rows.insert(owner, "ledger_entries", entry)
    psp.lines = []
    window = Window(since_ms=1, until_ms=2)
    await settlement.run_once(window, settle_ms=0)
    assert await kinds(owner) == [("missing_in_books", drift, "repaired")]


async def test_another_amount_than_was_asked_is_not_booked_by_itself(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    psp.lines = [_line(await _in_doubt(owner, shop), amount=999)]
    await _run(settlement)
    assert await kinds(owner) == [("amount_differs", 999, "open")]


async def test_what_is_done_and_not_posted_is_for_people(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    psp.lines = [_line(await _in_doubt(owner, shop, state="approved"))]
    await _run(settlement)
    assert await kinds(owner) == [("unposted", 1000, "open")]


async def test_a_reversal_that_we_did_not_hear_of_is_booked_by_its_line(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operation = await _captured(owner, shop)
    psp.lines = [_line(operation), _line(operation, kind=SettlementKind.REVERSAL, reference="rv_1")]
    await _run(settlement)
    assert await kinds(owner) == [("missing_in_books", -1000, "repairing")]


async def test_what_is_nobody_s_is_the_house_s(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    psp.lines = [
        _line(None, reference="ch_8"),
        _line("no uuid", reference="ch_9", amount=5),
        _line(rows.new_id(), reference="re_9", kind=SettlementKind.REFUND, amount=7),
    ]
    report = await _run(settlement)
    assert report.tally.found == {"unexplained": 3}
    assert report.tally.drift == {"EUR": 998}
    messages = await outbox(owner, "settlement.line")
    assert {one["merchant_id"] for one in messages} == {HOUSE}
    assert {one["body"]["payment_id"] for one in messages} == {None}


async def test_a_line_without_our_reference_is_found_by_the_psp_s(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operation = await _captured(owner, shop)
    await owner.execute("UPDATE operations SET psp_reference = 'ch_1'")
    psp.lines = [_line(None)]
    assert (await _run(settlement)).tally.differing == 0
    [message] = await outbox(owner, "settlement.line")
    assert message["body"]["operation_id"] == operation


async def test_what_is_booked_and_not_reported_is_found_once_it_is_old_enough_and_until_it_is_reported(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operations = [await _captured(owner, shop, f"ch_{number}") for number in range(3)]
    psp.lines = [_line(operations[1])]
    now_ms = round(time.time() * 1000)
    young = await settlement.run_once(Window(since_ms=0, until_ms=now_ms), settle_ms=600_000)
    assert young.tally.differing == 0
    await _run(settlement)
    found = await breaks(owner)
    assert {(one["kind"], one["reference"], one["drift"]) for one in found} == {
        ("missing_in_report", "ch_0", -1000),
        ("missing_in_report", "ch_2", -1000),
    }
    psp.lines = [_line(operations[2], reference="ch_2")]
    await settlement.run_once(Window(since_ms=1, until_ms=2), settle_ms=0)
    assert sorted((one["reference"], one["state"]) for one in await breaks(owner)) == [
        ("ch_0", "open"),
        ("ch_2", "gone"),
    ]


async def test_a_report_that_changes_its_mind_is_found_and_stays_found(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operation = await _captured(owner, shop)
    psp.lines = [_line(operation)]
    await _run(settlement)
    psp.lines = [_line(operation, amount=990)]
    await _run(settlement)
    assert await kinds(owner) == [("report_changed", -10, "open")]
    [message] = await outbox(owner, "settlement.line")
    assert message["body"]["amount"] == 1000, "posted as it was first told"
    psp.lines = []
    await _run(settlement)
    assert await kinds(owner) == [("report_changed", -10, "open")]


async def test_the_same_report_gives_the_same_findings(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operation = await _captured(owner, shop)
    psp.lines = [_line(operation, amount=900), _line(None, reference="ch_7"), _line(None, reference="ch_8")]
    first, second = await _run(settlement, is_dry=True), await _run(settlement, is_dry=True)
    assert first.tally.digest == second.tally.digest
    assert first.inputs["lines_sha256"] == second.inputs["lines_sha256"]
    assert [one.kind for one in first.found] == ["amount_differs", "unexplained", "unexplained"]
    assert (await breaks(owner), await outbox(owner), await run_rows(owner)) == ([], [], [])
    psp.lines[0] = _line(operation, amount=901)
    third = await _run(settlement, is_dry=True)
    assert third.tally.digest != first.tally.digest
    assert third.inputs["lines_sha256"] != first.inputs["lines_sha256"]


async def test_a_line_told_twice_is_one_line(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operation = await _captured(owner, shop)
    psp.lines = [_line(operation), _line(operation)]
    assert (await _run(settlement)).tally.differing == 0
    psp.lines = [_line(operation), _line(operation, amount=5)]
    await _run(settlement)
    assert await kinds(owner) == [("report_changed", -995, "open")]


@pytest.mark.parametrize(
    "change",
    [
        {"amount": -1},
        {"amount": 10**13},
        {"currency": "eur"},
        {"currency": "EUR\n"},
        {"at_ms": 2**62},
        {"at_ms": -1},
        {"reference": ""},
        {"reference": "ch\x001"},
        {"reference": "c" * 501},
    ],
)
async def test_a_line_that_cannot_be_read_stops_its_report_and_nothing_else(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop, change: dict[str, object]
) -> None:
    psp.lines = [_line(await _captured(owner, shop), **change)]
    with pytest.raises(Unavailable):
        await _run(settlement)
    assert await run_rows(owner) == [], "it has not ended"
    assert await outbox(owner) == []


async def test_a_reference_that_is_written_otherwise_is_found_by_the_psp_s(
    owner: Session, settlement: SettlementReconciliation, psp: Scripted, shop: Shop
) -> None:
    operation = await _captured(owner, shop)
    await owner.execute("UPDATE operations SET psp_reference = 'ch_1'")
    psp.lines = [_line(operation.upper())]
    assert (await _run(settlement)).tally.differing == 0
    [message] = await outbox(owner, "settlement.line")
    assert message["body"]["operation_id"] == operation
