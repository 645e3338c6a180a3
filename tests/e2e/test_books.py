"""The books through every process: dates, terms, payouts, reports, corrections. After each all laws hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from uuid_utils import uuid7

from paynode.client import Applied, Publisher, Refused
from paynode.client.credentials import text_of
from paynode.config import Settings
from paynode.domain.ids import HOUSE, MERCHANT, public
from paynode.domain.message import ADJUSTMENT, REPORT_LINE
from paynode.domain.money import FeePlan, Money
from paynode.domain.partition import partition_of
from paynode.domain.psp import SettlementKind
from paynode.domain.publishing import OutsideType
from paynode.domain.report import ReportLine, line_id
from paynode.domain.road import events_stream
from paynode.domain.terms import Availability, Terms
from paynode.storage import merchants, publishers
from paynode.storage.books_bodies import encode_line
from paynode.storage.postgres import Role, session
from tests.e2e.living import Life
from tests.support.installation import Installation, installed
from tests.support.waiting import wait_until

FEES: Final = FeePlan(fixed=10, basis_points=150)
AT_ONCE: Final = Terms(fees=FEES, reserve_basis_points=1000, reserve_days=0, available_days=0)
BY_SETTLEMENT: Final = Terms(fees=FEES, availability=Availability.SETTLEMENT)

_TELL: Final = """
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb) ON CONFLICT DO NOTHING
"""


@pytest.fixture
async def installation(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """One whose calendar is looked at all the time."""
    async with installed(settings, redis_url, tmp_path) as installation:
        for verb in ("psp-sim", "serve", "worker"):
            installation.start(verb)
        installation.start("scheduler", PAYNODE_CALENDAR__INTERVAL_S="0.2")
        yield installation


async def life_of(installation: Installation, terms: Terms) -> Life:
    [merchant] = await installation.merchants(1, terms)
    return Life(installation=installation, merchant=merchant)


async def until_wallet(life: Life, **buckets: int) -> None:
    wanted = {"pending": 0, "available": 0, "reserve": 0, "held": 0, **buckets}
    last = dict[str, int]()

    async def is_so() -> bool:
        last.clear()
        last.update(await life.wallet())
        return last == wanted

    await wait_until(is_so, f"the wallet is {wanted}", 40)


async def tell(life: Life, merchant: str, kind: str, id_: str, body: str) -> None:
    """Be whoever tells a merchant's actor something."""
    partitions = life.installation.settings.streams.partitions
    stream = events_stream(partition_of(public(MERCHANT, merchant), partitions))
    await life.installation.rows(_TELL, id_, stream, kind, merchant, None, None, body)


async def types(life: Life, merchant: str | None = None) -> list[tuple[str, int]]:
    rows = await life.installation.rows(
        "SELECT type, amount FROM ledger_entries WHERE merchant_id = $1 ORDER BY seq", merchant or life.merchant.id
    )
    return [(row["type"], row["amount"]) for row in rows]


async def test_what_is_captured_becomes_available_and_the_reserve_is_released(installation: Installation) -> None:
    life = await life_of(installation, AT_ONCE)
    payment = await life.captured(1000)
    await until_wallet(life, available=975)
    assert sorted(await types(life)) == [
        ("available", 875), ("capture", 1000), ("fee", 25), ("reserve", 100), ("reserve_release", 100),
    ]  # fmt: skip
    events = (await installation.get(life.merchant, f"/v1/payments/{payment}/events"))["data"]
    assert {"payment.available", "payment.reserve_released"} <= {event["type"] for event in events}
    await life.installation.until_settled()
    assert not await installation.broken_laws()


async def test_what_is_accepted_later_has_the_later_terms_and_what_was_keeps_its_own(
    installation: Installation,
) -> None:
    life = await life_of(installation, Terms(fees=FeePlan(fixed=0, basis_points=100)))
    early = await life.authorized(1000)
    async with session(installation.settings, Role.OWNER, application_name="test") as owner:
        soon = datetime.now(UTC) + timedelta(milliseconds=200)
        dearer = Terms(fees=FeePlan(fixed=0, basis_points=500))
        assert await merchants.announce(owner, life.merchant.id, dearer, soon)

    async def is_in_force() -> bool:
        [row] = await installation.rows("SELECT terms_in_force($1) AS id", life.merchant.id)
        return row["id"] is not None

    await wait_until(is_in_force, "the announced terms are in force", 10)
    await life.captured(1000)
    assert (await life.ask(early, "capture")).status == 201
    await life.until(early, "captured")
    assert [amount for kind, amount in await types(life) if kind == "fee"] == [50, 10]
    assert not await installation.broken_laws()


