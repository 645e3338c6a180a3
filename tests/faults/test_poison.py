"""Messages that nobody survives: found one by one, set aside with what waits behind them, and cured by a requeue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio

from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Outcome
from paynode.domain.road import dead_stream, events_stream
from paynode.storage.bodies import encode_fact
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.faults.running import start, until_quiet
from tests.storage import rows
from tests.support import poisoned
from tests.support.installation import Installation, Process
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until

PARTITIONS = 32
PAYMENTS = 54
POISON = (poisoned.CRASH, poisoned.HANG, poisoned.EAT, poisoned.BUG)
DEAD = "SELECT message -> 'body' ->> 'reason' AS poison, reason FROM dead_letters WHERE status = 'dead'"
# A worker that dies of a message is shown to be deadly sooner, and hangs shorter, than in production.
HASTY = {
    "PAYNODE_WORKER__ATTEMPTS_MAX": "2",
    "PAYNODE_WORKER__HANG_S": "1",
    "PAYNODE_WORKER__MEMORY_MAX_MB": "1024",
}


async def test_exactly_the_deadly_ones_among_innocents_are_dead_letters_and_a_cure_brings_them_back(
    bare: Installation, owner: Session, road: Redis
) -> None:
    """M2, and the operator's way out of it: what was parked behind them comes back in order."""
    merchants, history = await bare.merchants(12), History()
    await start(bare, "psp-sim", "serve", "worker", "scheduler")
    await pay_many(bare, merchants, history, count=PAYMENTS, clients=8)
    await until_quiet(bare)
    [worker] = [process for process in bare.processes if process.verb == "worker"]
    assert worker.stop() == 0

    paid = await owner.fetch("SELECT id::text AS id FROM payments ORDER BY id")
    deadly = {reason: paid[number * 12]["id"] for number, reason in enumerate(POISON)}
    behind = deadly[poisoned.BUG]
    for row in paid:  # one more word about each: fifty of them harmless
        reason = next((reason for reason, payment in deadly.items() if payment == row["id"]), "harmless")
        await tell(owner, road, row["id"], reason)
    later = [await tell(owner, road, behind, f"later {number}") for number in range(3)]

    async with kept_alive(bare) as deaths:
        await wait_until(lambda: letters_are(owner, POISON), "exactly the deadly ones are dead letters", 90)
        await wait_until(lambda: is_all_said(owner, parked=3), "and everything else is through", 30)
    assert len(deaths) >= 2, "nobody died of it"
    told = {row["poison"]: row["reason"] for row in await owner.fetch(DEAD)}
    # Who eats all memory may be told so and refused, or take the process with it.
    assert told.pop(poisoned.EAT) in ("kills_its_worker", "decision_failed")
    assert told == {
        poisoned.CRASH: "kills_its_worker",
        poisoned.HANG: "kills_its_worker",
        poisoned.BUG: "decision_failed",
    }
    assert [row["id"] for row in await owner.fetch("SELECT id::text AS id FROM parked ORDER BY seq")] == later
    await wait_until(lambda: shows(road, len(POISON)), "the dead-letter streams show them")

    await start_poisoned(bare, PAYNODE_TEST_CURED="yes")
    for row in await owner.fetch("SELECT id FROM dead_letters WHERE status = 'dead' ORDER BY id"):
        outcome = await owner.fetchval("SELECT requeue_dead_letter($1, 'somebody', 'mended')", row["id"])
        assert outcome == "done"
    await wait_until(lambda: is_all_said(owner, parked=0), "everything has had its effect", 30)
    order = await owner.fetch("SELECT id::text AS id FROM evidence WHERE payment_id = $1 ORDER BY at, id", behind)
    assert [row["id"] for row in order][-3:] == later, "in their order, behind what they waited for"
    assert await owner.fetchval("SELECT count(*) FROM dead_letters WHERE status = 'dead'") == 0
    assert await owner.fetchval("SELECT count(*) FROM suspects") == 0
    await check_laws(bare, history.accepted)


async def tell(owner: Session, road: Redis, payment_id: str, reason: str) -> str:
    """Evidence that changes no amount: somebody does not know what became of a payment that has ended."""
    operation = await owner.fetchrow(
        "SELECT id::text AS id, merchant_id::text AS merchant_id FROM operations WHERE payment_id = $1", payment_id
    )
    assert operation is not None
    merchant = public(MERCHANT, operation["merchant_id"])
    stream = events_stream(partition_of(merchant, PARTITIONS))
    fact = Fact(
        event_id=rows.new_id(),
        payment_id=payment_id,
        operation_id=operation["id"],
        outcome=Outcome.UNKNOWN,
        source=Source.INQUIRY,
        reason=reason,
    )
    message = rows.message(
        id=fact.event_id,
        stream=stream,
        type="psp.evidence",
        merchant_id=operation["merchant_id"],
        payment_id=payment_id,
        operation_id=fact.operation_id,
        body=encode_fact(fact),
    )
    await rows.insert(owner, "outbox", message)
    await road.xadd(stream, {"ref": fact.event_id, "merchant": merchant})
    return fact.event_id


@asynccontextmanager
async def kept_alive(bare: Installation) -> AsyncIterator[list[Process]]:
    """A worker that is started again whenever it has died, as a supervisor does; those that died."""
    dead: list[Process] = []

    async def keep() -> None:
        while True:
            process = await start_poisoned(bare)
            await wait_until(process.has_ended, "it dies", 300)
            dead.append(process)

    async with anyio.create_task_group() as group:
        group.start_soon(keep)
        yield dead
        group.cancel_scope.cancel()
    for process in bare.processes:
        if process.verb == "worker" and process.popen.poll() is None:
            await anyio.to_thread.run_sync(process.stop)


async def start_poisoned(bare: Installation, **environment: str) -> Process:
    def begin() -> Process:
        return bare.start("worker", module="tests.support.poisoned", **HASTY, **environment)

    return await anyio.to_thread.run_sync(begin)


async def letters_are(owner: Session, reasons: Iterable[str]) -> bool:
    return sorted(row["poison"] for row in await owner.fetch(DEAD)) == sorted(reasons)


async def is_all_said(owner: Session, *, parked: int) -> bool:
    row = await owner.fetchrow("SELECT (SELECT count(*) FROM outbox) AS left, (SELECT count(*) FROM parked) AS parked")
    assert row is not None
    return bool(row["left"] == 0 and row["parked"] == parked)


async def shows(road: Redis, count: int) -> bool:
    shown = [await road.xlen(dead_stream(events_stream(partition))) for partition in range(PARTITIONS)]
    return sum(shown) == count
