"""What nothing decides by itself is decided by two people, and by no one person whoever he is."""

from __future__ import annotations

import json
import time

import asyncpg
import pytest

from paynode.app.parts import new_id
from paynode.config import Settings
from paynode.domain.ids import HOUSE, MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.psp import SettlementKind, SettlementLine
from paynode.domain.reconciling import Window
from paynode.domain.road import events_stream
from paynode.recon.settlement import SettlementReconciliation, SettlementRules
from paynode.storage.postgres import Pool, Session
from paynode.storage.recon_settlement import PgLineKeeping, PgReports
from tests.recon.hands import breaks, outbox, runs, tamper
from tests.recon.test_settlement import Scripted
from tests.storage import rows, world
from tests.support.installation import free_ports
from tests.support.verbs import Said, paynode

_NOTE = ("--note", "the PSP's statement of March")


def _line(reference: str, operation: str | None, amount: int = 1000) -> SettlementLine:
    return SettlementLine(
        kind=SettlementKind.CHARGE,
        reference=reference,
        our_reference=operation,
        amount=amount,
        currency="EUR",
        at_ms=1_772_366_400_000,
    )


@pytest.fixture
async def settlement(owner: Session, reading: Pool, writing: Pool) -> SettlementReconciliation:
    """A report with a line that is nobody's, and one of a capture with another amount."""
    shop = await world.open_shop(owner)
    payment = await world.capture(owner, shop)
    operation = await owner.fetchval("SELECT id::text FROM operations WHERE payment_id = $1", payment)
    psp = Scripted([_line("ch_9", None), _line("ch_1", operation, 900)])
    return SettlementReconciliation(
        "sim",
        psp,
        PgReports(reading, page_size=10),
        PgLineKeeping(writing),
        runs(writing),
        SettlementRules(page_size=10, partitions=32),
    )


async def _look(settlement: SettlementReconciliation) -> None:
    await settlement.run_once(Window(since_ms=0, until_ms=round(time.time() * 1000) + 60_000), settle_ms=0)


@pytest.fixture
async def found(owner: Session, settlement: SettlementReconciliation) -> dict[str, str]:
    """The ids of the breaks, by kind."""
    await _look(settlement)
    await owner.execute("DELETE FROM outbox")
    return {one["kind"]: str(one["id"]) for one in await breaks(owner)}


async def _say(settings: Settings, *arguments: str) -> Said:
    return await paynode(settings, "reconcile", *arguments)


async def test_two_people_move_money_by_a_compensating_posting(
    settings: Settings, owner: Session, settlement: SettlementReconciliation, found: dict[str, str]
) -> None:
    difference = found["unexplained"]
    posting = "suspense:sim,suspense:internal,1000"
    proposed = await _say(settings, "propose", difference, "--adjust", posting, *_NOTE, "--as", "alice")
    assert proposed.code == 0, proposed.err
    assert await outbox(owner) == []
    for alone in ("alice", "Alice"):
        refused = await _say(settings, "approve", difference, "--as", alone)
        assert refused.code == 1
        assert "whoever proposed it cannot approve it" in refused.err
    assert await outbox(owner) == []
    approved = await _say(settings, "approve", difference, "--as", "bob")
    assert approved.code == 0, approved.err

    [message] = await outbox(owner)
    assert message["type"] == "books.adjustment"
    assert message["merchant_id"] == HOUSE
    assert message["stream"] == events_stream(partition_of(public(MERCHANT, HOUSE), settings.streams.partitions))
    assert message["body"] == {
        "id": message["id"],
        "debit": "suspense:sim",
        "credit": "suspense:internal",
        "amount": 1000,
        "currency": "EUR",
        "payment_id": None,
        "reference": "ch_9",
    }
    audited = await owner.fetch("SELECT actor, action, note FROM audit_log WHERE subject = $1 ORDER BY id", difference)
    assert [tuple(row) for row in audited] == [
        ("alice", "reconciliation.propose", _NOTE[1]),
        ("bob", "reconciliation.approve", "agreed"),
    ]
    again = await _say(settings, "approve", difference, "--as", "carol")
    assert again.code == 1

    await owner.execute("DELETE FROM outbox")
    adjustment = rows.adjustment(operation_id=message["id"], kind="adjustment", delta=0, d_pending=0)
    await rows.insert(owner, "wallet_adjustments", adjustment)
    await _look(settlement)
    await _look(settlement)
    states = {one["kind"]: one["state"] for one in await breaks(owner)}
    assert states == {"unexplained": "repaired", "amount_differs": "open"}, "and it is not found anew"


async def test_two_people_leave_a_difference_as_it_is(
    settings: Settings, owner: Session, settlement: SettlementReconciliation, found: dict[str, str]
) -> None:
    difference = found["amount_differs"]
    assert (await _say(settings, "approve", difference, "--as", "bob")).code == 1, "nobody has proposed anything"
    assert (await _say(settings, "dismiss", difference, *_NOTE, "--as", "alice")).code == 0
    assert (await _say(settings, "approve", difference, "--as", "alice")).code == 1
    assert (await _say(settings, "approve", difference, "--as", "bob")).code == 0
    assert await outbox(owner) == []
    await _look(settlement)
    states = {one["kind"]: one["state"] for one in await breaks(owner)}
    assert states == {"unexplained": "open", "amount_differs": "dismissed"}


