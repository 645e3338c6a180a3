"""Starting the parts of an installation behind proxies, and waiting until nothing moves any more."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio

from tests.support.installation import Installation, Process
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until


async def start(
    installation: Installation, *verbs: str, database: Proxy | None = None, redis: Proxy | None = None
) -> list[Process]:
    """Start verbs, each when the one before is ready; through the proxies that are given."""
    environment = {}
    if database is not None:
        environment["PAYNODE_DATABASE__URL"] = database.through(installation.settings.database.url)
    if redis is not None:
        environment["PAYNODE_REDIS__URL"] = redis.through(installation.settings.redis.url)
    # In a thread: it waits for the process, which waits for the proxies, which live in this loop.
    return [await anyio.to_thread.run_sync(partial(installation.start, verb, **environment)) for verb in verbs]


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
