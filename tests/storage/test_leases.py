"""Leases and the sessions that tell of their owners, on a real server: what ends them and what does not."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import anyio
import asyncpg
import pytest

from paynode.config import Settings
from paynode.domain.batch import Lease
from paynode.domain.errors import Unavailable
from paynode.domain.ownership import Taken
from paynode.storage.leases import PgLeases
from paynode.storage.migrating import migrate
from paynode.storage.postgres import Role, Session, connect, session
from paynode.storage.presence import PgPresence
from tests.support.waiting import wait_until

PARTITIONS = 32
LONG_S, ENDED_S = 60.0, 0.001


class Worker:
    """The presence and the leases of one worker, without the worker."""

    def __init__(self, settings: Settings, name: str, *, lease_s: float = LONG_S) -> None:
        self.name = name
        self.presence = PgPresence(settings, worker_id=name)
        self.leases = PgLeases(self.presence, worker_id=name, lease_s=lease_s)


@asynccontextmanager
async def working(settings: Settings, name: str, *, lease_s: float = LONG_S) -> AsyncIterator[Worker]:
    worker = Worker(settings, name, lease_s=lease_s)
    await worker.presence.beat()
    yield worker
    await worker.presence.aclose()


async def cut(owner: Session, name: str) -> None:
    """End the presence session of a worker, and wait until the server has forgotten it."""
    assert await owner.fetchval(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = $1", f"{name}-presence"
    ), f"{name} has no session to cut"


def ids(taken: Sequence[Taken]) -> list[int]:
    return [one.lease.partition for one in taken]


async def test_what_is_taken_is_kept_given_back_and_taken_again_under_a_new_epoch(settings: Settings) -> None:
    async with working(settings, "a") as one, working(settings, "b") as other:
        taken = await one.leases.take(3)
        assert taken == [
            Taken(lease=Lease(partition=number, epoch=1), owner_before=None, unclean_deaths=0) for number in range(3)
        ]
        leases = [each.lease for each in taken]
        assert await one.leases.keep(leases) == frozenset(leases)
        assert await other.leases.keep([Lease(partition=0, epoch=0)]) == frozenset(), "an epoch that is over"
        await one.leases.release(leases[1])
        [again] = await other.leases.take(1)
        assert again == Taken(lease=Lease(partition=1, epoch=2), owner_before=None, unclean_deaths=0)
        assert await one.leases.keep(leases) == {leases[0], leases[2]}
        await one.leases.release(leases[1])
        assert await other.leases.keep([again.lease]) == {again.lease}, "it was not theirs to give back"


async def test_everybody_sees_who_lives_and_what_is_free(settings: Settings) -> None:
    async with working(settings, "a") as one, working(settings, "b") as other:
        sight = await one.presence.look()
        assert (sight.live, sight.before, sight.vacant, sight.orphaned) == (2, 0, PARTITIONS, 0)
        await one.leases.take(30)
        sight = await other.presence.look()
        assert (sight.live, sight.before, sight.vacant, sight.orphaned) == (2, 1, 2, 0)
        await one.presence.leave()
        sight = await other.presence.look()
        assert (sight.live, sight.before, sight.vacant) == (1, 0, 2), "it counts no more, and still holds its leases"


async def test_an_owner_whose_session_is_gone_has_died_and_each_death_is_counted(
    settings: Settings, owner: Session
) -> None:
    for deaths in (1, 2):
        async with working(settings, f"dead-{deaths}") as dead:
            await dead.leases.take(PARTITIONS)
            await cut(owner, dead.name)
            async with working(settings, "heir") as heir:
                sight = await heir.presence.look()
                assert (sight.live, sight.vacant, sight.orphaned) == (1, 0, PARTITIONS), "the lease has not ended"
                [first, *_] = taken = await heir.leases.take(PARTITIONS)
                assert ids(taken) == list(range(PARTITIONS))
                assert (first.owner_before, first.unclean_deaths) == (dead.name, deaths)
                for one in taken:
                    await heir.leases.release(one.lease)
    async with working(settings, "last") as last:
        [one] = await last.leases.take(1)
        assert one.owner_before is None
        assert one.unclean_deaths == 2, "a clean release does not say that what was inherited is through"


async def test_a_stopped_owner_loses_its_sessions_but_for_its_presence_and_has_not_died(
    settings: Settings, owner: Session
) -> None:
    async with working(settings, "stopped", lease_s=ENDED_S) as stopped, working(settings, "heir") as heir:
        committer = await connect(settings, Role.COMMITTER, application_name="stopped-committer-0")
        bystander = await connect(settings, Role.COMMITTER, application_name="neighbour-committer-0")
        await committer.execute("BEGIN")
        lost = [one.lease for one in await stopped.leases.take(PARTITIONS)]
        await wait_until(lambda: is_vacant(heir, PARTITIONS), "the leases have ended")
        taken = await heir.leases.take(PARTITIONS)
        assert {(one.owner_before, one.unclean_deaths) for one in taken} == {("stopped", 0)}
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)):
            await committer.execute("SELECT 1")
        assert await bystander.fetchval("SELECT 1") == 1
        await bystander.close()
        left = await owner.fetch(
            "SELECT application_name AS n FROM pg_stat_activity WHERE application_name ~ '^stopped'"
        )
        assert [row["n"] for row in left] == ["stopped-presence"]
        assert await stopped.leases.keep(lost) == frozenset(), "when it wakes nothing is its own"


async def test_a_session_that_was_cut_is_made_again_and_stamped_before_anybody_takes_anything(
    settings: Settings, owner: Session
) -> None:
    async with working(settings, "a") as one, working(settings, "b") as other, anyio.create_task_group() as group:
        leases = [each.lease for each in await one.leases.take(16)]
        group.start_soon(one.presence.stay)
        for _ in range(3):
            before = await stamps(owner)
            await cut(owner, one.name)
            await wait_until(partial(is_stamped_anew, owner, before), "the new session is stamped")
            sight = await other.presence.look()
            assert (sight.live, sight.orphaned) == (2, 0)
            assert await one.leases.keep(leases) == frozenset(leases)
        group.cancel_scope.cancel()


async def test_a_statement_that_was_cut_off_is_unavailable_and_the_next_one_works(
    settings: Settings, owner: Session
) -> None:
    async with working(settings, "a") as one:
        await owner.execute("BEGIN; LOCK TABLE workers")
        async with anyio.create_task_group() as group:
            group.start_soon(is_refused, one)
            await wait_until(lambda: is_waiting(owner, one.name), "it waits for the lock")
            await cut(owner, one.name)
        await owner.execute("COMMIT")
        assert (await one.presence.look()).live == 1


async def test_a_server_that_begins_anew_condemns_nobody(empty: Settings) -> None:
    """All sessions end when one backend crashes: their owners are about to come back."""
    await migrate(empty)
    async with working(empty, "a") as one, working(empty, "b") as other:
        taken = await one.leases.take(PARTITIONS)
        async with session(empty, Role.OWNER, application_name="test") as victim:
            began = await victim.fetchval("SELECT server_began()")
            os.kill(victim.get_server_pid(), signal.SIGKILL)
            await wait_until(lambda: is_back(empty, began), "the server has begun anew", 30)
        sight = await other.presence.look()
        assert sight.orphaned == 0, "nobody can tell whether they live"
        assert sight.vacant == 0, "their leases have not ended"
        assert await one.leases.keep([each.lease for each in taken]) == {each.lease for each in taken}
        async with session(empty, Role.OWNER, application_name="test") as owner:
            await owner.execute("UPDATE partitions SET lease_until = clock_timestamp(), backend_server = 'epoch'")
        assert {each.unclean_deaths for each in await other.leases.take(PARTITIONS)} == {0}


async def test_a_session_that_one_may_not_see_counts_as_alive(settings: Settings) -> None:
    ask = "SELECT session_is_gone($1::int, $2::timestamptz, $3::timestamptz)"
    async with working(settings, "a") as one, session(settings, Role.READER, application_name="test") as reader:
        async with one.presence.session() as own:
            me = await own.fetchrow("SELECT * FROM this_session()")
            assert me is not None
            assert await own.fetchval(ask, me["pid"], me["began"], me["server"]) is False
        assert await reader.fetchval(ask, me["pid"], me["began"], me["server"]) is False
        assert await reader.fetchval(ask, me["pid"], None, me["server"]) is None, "nothing was stamped"
        assert await reader.fetchval(ask, 2**30, me["began"], me["server"]) is True


async def is_vacant(worker: Worker, partitions: int) -> bool:
    return (await worker.presence.look()).vacant == partitions


async def is_refused(worker: Worker) -> None:
    with pytest.raises(Unavailable):
        await worker.presence.beat()


async def is_waiting(owner: Session, name: str) -> bool:
    return bool(
        await owner.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock'",
            f"{name}-presence",
        )
    )


async def is_back(settings: Settings, began: object) -> bool:
    try:
        async with session(settings, Role.OWNER, application_name="test") as owner:
            return bool(await owner.fetchval("SELECT server_began() <> $1", began))
    except (Unavailable, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False


async def stamps(owner: Session) -> set[int]:
    rows = await owner.fetch(
        "SELECT backend_pid FROM partitions WHERE owner = 'a' UNION SELECT backend_pid FROM workers WHERE id = 'a'"
    )
    return {row["backend_pid"] for row in rows}


async def is_stamped_anew(owner: Session, before: set[int]) -> bool:
    now = await stamps(owner)
    return len(now) == 1 and now.isdisjoint(before)
