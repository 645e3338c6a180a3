"""What the database refuses: the one message that it cannot hold stands alone, and its neighbours are innocent."""

from __future__ import annotations

from dataclasses import replace

import pytest

from paynode.config import Settings
from paynode.domain.batch import Batch, Lease
from paynode.domain.booking import IssuedCommand
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Fenced, PaynodeError, Poison, Unavailable
from paynode.domain.ids import MERCHANT, public
from paynode.domain.partition import partition_of
from paynode.domain.payment import Fact, Source
from paynode.domain.psp import Outcome
from paynode.domain.road import events_stream
from paynode.storage.bodies import encode_fact
from paynode.storage.books import PgBooks
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.faults.running import said, start, until_quiet
from tests.storage import rows, world
from tests.support.installation import Installation
from tests.support.laws import check_laws
from tests.support.load import History, pay_many
from tests.support.waiting import wait_until


async def test_a_message_that_the_database_refuses_holds_up_no_other_and_is_not_lost(
    bare: Installation, owner: Session, road: Redis
) -> None:
    merchants, history = await bare.merchants(1), History()  # one partition, one chain: everybody is its neighbour
    await start(bare, "psp-sim", "serve", "scheduler", "worker --roles gateway")
    [worker] = await start(bare, "worker --roles merchants")
    await pay_many(bare, merchants, history, count=20, clients=4)
    await until_quiet(bare)
    assert worker.stop() == 0

    await owner.execute("ALTER TABLE evidence ADD CONSTRAINT test_refuses CHECK (reason <> 'refuse me')")
    refs = [await tell(owner, road, reason="refuse me") for _ in range(3)]
    await pay_many(bare, merchants, history, count=40, clients=8, prefix="later")
    await wait_until(lambda: has_waiting(owner, 40), "the PSP has answered")  # so that all are of one batch
    [worker] = await start(bare, "worker --roles merchants")
    await until_quiet(bare)
    assert said(worker, "commit_failed") > 3, "nothing was refused: the fault did not bite"
    [letter] = await owner.fetch("SELECT id, row_id::text AS ref, reason FROM dead_letters")
    assert (letter["ref"], letter["reason"]) == (refs[0], "refused_by_database")
    parked = await owner.fetch("SELECT id::text AS id FROM parked ORDER BY seq")
    assert [row["id"] for row in parked] == refs[1:], "of the same payment: they wait behind it"

    await owner.execute("ALTER TABLE evidence DROP CONSTRAINT test_refuses")
    assert await owner.fetchval("SELECT requeue_dead_letter($1, 'somebody', 'mended')", letter["id"]) == "done"
    await until_quiet(bare)
    assert await owner.fetchval("SELECT count(*) FROM evidence WHERE id = ANY($1::uuid[])", refs) == 3
    await check_laws(bare, history.accepted)


async def test_evidence_is_not_refused_for_the_time_that_a_psp_tells(
    bare: Installation, owner: Session, road: Redis
) -> None:
    merchants, history = await bare.merchants(1), History()
    await start(bare, "psp-sim", "serve", "worker")
    await pay_many(bare, merchants, history, count=1, clients=1)
    await until_quiet(bare)
    refs = [await tell(owner, road, reason="late", psp_at_ms=at_ms) for at_ms in (2**62, -(2**62), 10**15)]
    await until_quiet(bare, 5)
    times = await owner.fetch("SELECT psp_at FROM evidence WHERE id = ANY($1::uuid[])", refs)
    assert [row["psp_at"] for row in times] == [None] * 3
    await check_laws(bare, history.accepted)


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        ("ALTER TABLE partitions ADD CONSTRAINT test_refuses CHECK (last_batch IS NULL)", Poison),
        ("REVOKE UPDATE ON partitions FROM paynode_committer", Unavailable),
    ],
    ids=["a CHECK", "a right"],
)
async def test_only_what_is_to_be_written_can_be_at_fault(
    settings: Settings, owner: Session, trouble: str, kind: type[PaynodeError]
) -> None:
    """A deployment that forgot a right must not set every message aside, one after the other."""
    await owner.execute("UPDATE partitions SET owner = 'test', epoch = 1")
    await owner.execute(trouble)
    books = PgBooks(settings, name="test")
    with pytest.raises(kind):
        await books.commit(empty_batch(Lease(partition=0, epoch=1)))
    await books.aclose()