async def test_a_payout_leaves_and_ends_once(installation: Installation) -> None:
    life = await life_of(installation, AT_ONCE)
    await life.captured(1000)
    await until_wallet(life, available=975)
    mine = public(MERCHANT, life.merchant.id)
    async with session(installation.settings, Role.OWNER, application_name="test") as owner:
        made = await publishers.create(owner, "treasury", types=tuple(OutsideType), actor="test")
    async with Publisher(installation.settings.redis.url, name="treasury", secret=text_of(made.secret)) as client:
        first, second = str(uuid7()), str(uuid7())
        order: dict[str, Any] = {"merchant_id": mine, "currency": "EUR", "reference": "po-1", "timeout": 60.0}
        refused = await client.payout(amount=976, event_id=str(uuid7()), **order)
        assert isinstance(refused, Refused)
        assert refused.code == "insufficient_funds"
        for payout_id, amount in ((first, 600), (second, 375), (first, 600)):
            assert isinstance(await client.payout(amount=amount, event_id=payout_id, **order), Applied)
        await until_wallet(life)
        assert isinstance(await client.end_payout(merchant_id=mine, payout_id=first, is_paid=True), Applied)
        assert isinstance(await client.end_payout(merchant_id=mine, payout_id=second, is_paid=False), Applied)
        late = await client.end_payout(merchant_id=mine, payout_id=first, is_paid=False)
        assert isinstance(late, Refused)
        assert late.code == "payout_not_open"
    await until_wallet(life, available=375)
    rows = await installation.rows("SELECT amount, state FROM payouts ORDER BY amount")
    assert [tuple(row) for row in rows] == [(375, "failed"), (600, "paid")]
    assert not await installation.broken_laws()


async def test_a_report_line_is_settled_once_and_brings_what_waited_for_it(installation: Installation) -> None:
    life = await life_of(installation, BY_SETTLEMENT)
    await life.captured(1000)
    await until_wallet(life, pending=975)
    [operation] = await life.operations()
    [charge] = await life.book()
    line = ReportLine(
        id=line_id("sim", SettlementKind.CHARGE, charge["psp_reference"]),
        psp="sim",
        kind=SettlementKind.CHARGE,
        reference=charge["psp_reference"],
        operation_id=operation["id"],
        payment_id=operation["payment_id"],
        money=Money(amount=1000, currency="EUR"),
        at_ms=1_700_000_000_000,
    )
    for _ in range(2):
        await tell(life, life.merchant.id, REPORT_LINE, line.id, encode_line(line))
        await until_wallet(life, available=975)
        await installation.until_settled()
    assert [one for one in await types(life) if one[0] == "settlement"] == [("settlement", 1000)]
    stray = line_id("sim", SettlementKind.CHARGE, "ch_of_nobody")
    nobodys = ReportLine(
        id=stray,
        psp="sim",
        kind=SettlementKind.CHARGE,
        reference="ch_of_nobody",
        operation_id=None,
        payment_id=None,
        money=Money(amount=77, currency="EUR"),
        at_ms=0,
    )
    await tell(life, HOUSE, REPORT_LINE, stray, encode_line(nobodys))
    await installation.until_settled()
    assert await types(life, HOUSE) == [("settlement", 77), ("unexplained", 77)]
    assert not await installation.broken_laws()


@pytest.mark.parametrize("is_in_memory", [True, False])
async def test_a_wallet_that_somebody_edited_is_made_what_its_ledger_says(
    installation: Installation, is_in_memory: bool
) -> None:
    """Whether the actor had it in hand, and would have written over it, or loads what was edited."""
    life = await life_of(installation, Terms(fees=FeePlan(fixed=0, basis_points=0)))
    await life.captured(1000)
    if not is_in_memory:
        worker = next(one for one in installation.processes if one.verb == "worker")
        assert worker.stop() == 0
    await installation.rows("UPDATE wallets SET pending = pending - 7, held = held + 3")
    if not is_in_memory:
        installation.start("worker")
        await life.captured(500)
    assert await installation.broken_laws()
    for was_wrong in (True, False):
        [row] = await installation.rows("SELECT rebuild_wallet($1, 'EUR', 'test', 'edited') AS done", life.merchant.id)
        assert row["done"] is was_wrong
    assert not await installation.broken_laws()
    await life.captured(250)
    await installation.until_settled()
    assert (await life.wallet())["pending"] == (1250 if is_in_memory else 1750)
    assert not await installation.broken_laws()
    assert len(await installation.rows("SELECT 1 FROM audit_log WHERE action = 'wallet.rebuild'")) == 1


async def test_a_body_that_somebody_wrote_by_hand_is_a_dead_letter(installation: Installation) -> None:
    life = await life_of(installation, AT_ONCE)
    await tell(life, life.merchant.id, ADJUSTMENT, str(uuid7()), '{"currency": "EUR"}')

    async def is_buried() -> bool:
        return bool(await installation.rows("SELECT 1 FROM dead_letters WHERE reason = 'body_invalid'"))

    await wait_until(is_buried, "it is buried", 20)
