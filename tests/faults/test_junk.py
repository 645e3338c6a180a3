"""What anybody could write on the streams: pointers that lie, pointers by the dozen, and no pointers at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
from uuid_utils import uuid4

from paynode.domain.road import commands_stream, dead_stream, events_stream
from paynode.streams.client import Redis
from tests.faults.conftest import SEED
from tests.faults.running import start, until_quiet
from tests.support.installation import Installation
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until

COMMANDS = commands_stream("sim")
PARTITIONS = 32
PAYMENTS = 40

NOT_POINTERS: tuple[Mapping[bytes, bytes], ...] = (
    {b"hello": b"world"},
    {b"ref": b"nonsense"},
    {b"ref": b"\xff\x00\xfe"},
    {b"\x00\xff": b"\x00", b"reason": b"mine", b"entry_id": b"0-0"},
    {b"blob": b"x" * 2**20},
    {b"event": b"{}", b"sig": b"somebody.AAAA"},
)
POINTERS_TO_NOTHING = ({b"ref": str(uuid4()).encode()}, {b"ref": b"00000000-0000-0000-0000-000000000000"})


async def test_no_entry_stops_a_stream_or_takes_away_what_belongs_to_another(bare: Installation, road: Redis) -> None:
    merchants, history = await bare.merchants(10), History()
    await start(bare, "psp-sim", "serve")
    await pay_many(bare, merchants, history, count=PAYMENTS, clients=8)
    commands = await bare.rows("SELECT id::text AS id FROM outbox")
    assert len(commands) == PAYMENTS

    # Commands that nobody has performed yet, on the streams of the merchants: their rows are not theirs to claim.
    for number, row in enumerate(commands):
        await road.xadd(events_stream(number % PARTITIONS), {"ref": row["id"]})
    for partition in range(PARTITIONS):
        await add(road, events_stream(partition), *NOT_POINTERS, *POINTERS_TO_NOTHING)
    [actors] = await start(bare, "worker --roles merchants")
    await until_read(road, events_stream(0), events_stream(PARTITIONS - 1))
    assert len(await bare.rows("SELECT FROM outbox")) == PAYMENTS
    assert actors.stop() == 0

    # Evidence that nobody has booked yet, on the streams of other merchants and of the PSP.
    await add(road, COMMANDS, *NOT_POINTERS, *POINTERS_TO_NOTHING)
    await start(bare, "worker --roles gateway")
    await wait_until(lambda: has_evidence(bare, PAYMENTS), "the PSP has answered everything")
    for row in await bare.rows("SELECT id::text AS id, stream FROM outbox"):
        for stream in {COMMANDS, *map(events_stream, range(PARTITIONS))} - {row["stream"]}:
            await road.xadd(stream, {"ref": row["id"]})
    await start(bare, "worker", "scheduler")
    await until_quiet(bare)
    await until_read(road, COMMANDS, *map(events_stream, range(PARTITIONS)))

    letters = await bare.rows("SELECT stream, entry_id, reason FROM dead_letters")
    assert Counter(row["reason"] for row in letters) == {
        "not_a_pointer": PARTITIONS * (len(NOT_POINTERS) - 1),
        "signature_invalid": PARTITIONS,
    }
    assert len(letters) == PARTITIONS * len(NOT_POINTERS)
    shown = [await road.xlen(dead_stream(events_stream(partition))) for partition in range(PARTITIONS)]
    assert min(shown) >= len(NOT_POINTERS)
    await bare.rows("DELETE FROM dead_letters")
    assert len(await bare.book()) == PAYMENTS
    await check_laws(bare, history.accepted)


@pytest.mark.long
async def test_a_storm_of_pointers_to_the_same_rows_has_the_effect_of_one(bare: Installation, road: Redis) -> None:
    merchants, history, chance = await bare.merchants(10), History(), Random(SEED)
    tokens = ("tok_approve", "tok_hang_after", "tok_decline", "tok_hang_before")
    await start(bare, "psp-sim", "serve")
    await pay_many(bare, merchants, history, count=PAYMENTS, clients=8, tokens=tokens)
    await storm(bare, road, chance)
    gateways = [*await start(bare, "worker --roles gateway"), *await start(bare, "worker --roles gateway")]
    await wait_until(lambda: has_evidence(bare, PAYMENTS), "the PSP has answered everything")
    attempts = await bare.rows("SELECT sends FROM psp_attempts")
    assert [row["sends"] for row in attempts] == [1] * PAYMENTS
    for gateway in gateways:
        assert gateway.stop() == 0
    await storm(bare, road, chance)
    await start(bare, "worker", "scheduler")
    await start(bare, "worker")
    for _ in range(3):  # and among inquiries
        await storm(bare, road, chance)
    await until_quiet(bare)
    # One evidence for each command, and one for each callback that came: two ladders would show as more doubt.
    doubts = await bare.rows("SELECT count(*) AS n FROM evidence WHERE outcome = 'unknown' GROUP BY operation_id")
    assert len(doubts) == PAYMENTS // 2, "the fault of the PSP did not bite"
    assert max(row["n"] for row in doubts) <= 2
    await check_laws(bare, history.accepted)


async def add(road: Redis, stream: str, *entries: Mapping[Any, Any]) -> None:
    for fields in entries:
        await road.xadd(stream, dict(fields))


async def storm(bare: Installation, road: Redis, chance: Random) -> None:
    """Every row that waits, twenty times more on its stream, in any order."""
    rows = await bare.rows("SELECT id::text AS id, stream FROM outbox") * 20
    chance.shuffle(rows)
    async with road.pipeline(transaction=False) as pipeline:
        for row in rows:
            pipeline.xadd(row["stream"], {"ref": row["id"]})
        await pipeline.execute()


async def has_evidence(bare: Installation, count: int) -> bool:
    """Whether every operation has an answer; what the PSP calls back about comes on top."""
    [row] = await bare.rows("SELECT count(DISTINCT operation_id) AS n FROM outbox WHERE type = 'psp.evidence'")
    [left] = await bare.rows("SELECT count(*) AS n FROM outbox WHERE type <> 'psp.evidence'")
    return bool(row["n"] == count and left["n"] == 0)


async def until_read(road: Redis, *streams: str) -> None:
    async def is_read() -> bool:
        return not any([await road.xlen(stream) for stream in streams])

    await wait_until(is_read, "the streams are empty", 20)
