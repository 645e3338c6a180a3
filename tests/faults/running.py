"""Starting the parts of an installation behind proxies, and waiting until nothing moves any more."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from pathlib import Path

import anyio

from tests.support.installation import Installation, Merchant, Process
from tests.support.load import History, pay_many
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

# Payments of a round, and seconds after which a fault that has not bitten never will.
_ROUND = 40
_GIVE_UP_S = 60.0


async def start(
    installation: Installation, *verbs: str, database: Proxy | None = None, redis: Proxy | None = None
) -> list[Process]:
    """Start verbs, side by side; through the proxies that are given."""
    environment = {}
    if database is not None:
        environment["PAYNODE_DATABASE__URL"] = database.through(installation.settings.database.url)
    if redis is not None:
        environment["PAYNODE_REDIS__URL"] = redis.through(installation.settings.redis.url)
    started: dict[str, Process] = {}

    async def start_one(verb: str) -> None:
        # In a thread: it waits for the process, which waits for the proxies, which live in this loop.
        started[verb] = await anyio.to_thread.run_sync(partial(installation.start, verb, **environment))

    assert len({*verbs}) == len(verbs), "one of each: logs are named by verb and number"
    async with anyio.create_task_group() as group:
        for verb in verbs:
            group.start_soon(start_one, verb)
    return [started[verb] for verb in verbs]


async def pay_until(
    installation: Installation,
    merchants: Sequence[Merchant],
    history: History,
    is_enough: Callable[[], bool],
    *,
    tokens: Sequence[str] = ("tok_approve",),
    prefix: str = "round",
) -> int:
    """Pay in rounds until the fault has bitten often enough, on a machine of any speed; how many payments that were."""
    give_up_at = time.monotonic() + _GIVE_UP_S
    for number in count(1):
        await pay_many(
            installation,
            merchants,
            history,
            count=_ROUND,
            clients=8,
            tokens=tokens,
            prefix=f"{prefix}-{number}",
        )
        if is_enough():
            return number * _ROUND
        assert time.monotonic() < give_up_at, "the fault did not bite"
    raise AssertionError("numbers do not end")


async def until_quiet(installation: Installation, timeout: float = 40.0) -> None:
    """Wait until nothing is left to process and the PSP has nothing left to tell: a callback may come late."""
    book = Path(installation.environment["PAYNODE_SIM__BOOK"])

    def has_told_all() -> bool:
        told = book.with_name("callbacks.ndjson").read_text().count("\n")
        return told >= book.read_text().count("\n")

    await wait_until(has_told_all, "the PSP has told everything", timeout)
    await installation.until_settled(timeout)


def said(process: Process, word: str) -> int:
    """How many lines of this kind a process has logged."""
    return process.log.read_text().count(f'"{word}"')


async def epochs(installation: Installation) -> dict[int, int]:
    """The present epoch of each partition."""
    rows = await installation.rows("SELECT partition, epoch FROM partitions")
    return {row["partition"]: row["epoch"] for row in rows}