async def test_what_was_proposed_is_void_when_another_difference_is_seen(
    settings: Settings, owner: Session, settlement: SettlementReconciliation, found: dict[str, str]
) -> None:
    difference = found["amount_differs"]
    posting = "loss,psp:sim:receivable,100"
    assert (await _say(settings, "propose", difference, "--adjust", posting, *_NOTE, "--as", "alice")).code == 0
    await _look(settlement)
    assert [one["proposed_by"] for one in await breaks(owner) if one["kind"] == "amount_differs"] == ["alice"]
    await tamper(owner, "UPDATE ledger_entries SET amount = 950 WHERE type = 'capture'")
    await _look(settlement)
    refused = await _say(settings, "approve", difference, "--as", "bob")
    assert (refused.code, await outbox(owner, "books.adjustment")) == (1, [])
    assert "nobody has proposed anything" in refused.err


@pytest.mark.parametrize(
    ("kind", "posting", "why"),
    [
        ("unexplained", "suspense:sim,merchant:available,1000", "no merchant's"),
        ("unexplained", "suspense:sim,merchant:pending,1000", "between"),
        ("unexplained", "fee_revenue,loss,1000", "between"),
        ("unexplained", "loss,loss,1000", "between"),
        ("unexplained", "suspense:sim,loss,1001", "no more than that"),
        ("unexplained", "suspense:sim,loss,0", "no more than that"),
        ("amount_differs", "merchant:available,psp:sim:receivable,101", "no more than that"),
    ],
)
async def test_what_repairs_no_difference_is_refused(
    settings: Settings, owner: Session, found: dict[str, str], kind: str, posting: str, why: str
) -> None:
    refused = await _say(settings, "propose", found[kind], "--adjust", posting, *_NOTE, "--as", "alice")
    assert refused.code == 1
    assert why in refused.err
    assert all(one["proposed_by"] is None for one in await breaks(owner))


async def test_the_database_refuses_one_person_by_itself(owner: Session, found: dict[str, str]) -> None:
    for statement in (
        "UPDATE reconciliation_breaks SET approved_by = 'alice'",
        "UPDATE reconciliation_breaks SET proposed_by = 'alice', approved_by = 'ALICE'",
        "UPDATE reconciliation_breaks SET state = 'dismissed', resolved_at = now()",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await owner.execute(statement)


async def test_what_was_found_is_shown(settings: Settings, owner: Session, found: dict[str, str]) -> None:
    said = await _say(settings, "report", "--output", "json")
    assert said.code == 3, "money differs"
    assert [one["kind"] for one in said.json["data"]] == ["unexplained", "amount_differs"], "most money first"
    assert {(one["kind"], one["currency"], one["size"]) for one in said.json["open"]} == {
        ("unexplained", "EUR", 1000),
        ("amount_differs", "EUR", 100),
    }
    [run] = said.json["runs"]
    assert (run["area"], run["psp"], run["checked"], run["drift"]) == ("settlement", "sim", 2, {"EUR": 900})
    only = await _say(settings, "report", "--kind", "amount_differs", "--output", "json")
    assert [one["drift"] for one in only.json["data"]] == [-100]
    table = await _say(settings, "report")
    assert table.code == 3
    assert "2 are not over" in table.out
    await _say(settings, "propose", found["amount_differs"], "--adjust", "loss,psp:sim:receivable,100", *_NOTE)
    shown = await _say(settings, "show", found["amount_differs"], "--output", "json")
    assert shown.json["evidence"]["booked_as"] == "capture ch_1 1000"
    assert [one["action"] for one in shown.json["audit"]] == ["reconciliation.propose"]
    assert json.dumps(shown.json["repair"], sort_keys=True) == (
        '{"amount": 100, "credit": "psp:sim:receivable", "debit": "loss"}'
    )
    assert (await _say(settings, "show", found["amount_differs"])).code == 0
    assert (await _say(settings, "show", new_id())).code == 1


async def test_an_operator_looks_by_hand(settings: Settings, owner: Session) -> None:
    shop = await world.open_shop(owner)
    await world.capture(owner, shop)
    assert (await _say(settings, "run", "wallets")).code == 0
    assert (await _say(settings, "report", "--output", "json")).code == 0
    await owner.execute("UPDATE wallets SET held = 3")
    dry = await _say(settings, "run", "wallets", "--full", "--dry-run", "--output", "json")
    assert (dry.code, dry.json["found"], dry.json["drift"]) == (3, {"wallet_differs": 1}, {"EUR": 3})
    assert await breaks(owner) == []
    assert (await _say(settings, "run", "wallets")).code == 3
    assert await owner.fetchval("SELECT held FROM wallets") == 0
    assert (await _say(settings, "run", "payments", "--from", "2026-01-01", "--output", "json")).code == 0
    for wrong in (
        ("settlement",),
        ("wallets", "--psp", "sim"),
        ("wallets", "--from", "2026-01-01"),
        ("payments", "--full"),
        ("payments", "--from", "yesterday"),
    ):
        assert (await _say(settings, "run", *wrong)).code == 2
    assert (await _say(settings, "run", "settlement", "--psp", "nobody")).code == 1


async def test_a_psp_that_is_away_is_tried_again_later(settings: Settings, owner: Session) -> None:
    port = free_ports(1)[0]
    away = {"PAYNODE_PSP__SIM__URL": f"http://127.0.0.1:{port}"}
    said = await paynode(settings, "reconcile", "run", "settlement", "--psp", "sim", environment=away)
    assert said.code == 75, said.err
    assert "connect_failed" in said.err
    assert await owner.fetchval("SELECT count(*) FROM reconciliation_runs WHERE ended_at IS NOT NULL") == 0
