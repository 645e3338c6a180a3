"""PostgreSQL ends in every way it may end under load, and is started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from paynode import config
from paynode.storage.migrating import migrate
from tests.faults.running import start, until_quiet
from tests.support import database as databases
from tests.support.directories import open_directory
from tests.support.installation import Installation, Merchant, installed
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.replicas import Node
from tests.support.trouble import CLIENTS, Load, paying
from tests.support.waiting import wait_until

# What is promised; from the moment in which the server takes connections again.
RECOVERY_S = 10.0
TOKENS = ("tok_approve", "tok_approve", "tok_decline", "tok_dup_callback")


@pytest.fixture
def server() -> Iterator[Node]:
    with open_directory() as directory:
        node = Node(directory)
        yield node
        node.stop()


@pytest.fixture
async def own(server: Node, redis_url: str, tmp_path: Path) -> AsyncIterator[Installation]:
    """An installation on that server."""
    settings = databases.pointed_at(config.load(), server.start(), tmp_path / "home")
    await migrate(settings)
    async with installed(settings, redis_url, tmp_path) as installation:
        yield installation


def stop_fast(server: Node) -> None:
    server.stop()


def stop_at_once(server: Node) -> None:
    server.kill(signal.SIGQUIT)


def kill(server: Node) -> None:
    server.kill(signal.SIGKILL)


@pytest.mark.long
async def test_postgresql_may_end_in_any_way_and_be_started_again_under_load(own: Installation, server: Node) -> None:
    merchants, refused, again = await own.merchants(10), History(), History()
    await start(own, "psp-sim", "serve", "worker", "scheduler")
    async with paying(own, merchants, tokens=TOKENS) as load:
        for end in (stop_fast, stop_at_once, kill):
            await goes_on(load)
            heard = load.history.refused[503]
            end(server)
            await wait_until(partial(has_refused_more_than, load, heard), "the ingress says that it cannot")
            server.start()
        await goes_on(load)
    assert set(load.history.refused) == {503}, load.history.refused
    assert load.history.lost == 0, "nobody is left without an answer"

    kill(server)
    await pay_many(own, merchants, refused, count=20, clients=CLIENTS, prefix="again")
    # A session that was at work when the postmaster died may still have committed and answered: that is no refusal.
    assert set(refused.refused) == {503}, refused.refused
    assert refused.refused[503] + len(refused.accepted) == 20, "nobody is left without an answer"
    server.start()
    await wait_until(lambda: are_all_accepted(own, merchants, again), "who heard no asks again", RECOVERY_S)
    await until_quiet(own)
    await check_laws(own, load.history.accepted + again.accepted)
    assert len(await own.rows("SELECT FROM payments WHERE order_id LIKE 'again-%'")) == 20


@pytest.mark.long
async def test_every_crash_of_a_session_restarts_postgresql_and_is_survived(own: Installation, server: Node) -> None:
    """kill -9 of one backend: the server ends all sessions and recovers by itself, three times."""
    merchants = await own.merchants(10)
    await start(own, "psp-sim", "serve", "worker", "scheduler")
    async with paying(own, merchants, tokens=TOKENS) as load:
        for crash in range(1, 4):
            await goes_on(load)
            await kill_a_session(server)
            await wait_until(partial(has_restarted_itself, server, crash), "the server restarts itself")
        await goes_on(load)
    assert set(load.history.refused) <= {503}, load.history.refused
    assert load.history.lost == 0, "nobody is left without an answer"
    await until_quiet(own)
    await check_laws(own, load.history.accepted)


def has_refused_more_than(load: Load, times: int) -> bool:
    return load.history.refused[503] > times


def has_restarted_itself(server: Node, times: int) -> bool:
    return server.log.count("all server processes terminated; reinitializing") >= times


async def goes_on(load: Load) -> None:
    """Payments are accepted again, and in time."""
    fresh, begun = load.accepted + CLIENTS, time.monotonic()  # that many may have been answered, and not heard yet
    await wait_until(lambda: load.accepted > fresh, "payments are accepted again", RECOVERY_S)
    print(f"\naccepted after {time.monotonic() - begun:.1f} s")


async def kill_a_session(server: Node) -> None:
    """One of paynode's: in the middle of a transaction, and a committer's, if such a one is to be had."""
    pid = await server.ask(
        """SELECT pid FROM pg_stat_activity WHERE usename LIKE 'paynode_%'
        ORDER BY xact_start IS NULL, application_name NOT LIKE '%-committer-%' LIMIT 1"""
    )
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)


async def are_all_accepted(own: Installation, merchants: list[Merchant], history: History) -> bool:
    history.accepted.clear()
    await pay_many(own, merchants, history, count=20, clients=CLIENTS, prefix="again")
    return len(history.accepted) == 20
