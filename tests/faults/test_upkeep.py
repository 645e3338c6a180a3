"""Two gateways and one stream: a call that is longer than the idle time stays with who makes it; the dead leave."""

from __future__ import annotations

from typing import Any

from paynode.config import Settings
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.faults.gateways import COMMANDS, Psp, gateway, issue
from tests.support.waiting import wait_until

IDLE_MS = 600


async def test_a_call_longer_than_the_idle_time_is_made_once_and_stays_with_who_makes_it(
    owner: Session, settings: Settings, redis_url: str, road: Redis
) -> None:
    psp = Psp(seconds=4 * IDLE_MS / 1000)
    command, client = await issue(owner, "good"), cast_away(road)
    async with (
        gateway(settings, redis_url, psp, name="one", reclaim_idle_ms=IDLE_MS),
        gateway(settings, redis_url, psp, name="other", reclaim_idle_ms=IDLE_MS),
    ):
        await road.xadd(COMMANDS, {"ref": command})
        await wait_until(lambda: len(psp.sent) == 1, "the call is under way")
        seen: list[tuple[bytes, int]] = []

        async def is_over() -> bool:
            pending = await client.xpending_range(COMMANDS, "gateway", "-", "+", 10)
            seen.extend((one["consumer"], one["times_delivered"]) for one in pending)
            return bool(await owner.fetchval("SELECT count(*) = 0 FROM outbox WHERE id = $1", command))

        await wait_until(is_over, "it has ended")
    assert len(seen) > 10, "nobody has looked"
    holders = {consumer for consumer, _ in seen}
    # A machine that stands still for longer than the idle time may let the other one have a look; it makes no call.
    assert len(holders) <= 2
    assert len(psp.sent) == 1
    assert await owner.fetchval("SELECT sends FROM psp_attempts") == 1


def cast_away(road: Redis) -> Any:
    """The client's types cover answers of three protocols at once."""
    return road
