"""The relay behind a backlog: it finds what is lost among what only waits, at a price that history does not raise."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import anyio
import orjson
import pytest

from paynode.actors.relay import Relay, RelayRules
from paynode.config import Settings
from paynode.observability.observers import Observer
from paynode.runtime.reach import Reach
from paynode.storage.leases import PgSingleton
from paynode.storage.outbox import PgOutbox
from paynode.storage.postgres import Role, Session, pool, session
from paynode.storage.queries import load
from paynode.streams.client import Redis
from paynode.streams.publisher import RedisPublisher

COMMANDS = "paynode:{psp-sim}:commands"
EVENTS = "paynode:{p07}:events"
SWEEP = 100
RULES = RelayRules(interval_s=0.5, republish_after_s=1, republish_max_s=300, sweep_size=SWEEP)

INSERT_ROWS = """
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT
    gen_random_uuid(), $1, $2, gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), '{}',
    now() - $4::int * interval '1 second'
FROM generate_series(1, $3)
RETURNING id::text AS id
"""


@pytest.fixture
async def relay(settings: Settings, road: Redis) -> AsyncIterator[Relay]:
    async with pool(settings, Role.GATEWAY, application_name="test") as connections:
        singleton = PgSingleton(connections, name="relay", owner="test", lease_s=5)
        outbox, publisher = PgOutbox(connections), RedisPublisher(road)
        yield Relay(outbox, publisher, singleton, Observer(), RULES, partitions=32, reach=here())


async def test_a_backlog_that_waits_does_not_hide_what_is_lost(owner: Session, road: Redis, relay: Relay) -> None:
    """A PSP is slow and its commands pile up; meanwhile Redis has lost one piece of evidence, younger than them all."""
    await road.xadd(COMMANDS, {"ref": "the oldest of the backlog"}, id=f"{await now_ms(road) - 60_000}-0")
    await owner.fetch(INSERT_ROWS, COMMANDS, "psp.submit", 5 * SWEEP, 60)
    [lost] = await owner.fetch(INSERT_ROWS, EVENTS, "psp.evidence", 1, 30)
    await relay.run_once()
    assert await refs(road, EVENTS) == [lost["id"]]
    assert len(await refs(road, COMMANDS)) == 1, "and the backlog is not published into itself"


async def test_what_was_acknowledged_and_left_lying_does_not_hide_what_is_lost(
    owner: Session, road: Redis, relay: Relay
) -> None:
    """Two entries acknowledged in the wrong order by a run that failed: the later one is not trimmed by the next."""
    at_ms = await now_ms(road) - 60_000
    await road.xgroup_create(EVENTS, "merchants", id="0", mkstream=True)
    for number in (1, 2):
        await road.xadd(EVENTS, {"ref": "processed"}, id=f"{at_ms}-{number}")
    await road.xreadgroup("merchants", "owner", {EVENTS: ">"})
    await road.xack(EVENTS, "merchants", f"{at_ms}-1", f"{at_ms}-2")
    [lost] = await owner.fetch(INSERT_ROWS, EVENTS, "psp.evidence", 1, 30)
    await relay.run_once()
    assert (await refs(road, EVENTS))[2:] == [lost["id"]]


@pytest.mark.parametrize(("after_s", "is_lost"), [(0.0, False), (0.9, False), (1.1, True)])
async def test_a_row_is_lost_when_its_stream_begins_clearly_later(
    owner: Session, road: Redis, relay: Relay, after_s: float, is_lost: bool
) -> None:
    """Clearly: by more than `republish_after_s`, for the clocks of PostgreSQL and Redis differ."""
    [row] = await owner.fetch(
        INSERT_ROWS + ", (extract(EPOCH FROM published_at) * 1000)::bigint AS at_ms", EVENTS, "psp.evidence", 1, 30
    )
    await road.xadd(EVENTS, {"ref": "another"}, id=f"{row['at_ms'] + int(after_s * 1000)}-0")
    await relay.run_once()
    assert ((await refs(road, EVENTS))[1:] == [row["id"]]) is is_lost


@pytest.mark.parametrize("is_delivered", [True, False])
async def test_what_waits_in_a_stream_is_not_published_again(
    owner: Session, road: Redis, relay: Relay, is_delivered: bool
) -> None:
    [row] = await owner.fetch(INSERT_ROWS, EVENTS, "psp.evidence", 1, 30)
    await road.xgroup_create(EVENTS, "merchants", id="0", mkstream=True)
    await road.xadd(EVENTS, {"ref": row["id"]}, id=f"{await now_ms(road) - 30_000}-0")
    if is_delivered:
        await road.xreadgroup("merchants", "owner", {EVENTS: ">"})
    await relay.run_once()
    assert await refs(road, EVENTS) == [row["id"]]


async def test_all_that_is_lost_comes_back_in_some_sweeps(owner: Session, road: Redis, relay: Relay) -> None:
    rows = await owner.fetch(INSERT_ROWS, COMMANDS, "psp.submit", 2 * SWEEP, 60)
    rows += await owner.fetch(INSERT_ROWS, EVENTS, "psp.evidence", SWEEP // 2, 30)
    for _ in range(3):
        await relay.run_once()
        await road.delete(COMMANDS, EVENTS)  # Redis forgets again: what was published just now must wait its time
        await anyio.sleep(0.05)
    [left] = await owner.fetch("SELECT count(*) AS n FROM outbox WHERE republished = 0")
    assert left["n"] == 0
    [twice] = await owner.fetch("SELECT count(*) AS n FROM outbox WHERE republished > 1")
    assert twice["n"] == 0


async def test_finding_what_is_lost_reads_neither_a_backlog_nor_the_attempts_of_the_past(owner: Session) -> None:
    """300,000 attempts of the past and a backlog of 1,000 commands: 23 s once, which is beyond every time-out."""
    await owner.execute(
        """INSERT INTO psp_attempts
        (id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at, outcome, concluded_at)
        SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'sim', '/', '', 'g', now(),
            now() + interval '1 s', 'approved', now()
        FROM generate_series(1, 20000)"""
    )
    await owner.fetch(INSERT_ROWS, COMMANDS, "psp.submit", 1000, 60)
    bounds = orjson.dumps({COMMANDS: 0, EVENTS: None}).decode()
    for statement in ("ANALYZE psp_attempts", "ANALYZE outbox"):
        text = await plan(owner, "find_lost_rows", 1.0, 300.0, 1000, bounds)
        assert "psp_attempts_claim" in text, text
        assert "Seq Scan" not in text, text
        assert re.search(r"Scan using outbox_published.*rows=0", text), text
        assert read_of_outbox(await plan(owner, "find_old_streams", 1.0)) <= 3
        await owner.execute(statement)  # as well with statistics as without


async def plan(owner: Session, statement: str, *arguments: object) -> str:
    rows = await owner.fetch("EXPLAIN (ANALYZE, TIMING OFF) " + load("outbox")[statement], *arguments)
    return "\n".join(row[0] for row in rows)


def read_of_outbox(text: str) -> float:
    """Rows that the scans of it have returned, over all their loops."""
    found = re.findall(r"on outbox.*\(actual rows=([\d.]+) loops=(\d+)\)", text)
    assert found, text
    assert "Seq Scan" not in text, text
    return sum(float(rows) * int(loops) for rows, loops in found)


async def test_what_is_being_processed_right_now_does_not_hold_up_the_relay(
    owner: Session, settings: Settings, road: Redis, relay: Relay
) -> None:
    """Redis forgot what a worker still has in hand: the batch that deletes the row holds its lock."""
    rows = await owner.fetch(INSERT_ROWS, EVENTS, "psp.evidence", 2, 30)
    async with session(settings, Role.OWNER, application_name="test") as committer, committer.transaction():
        await committer.execute("DELETE FROM outbox WHERE id = $1", rows[0]["id"])
        with anyio.fail_after(2):
            await relay.run_once()
    assert rows[1]["id"] in await refs(road, EVENTS)
    left = await owner.fetch("SELECT id::text AS id, republished FROM outbox")
    assert [(row["id"], row["republished"]) for row in left] == [(rows[1]["id"], 1)]


def here() -> Reach:
    """Redis is there, and nobody asks again."""

    async def is_there() -> bool:
        return True

    return Reach(is_there, Observer(), interval_s=1)


async def refs(road: Redis, stream: str) -> list[str]:
    # The client's own types cover three protocols at once.
    entries: list[tuple[bytes, dict[bytes, bytes]]] = await road.xrange(stream)  # type: ignore[assignment]
    return [fields[b"ref"].decode() for _, fields in entries]


async def now_ms(road: Redis) -> int:
    seconds, micros = await road.time()
    return int(seconds) * 1000 + int(micros) // 1000
