"""Several ingress processes at one port: all serve, one that is killed is missed by nobody for long, and all drain."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path

import aiohttp
import anyio

from paynode import config
from paynode.app.fleet import environment_of
from tests.support.installation import Installation, Process
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until


def children_of(process: Process) -> list[int]:
    """The processes that it has started and that run."""
    text = Path(f"/proc/{process.popen.pid}/task/{process.popen.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


async def is_live(installation: Installation, number: int) -> bool:
    url = f"http://127.0.0.1:{installation.settings.admin.port + number}/livez"
    try:
        async with installation.http.get(url) as response:
            return response.status == 200
    except aiohttp.ClientError:
        return False


async def test_processes_at_one_port_outlive_a_killed_one_and_drain_together(bare: Installation) -> None:
    for verb in ("psp-sim", "worker", "scheduler"):
        bare.start(verb)
    fleet = bare.start("serve --processes 2")
    for number in (0, 1):
        await wait_until(partial(is_live, bare, number), description=f"process {number} is up")
    merchants, history = await bare.merchants(5), History()
    async with anyio.create_task_group() as load:
        load.start_soon(lambda: pay_many(bare, merchants, history, count=60, clients=4))
        killed = children_of(fleet)[0]
        os.kill(killed, signal.SIGKILL)
        await wait_until(
            lambda: len(children_of(fleet)) == 2 and killed not in children_of(fleet),
            description="another one in its place",
        )
    for number in (0, 1):
        await wait_until(partial(is_live, bare, number), description=f"process {number} is up again")
    await bare.until_settled()
    await check_laws(bare, history.accepted)
    assert await anyio.to_thread.run_sync(fleet.stop) == 0
    assert not await is_live(bare, 0)
    assert not await is_live(bare, 1)


def test_each_has_an_admin_port_of_its_own_and_its_share_of_a_quota() -> None:
    settings = config.load({"overload": {"checkouts_max": 10}, "admin": {"port": 9464}})
    told = [environment_of(settings, 3, number) for number in range(3)]
    assert [one["PAYNODE_ADMIN__PORT"] for one in told] == ["9464", "9465", "9466"]
    assert {one["PAYNODE_OVERLOAD__CHECKOUTS_MAX"] for one in told} == {"4"}
    assert {one["PAYNODE_HTTP__SHARES_PORT"] for one in told} == {"true"}
