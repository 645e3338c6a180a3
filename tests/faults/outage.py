"""Both PSPs away at once, and how hard they are called when they return: `python -m tests.faults.outage [SECONDS]`.

Starts a paynode of its own with two accounts at simulators of their own and the gateway's settings as they are shipped,
pays at a steady rate, closes both doors for that long, and ends when every payment has ended. Calls are those that the
simulators have counted, in each second.
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from statistics import mean

import aiohttp
import anyio

from paynode import config
from paynode.embedded.servers import Servers
from paynode.storage.migrating import migrate
from tests.support import database as databases
from tests.support.case import gather
from tests.support.directories import open_directory
from tests.support.installation import Merchant, installed, token
from tests.support.laws import OF_EVERY_RUN, judge
from tests.support.psp_book import PspBook
from tests.support.two_psps import TwoPsps, standing, start_gateway
from tests.support.waiting import wait_until

_RATE_PER_S = 12.0
_WARM_S = 20
_WATCHED_S = 20
_END_S = 900.0


async def measure(two: TwoPsps, seconds: int) -> None:
    """Print calls a second before the outage and after it, and what the laws say at the end."""
    await start_gateway(two.installation)
    merchants = [await two.merchant() for _ in range(6)]
    async with paying(two, merchants):
        await anyio.sleep(_WARM_S / 2)
        steady = mean(await calls_per_second(two, _WARM_S))
        for url in urls(two):
            await two.installation.send("POST", url + "/faults", json={"refuse_ms": seconds * 1000})
        await anyio.sleep(seconds)
        await wait_until(partial(are_back, two), "both doors are open again", 30)
        returned = await calls_per_second(two, _WATCHED_S)
    print(f"{seconds} s without both PSPs at {_RATE_PER_S:g} payments/s, {platform.machine()}")
    print(f"steady {steady:.1f} calls/s; at the return {returned}")
    print(f"mean of the first 10 s {mean(returned[:10]) / steady:.2f} x, worst second {max(returned) / steady:.2f} x")
    begun = time.monotonic()
    await wait_until(partial(has_ended, two), "every payment has ended", _END_S)
    books = [line for book in await two.books() for line in book]
    case = await gather(two.installation)
    statuses = sorted({row["status"] for row in case.payments})
    breaches = PspBook(books).breaches
    print(f"{len(case.payments)} payments, all {statuses} {time.monotonic() - begun:.0f} s later; twice: {breaches}")
    print(f"laws broken: {judge(two.case_of(case, books), OF_EVERY_RUN)}")


@asynccontextmanager
async def paying(two: TwoPsps, merchants: list[Merchant]) -> AsyncIterator[None]:
    """A payment every so often, whatever becomes of it."""

    async def pay_on() -> None:
        begun, number = time.monotonic(), 0
        async with anyio.create_task_group() as each:
            while True:
                number += 1
                await anyio.sleep(max(0.0, begun + number / _RATE_PER_S - time.monotonic()))
                merchant = merchants[number % len(merchants)]
                each.start_soon(partial(two.installation.pay, merchant, f"order-{number}", method=token("tok_approve")))

    async with anyio.create_task_group() as group:
        group.start_soon(pay_on)
        yield
        group.cancel_scope.cancel()


async def calls_per_second(two: TwoPsps, seconds: int) -> list[int]:
    """How often both were called in each of the next seconds."""
    begun, last, found = time.monotonic(), await calls(two), list[int]()
    for number in range(1, seconds + 1):
        await anyio.sleep(max(0.0, begun + number - time.monotonic()))
        now = await calls(two)
        found.append(now - last)
        last = now
    return found


async def calls(two: TwoPsps) -> int:
    """All calls that the simulators have counted."""
    replies = [await two.installation.send("GET", url + "/faults") for url in urls(two)]
    return sum(int(reply.json["calls"]) for reply in replies)


async def are_back(two: TwoPsps) -> bool:
    """Whether both answer."""
    try:
        await calls(two)
    except (aiohttp.ClientError, OSError):
        return False
    return True


async def has_ended(two: TwoPsps) -> bool:
    """Whether nothing is open any more."""
    [row] = await two.installation.rows(
        "SELECT (SELECT count(*) FROM payments WHERE status NOT IN ('captured', 'failed')) "
        "+ (SELECT count(*) FROM outbox) AS open"
    )
    return bool(row["open"] == 0)


def urls(two: TwoPsps) -> tuple[str, str]:
    """Of both simulators."""
    return two.installation.settings.psp["sim"].url, two.url


async def run(directory: Path, database_url: str, redis_url: str, seconds: int) -> None:
    """An installation, with the gateway's settings as they are shipped."""
    settings = databases.pointed_at(config.load(), database_url, directory / "home")
    await migrate(settings)
    async with installed(settings, redis_url, directory) as installation:
        installation.environment = {
            name: value for name, value in installation.environment.items() if "_GATEWAY__" not in name
        }
        async with standing(installation, directory) as two:
            await measure(two, seconds)


def main() -> None:
    """As a command."""
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with open_directory() as directory, Servers(directory / "servers") as servers:
        anyio.run(run, directory, servers.database_url, servers.redis_url, seconds)


if __name__ == "__main__":
    main()
