"""The figures that alerts are made of, as the scheduler serves them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from paynode.config import Settings
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.operating.letters import DEAD, EVENTS, die, message, park
from tests.storage import rows
from tests.support.installation import Installation, installed
from tests.support.waiting import wait_until

COMMANDS = "paynode:{psp-sim}:commands"


async def served(installation: Installation) -> dict[str, float]:
    port = installation.settings.admin.scheduler_port
    reply = await installation.send("GET", f"http://127.0.0.1:{port}/metrics")
    lines = [line for line in reply.raw.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def of(metric: str, stream: str, group: str) -> str:
    return f'{metric}{{group="{group}",stream="{stream}"}}'


async def test_lag_pending_and_what_waits_for_people_are_counted_and_go_back_to_nothing(
    settings: Settings, redis_url: str, tmp_path: Path, owner: Session, road: Redis
) -> None:
    for _ in range(3):
        await rows.insert(owner, "outbox", rows.message(stream=EVENTS, published_at=datetime.now(UTC)))
    await owner.execute("UPDATE outbox SET available_at = now() + interval '1 hour' WHERE ctid = '(0,1)'")
    row = message()
    letters = [await die(owner, row), await die(owner, None, status="discarded", resolved_by="ada")]
    await park(owner, message(payment_id=row["payment_id"]))
    await road.xgroup_create(EVENTS, "merchants", id="0", mkstream=True)
    for number in range(4):
        await road.xadd(EVENTS, {"ref": str(number)})
    await road.xreadgroup("merchants", "owner", {EVENTS: ">"}, count=3)

    async with installed(settings, redis_url, tmp_path) as installation:
        quick = {"PAYNODE_CENSUS__INTERVAL_S": "0.2", "PAYNODE_UNDERTAKER__INTERVAL_S": "0.2"}
        # The relay sweeps once when it starts, and must find nothing due even if it starts late.
        idle = {"PAYNODE_RELAY__INTERVAL_S": "3600", "PAYNODE_RELAY__REPUBLISH_AFTER_S": "3600"}
        installation.start("scheduler", **idle, **quick)
        wanted = {
            of("paynode_stream_lag", EVENTS, "merchants"): 2,
            of("paynode_stream_lag", "paynode:{p31}:events", "merchants"): 0,
            of("paynode_stream_lag", COMMANDS, "gateway"): 0,
            of("paynode_stream_lag", f"{COMMANDS}:follow-up", "gateway"): 0,
            of("paynode_stream_pending", EVENTS, "merchants"): 3,
            of("paynode_stream_entries", EVENTS, "merchants"): 4,
            of("paynode_stream_pending", COMMANDS, "gateway"): 0,
            "paynode_dead_letters": 1,
            "paynode_parked": 1,
            "paynode_suspects": 0,
        }

        async def are_counted() -> bool:
            figures = await served(installation)
            return {name: figures.get(name) for name in wanted} == wanted

        await wait_until(are_counted, f"the metrics say {wanted}", 20)
        await wait_until(lambda: _shown(road, letters[0]), "the undertaker runs in the scheduler", 20)

        await owner.execute(
            "DELETE FROM outbox; DELETE FROM parked; UPDATE dead_letters SET status = 'discarded', resolved_by = 'ada' "
            "WHERE status = 'dead'"
        )
        await road.flushdb()
        wanted |= dict.fromkeys(wanted, 0)
        await wait_until(are_counted, "nothing is left, and the metrics say so", 20)


async def _shown(road: Redis, letter: str) -> bool:
    entries: Any = await road.xrange(DEAD)
    return [fields[b"letter"].decode() for _, fields in entries] == [letter]