async def test_a_batch_under_two_epochs_of_one_partition_is_fenced(settings: Settings, owner: Session) -> None:
    """An owner that was stopped may have lost a partition and taken it again before its old run has noticed."""
    await owner.execute("UPDATE partitions SET owner = 'test', epoch = 3")
    books = PgBooks(settings, name="test")
    with pytest.raises(Fenced) as fenced:
        await books.commit(empty_batch(Lease(partition=0, epoch=1), Lease(partition=0, epoch=3)))
    assert fenced.value.partitions == {0}
    await books.aclose()


async def test_one_inquiry_at_a_time_waits_for_an_operation(settings: Settings, owner: Session) -> None:
    """Customers who come back have the PSP asked, too: each would start a ladder that has no end while it is away."""
    await owner.execute("UPDATE partitions SET owner = 'test', epoch = 1")
    payment_id = await world.processing(owner, await world.open_shop(owner))
    operation_id = await owner.fetchval("SELECT id::text FROM operations WHERE payment_id = $1", payment_id)

    def inquiry(delay_ms: int) -> IssuedCommand:
        kind = CommandKind.INQUIRE
        return IssuedCommand(id=rows.new_id(), kind=kind, operation_id=operation_id, psp="sim", delay_ms=delay_ms)

    books = PgBooks(settings, name="test")
    for commands in ((inquiry(2000), inquiry(1000)), (inquiry(3000),)):
        await books.commit(replace(empty_batch(Lease(partition=0, epoch=1)), id=rows.new_id(), commands=commands))
    await books.aclose()
    waiting = await owner.fetch("SELECT available_at - created_at AS pause FROM outbox WHERE type = 'psp.inquire'")
    assert [round(row["pause"].total_seconds()) for row in waiting] == [1]


def empty_batch(*leases: Lease) -> Batch:
    return Batch(
        id=rows.new_id(),
        leases=leases,
        claims=(),
        facts=(),
        payments=(),
        made=(),
        entries=(),
        adjustments=(),
        heads=(),
        wallets=(),
        commands=(),
        payouts=(),
        events=(),
        letters=(),
        parked=(),
        verdicts=(),
        decided=(),
    )


async def tell(owner: Session, road: Redis, *, reason: str, psp_at_ms: int | None = None) -> str:
    """Evidence that changes nothing about a payment that has ended: somebody does not know what became of it."""
    row = await owner.fetchrow(
        "SELECT id::text, payment_id::text, merchant_id::text FROM operations WHERE state = 'approved' LIMIT 1"
    )
    assert row is not None
    fact = Fact(
        event_id=rows.new_id(),
        payment_id=row["payment_id"],
        operation_id=row["id"],
        outcome=Outcome.UNKNOWN,
        source=Source.INQUIRY,
        reason=reason,
        psp_at_ms=psp_at_ms,
    )
    stream = events_stream(partition_of(public(MERCHANT, row["merchant_id"]), 32))
    message = rows.message(
        id=fact.event_id,
        stream=stream,
        type="psp.evidence",
        merchant_id=row["merchant_id"],
        payment_id=fact.payment_id,
        operation_id=fact.operation_id,
        body=encode_fact(fact),
    )
    await rows.insert(owner, "outbox", message)
    await road.xadd(stream, {"ref": fact.event_id})
    return fact.event_id


async def has_waiting(owner: Session, count: int) -> bool:
    left = await owner.fetch("SELECT type, count(*) AS n FROM outbox GROUP BY type")
    return [row["type"] for row in left] == ["psp.evidence"] and left[0]["n"] >= count
