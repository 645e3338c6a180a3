"""Publishing under real faults: each event has its effect once, and each call ends with what became of it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import anyio
import pytest
from uuid_utils import uuid7

from paynode.client import Applied, Outcome, Publisher, Refused
from paynode.client import publisher as publishing
from paynode.client.credentials import text_of
from paynode.domain.ids import MERCHANT, public
from paynode.domain.publishing import OutsideType
from paynode.storage import publishers
from paynode.storage.postgres import Role, session
from tests.support.installation import Installation
from tests.support.waiting import wait_until

CREDITS: Final = 400
CLIENTS: Final = 16
LONG: Final = 120.0


async def test_killed_workers_and_a_redis_that_forgets_move_every_wallet_once(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publishing, "_AGAIN_S", 1.0)
    merchants = [public(MERCHANT, one.id) for one in await installation.merchants(5)]
    async with session(installation.settings, Role.OWNER, application_name="test") as owner:
        made = await publishers.create(owner, "loyalty", types=tuple(OutsideType), actor="test")
    heard: dict[str, tuple[str, int, Outcome]] = {}

    async def publish(client: Publisher, numbers: list[int]) -> None:
        while numbers:
            number = numbers.pop()
            event_id, whose = str(uuid7()), merchants[number % len(merchants)]
            # Every fourth takes more than all credits together give.
            amount, say = (10**9, client.debit) if number % 4 == 0 else (1 + number, client.credit)
            about: dict[str, Any] = {"currency": "EUR", "reason": "points", "reference": f"n-{number}"}
            outcome = await say(merchant_id=whose, amount=amount, event_id=event_id, timeout=LONG, **about)
            heard[event_id] = (whose, amount, outcome)

    worker = next(process for process in installation.processes if process.verb == "worker")
    async with (
        Publisher(installation.settings.redis.url, name="loyalty", secret=text_of(made.secret)) as client,
        anyio.create_task_group() as group,
    ):
        numbers = list(range(CREDITS))
        for _ in range(CLIENTS):
            group.start_soon(publish, client, numbers)
        for done in (CREDITS // 8, CREDITS // 2):
            await _until_heard(heard, done)
            worker.kill()
            await installation.flush_redis()
            worker = installation.start("worker")
    assert len(heard) == CREDITS
    [row] = await installation.rows("SELECT max(epoch) AS epoch FROM partitions")
    assert row["epoch"] >= 3, "no partition was ever taken over: the fault did not bite"
    await _compare(installation, heard)
    assert not await installation.broken_laws()


async def _until_heard(heard: dict[str, tuple[str, int, Outcome]], done: int) -> None:
    await wait_until(lambda: len(heard) >= done, f"{done} outcomes were heard", LONG)


async def _compare(installation: Installation, heard: dict[str, tuple[str, int, Outcome]]) -> None:
    """What the publisher was told against what the database holds."""
    wanted: Counter[str] = Counter()
    for whose, amount, outcome in heard.values():
        if amount == 10**9:
            assert isinstance(outcome, Refused)
            assert outcome.code == "insufficient_funds"
        else:
            assert isinstance(outcome, Applied)
            wanted[whose] += amount
    rows = await installation.rows("SELECT merchant_id::text AS id, available FROM wallets")
    assert Counter({public(MERCHANT, row["id"]): row["available"] for row in rows}) == wanted
    kept = await installation.rows("SELECT event_id::text AS id, result FROM applied_events")
    assert {row["id"]: row["result"] for row in kept} == {
        event_id: "applied" if isinstance(outcome, Applied) else "refused"
        for event_id, (_, _, outcome) in heard.items()
    }
