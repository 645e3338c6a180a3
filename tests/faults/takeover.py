"""How long a killed owner's partitions stand still: `python -m tests.faults.takeover [KILLS]`, from the root.

Starts a paynode of its own, pays all the while, and kills one of two merchants' workers again and again. Times are
between two readings of the database's clock: the kill, and the sight (looked for every 5 ms) of a batch that another
owner has committed in a partition of the dead one.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median

import anyio

from paynode import config
from paynode.embedded.servers import Servers
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Role, Session, session
from tests.faults.running import start
from tests.support import database as databases
from tests.support.directories import open_directory
from tests.support.installation import Installation, Merchant, installed
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until

_MERCHANTS = "worker --roles merchants"
_POLL_S = 0.005
# Seconds for what is not measured.
_PATIENCE_S = 60.0


async def measure(directory: Path, database_url: str, redis_url: str, kills: int) -> None:
    """Print the times of `kills` kills."""
    settings = databases.pointed_at(config.load(), database_url, directory / "home")
    await migrate(settings)
    async with (
        installed(settings, redis_url, directory) as installation,
        session(settings, Role.OWNER, application_name="test") as owner,
    ):
        installation.environment = {
            **installation.environment,
            "PAYNODE_WORKER__LEASE_S": str(settings.worker.lease_s),
        }
        await start(installation, "psp-sim", "serve", "scheduler", "worker --roles gateway")
        merchants = await installation.merchants(200)
        async with anyio.create_task_group() as load:
            load.start_soon(pay_for_ever, installation, merchants)
            taken, committed = await kill_again_and_again(installation, owner, kills)
            load.cancel_scope.cancel()
        await installation.until_settled(_PATIENCE_S)
        where = f"{platform.machine()}, CPython {platform.python_version()}"
        print(f"{kills} kills, lease {settings.worker.lease_s:g} s, {where}")
        for what, seconds in (("all partitions taken", taken), ("first commit of a next owner", committed)):
            print(f"{what}: p50 {1000 * median(seconds):.0f} ms, max {1000 * max(seconds):.0f} ms")


async def pay_for_ever(installation: Installation, merchants: list[Merchant]) -> None:
    """A light load: what is measured is who works, and not how fast."""
    number = 0
    while True:
        number += 1
        await pay_many(installation, merchants, History(), count=200, clients=4, prefix=f"round-{number}")


async def kill_again_and_again(
    installation: Installation, owner: Session, kills: int
) -> tuple[list[float], list[float]]:
    """Seconds until all partitions have another owner, and until the first of them commits."""
    [victim] = await start(installation, _MERCHANTS)
    await wait_until(partial(are_shared_by, owner, 1), "the first owns all", _PATIENCE_S)
    taken, committed = [], []
    for _ in range(kills):
        [name] = {row["owner"] for row in await owner.fetch("SELECT owner FROM partitions")}
        [heir] = await start(installation, _MERCHANTS)
        await wait_until(partial(are_shared_by, owner, 2), "both own a half", _PATIENCE_S)
        rows = await owner.fetch("SELECT partition, epoch FROM partitions WHERE owner = $1", name)
        killed_at = await clock(owner)
        victim.kill()
        all_taken_at, committed_at = await watch(owner, {row["partition"]: row["epoch"] for row in rows})
        taken.append(all_taken_at - killed_at)
        committed.append(committed_at - killed_at)
        victim = heir
    return taken, committed


async def watch(owner: Session, before: Mapping[int, int]) -> tuple[float, float]:
    """When all of them had another owner, and when the first batch of one had been committed."""
    inherited: dict[int, object] = {}
    all_taken_at = committed_at = None
    with anyio.fail_after(_PATIENCE_S):
        while all_taken_at is None or committed_at is None:
            rows = await owner.fetch(
                "SELECT partition, epoch, last_batch FROM partitions WHERE partition = ANY($1::int[])", [*before]
            )
            now = await clock(owner)
            risen = {row["partition"]: row["last_batch"] for row in rows if row["epoch"] > before[row["partition"]]}
            # What a partition shows when it has just been taken is the dead one's last batch.
            inherited = risen | inherited
            if all_taken_at is None and len(risen) == len(before):
                all_taken_at = now
            if committed_at is None and any(risen[number] != inherited[number] for number in risen):
                committed_at = now
            await anyio.sleep(_POLL_S)
    return all_taken_at, committed_at


async def clock(owner: Session) -> float:
    """The database's, in seconds."""
    return float(await owner.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8"))


async def are_shared_by(owner: Session, workers: int) -> bool:
    """Whether so many own all of it, in equal parts."""
    rows = await owner.fetch("SELECT count(*) AS n FROM partitions GROUP BY owner HAVING owner IS NOT NULL")
    total = await owner.fetchval("SELECT count(*) FROM partitions")
    return [row["n"] for row in rows] == [total // workers] * workers


def main() -> None:
    """As a command."""
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    with open_directory() as directory, Servers(directory / "servers") as servers:
        anyio.run(measure, directory, servers.database_url, servers.redis_url, kills)


if __name__ == "__main__":
    main()
