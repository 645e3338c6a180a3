"""Publishers and their keys: a new one works at once, a revoked one stops within seconds, strangers are no load."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Final

import anyio
import asyncpg
import pytest

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.publishing import OutsideType, PublisherKey
from paynode.storage import publishers
from paynode.storage.postgres import BY_KEY, Connection, Pool, Role, Session, pool, session
from paynode.storage.publishers import PgPublishers, PublisherExists

CREDIT: Final = OutsideType.WALLET_CREDIT


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def committers(settings: Settings) -> AsyncIterator[Pool]:
    """As a worker asks, with its rights."""
    async with pool(settings, Role.COMMITTER, application_name="test", size=2, planner=BY_KEY) as committers:
        yield committers


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(committers: Pool, clock: Clock) -> PgPublishers:
    return PgPublishers(committers, clock=clock)


async def test_a_publisher_is_made_with_a_secret_that_only_the_table_keeps(owner: Session) -> None:
    made = await publishers.create(owner, "loyalty", types=[CREDIT, CREDIT], actor="ada", note="points")
    assert len(made.secret) == 32
    assert repr(made.secret) not in repr(made)
    assert await publishers.keys(owner) == {"loyalty": PublisherKey(secret=made.secret, types=frozenset({CREDIT}))}
    [listed] = await publishers.list_all(owner)
    assert (listed.name, listed.types, listed.revoked_at) == ("loyalty", (CREDIT,), None)
    [audit] = await owner.fetch("SELECT actor, action, subject, note, detail FROM audit_log")
    assert tuple(audit)[:4] == ("ada", "publisher.create", "loyalty", "points")
    assert json.loads(audit["detail"]) == {"types": [CREDIT]}


async def test_a_name_is_used_once_also_after_its_end(owner: Session) -> None:
    await publishers.create(owner, "loyalty", types=[CREDIT], actor="ada")
    with pytest.raises(PublisherExists):
        await publishers.create(owner, "loyalty", types=[CREDIT], actor="eve")
    since = await publishers.revoke(owner, "loyalty", actor="ada", note="leaked")
    assert since is not None
    assert await publishers.keys(owner) == {}
    with pytest.raises(PublisherExists):
        await publishers.create(owner, "loyalty", types=[CREDIT], actor="eve")
    assert await publishers.revoke(owner, "loyalty", actor="eve") == since, "the first one counts"
    assert await publishers.revoke(owner, "nobody", actor="eve") is None
    done = [tuple(row) for row in await owner.fetch("SELECT actor, action, note FROM audit_log ORDER BY id")]
    assert done == [("ada", "publisher.create", ""), ("ada", "publisher.revoke", "leaked")]


async def test_of_many_who_want_one_name_one_gets_it(settings: Settings) -> None:
    made, refused = list[publishers.Created](), list[PublisherExists]()

    async def create() -> None:
        async with session(settings, Role.OWNER, application_name="test") as connection:
            try:
                made.append(await publishers.create(connection, "loyalty", types=[CREDIT], actor="ada"))
            except PublisherExists as error:
                refused.append(error)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(create)
    assert (len(made), len(refused)) == (1, 4)


@pytest.mark.parametrize("role", [Role.COMMITTER, Role.INGRESS, Role.GATEWAY, Role.READER])
async def test_nobody_but_the_owner_makes_or_ends_one(settings: Settings, owner: Session, role: Role) -> None:
    await publishers.create(owner, "loyalty", types=[CREDIT], actor="ada")
    async with session(settings, role, application_name="test") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await publishers.create(connection, "mine", types=[CREDIT], actor="eve")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await publishers.revoke(connection, "loyalty", actor="eve")


@pytest.mark.parametrize("role", [Role.INGRESS, Role.GATEWAY, Role.READER])
async def test_nobody_but_the_committer_reads_secrets(settings: Settings, role: Role) -> None:
    async with session(settings, role, application_name="test") as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await publishers.keys(connection)


async def test_a_type_of_a_newer_version_allows_nothing(owner: Session) -> None:
    await owner.execute(
        "INSERT INTO publishers (name, secret, types) VALUES ('new', $1, $2)", bytes(32), [CREDIT, "paynode.gift.v9"]
    )
    assert (await publishers.keys(owner))["new"].types == frozenset({CREDIT})


# -- as a worker asks -------------------------------------------------------------------------------------------------


async def test_a_new_key_works_at_once(owner: Session, keys: PgPublishers) -> None:
    assert await keys.key_of("loyalty") is None
    made = await publishers.create(owner, "loyalty", types=[CREDIT], actor="ada")
    key = await keys.key_of("loyalty")
    assert key == PublisherKey(secret=made.secret, types=frozenset({CREDIT}))


async def test_a_revoked_key_stops_within_five_seconds(owner: Session, keys: PgPublishers, clock: Clock) -> None:
    await publishers.create(owner, "loyalty", types=[CREDIT], actor="ada")
    assert await keys.key_of("loyalty") is not None
    await publishers.revoke(owner, "loyalty", actor="ada")
    clock.now += 4.5
    assert await keys.key_of("loyalty") is None


async def test_a_known_key_is_not_looked_up_for_every_event(owner: Session, keys: PgPublishers, clock: Clock) -> None:
    await publishers.create(owner, "loyalty", types=[CREDIT], actor="ada")
    assert await keys.key_of("loyalty") is not None
    await owner.execute("DELETE FROM publishers")
    clock.now += 3.9
    assert await keys.key_of("loyalty") is not None
    clock.now += 0.2
    assert await keys.key_of("loyalty") is None


async def test_a_flood_of_made_up_names_is_no_load(owner: Session, keys: PgPublishers, clock: Clock) -> None:
    """After some looks in a row the last one decides, and a little later there may be another."""
    for number in range(100):
        assert await keys.key_of(f"stranger-{number}") is None
    await publishers.create(owner, "late", types=[CREDIT], actor="ada")
    assert await keys.key_of("late") is None, "there are no looks left"
    clock.now += 0.11
    assert await keys.key_of("late") is not None


async def test_many_who_ask_at_once_share_a_look(
    owner: Session, keys: PgPublishers, monkeypatch: pytest.MonkeyPatch
) -> None:
    await publishers.create(owner, "loyalty", types=[CREDIT], actor="ada")
    looks, found, look = list[object](), list[PublisherKey | None](), publishers.keys

    async def counted(connection: Connection) -> Mapping[str, PublisherKey]:
        looks.append(connection)
        return await look(connection)

    async def ask() -> None:
        found.append(await keys.key_of("loyalty"))

    monkeypatch.setattr(publishers, "keys", counted)
    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(ask)
    assert len(found) == 50
    assert None not in found
    assert len(looks) == 1


async def test_without_the_database_nobody_is_believed_for_long(
    settings: Settings, owner: Session, clock: Clock
) -> None:
    await publishers.create(owner, "loyalty", types=[CREDIT], actor="ada")
    async with pool(settings, Role.COMMITTER, application_name="test", size=1) as committers:
        keys = PgPublishers(committers, clock=clock)
        assert await keys.key_of("loyalty") is not None
        await committers.close()
        assert await keys.key_of("loyalty") is not None
        clock.now += 4.5
        with pytest.raises(Unavailable):
            await keys.key_of("loyalty")
