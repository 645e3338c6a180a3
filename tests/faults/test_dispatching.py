"""A PSP's commands in one process: what one of them brings to a bad end is no other's business."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import anyio
import pytest

from paynode.actors.dispatch import Dispatcher
from paynode.actors.gateway import PspActor
from paynode.config import Settings
from paynode.domain.attempts import Claim
from paynode.domain.money import Money
from paynode.domain.payment import ChargeOrder, Method
from paynode.domain.psp import Answer, Outcome, PspRequest
from paynode.observability.observers import Observer
from paynode.runtime.backoff import Backoff
from paynode.runtime.grouping import Grouper
from paynode.runtime.stopping import Stop
from paynode.storage.attempts import PgAttempts
from paynode.storage.bodies import encode_order
from paynode.storage.postgres import Role, Session, pool
from paynode.streams.client import Redis, commands_client, reader_client
from paynode.streams.command_feed import CommandFeed
from paynode.streams.publisher import RedisPublisher
from tests.storage import rows
from tests.support.waiting import wait_until

COMMANDS = "paynode:{psp-sim}:commands"


@dataclass
class Psp:
    """Answers at once; what it says of a token "bad" can be stored by nobody."""

    idempotent_for_ms: int = 60_000
    sent: list[str] = field(default_factory=list)

    def prepare(self, order: ChargeOrder) -> PspRequest:
        body = b'{"token":"%b"}' % (order.token or "").encode()
        return PspRequest(path="/", body=body, idempotency_key=order.operation_id)

    async def send(self, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        self.sent.append(request.idempotency_key)
        await anyio.sleep(0.1)  # so that many end together
        return Answer(outcome=Outcome.DECLINED, reason="\0" if b"bad" in request.body else "no")

    async def find(self, our_reference: str, *, deadline: float) -> Answer | None:
        return None


@pytest.fixture
async def psp(settings: Settings, redis_url: str) -> AsyncIterator[Psp]:
    """A gateway at work, and the PSP that it calls."""
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": redis_url})})
    psp, stop = Psp(), Stop()
    async with (
        pool(settings, Role.GATEWAY, application_name="test") as database,
        commands_client(settings) as commands,
        reader_client(settings) as reader,
        anyio.create_task_group() as group,
    ):
        attempts = PgAttempts(database, gateway="test", send_within_s=5, call_deadline_s=10, partitions=32)
        claims: Grouper[Claim, bool] = Grouper(attempts.claim, group_size_max=8, waiting_max=8)
        actor = PspActor(psp, attempts, claims, new_id=rows.new_id, send_within_s=5, call_deadline_s=10)
        dispatcher = Dispatcher(
            "sim",
            CommandFeed(reader, commands, "sim", consumer="test", block_ms=50),
            attempts,
            actor,
            RedisPublisher(commands),
            Observer(),
            hands=8,
            queue_size=8,
            reclaim_idle_ms=60_000,
            backoff=Backoff(min_ms=1, max_ms=10),
        )
        group.start_soon(claims.run)
        group.start_soon(dispatcher.run, stop)
        yield psp
        stop.set()
        await anyio.sleep(0.2)
        group.cancel_scope.cancel()


async def issue(owner: Session, token: str, *, psp: str = "sim") -> str:
    """A command about a fresh operation; its row."""
    order = ChargeOrder(
        operation_id=rows.new_id(),
        payment_id=rows.new_id(),
        merchant_id=rows.new_id(),
        psp=psp,
        money=Money(amount=1000, currency="EUR"),
        method=Method.TOKEN,
        token=token,
    )
    row = rows.message(
        stream=f"paynode:{{psp-{psp}}}:commands",
        type="psp.submit",
        merchant_id=order.merchant_id,
        payment_id=order.payment_id,
        operation_id=order.operation_id,
        body=encode_order(order),
    )
    await rows.insert(owner, "outbox", row)
    return str(row["id"])


async def test_an_answer_that_cannot_be_stored_spoils_no_other_that_ends_with_it(
    owner: Session, road: Redis, psp: Psp
) -> None:
    refs = [await issue(owner, token) for token in ("good", "bad", "good", "good", "bad", "good")]
    async with road.pipeline() as pipeline:  # all in one reading
        for ref in refs:
            pipeline.xadd(COMMANDS, {"ref": ref})
        await pipeline.execute()

    async def is_over() -> bool:
        return bool(await owner.fetchval("SELECT count(*) = 4 FROM psp_attempts WHERE outcome = 'declined'"))

    await wait_until(is_over, "the good ones have ended")
    left = await owner.fetch("SELECT id::text AS id FROM outbox WHERE type = 'psp.submit'")
    assert {row["id"] for row in left} == {refs[1], refs[4]}, "as if their answers had been lost"
    assert await owner.fetchval("SELECT count(*) FROM psp_attempts WHERE outcome IS NULL") == 2


async def test_a_command_of_another_psp_is_not_performed_at_this_one(owner: Session, road: Redis, psp: Psp) -> None:
    foreign, own = await issue(owner, "good", psp="other"), await issue(owner, "good")
    for ref in (foreign, own):
        await road.xadd(COMMANDS, {"ref": ref})

    async def is_read() -> bool:
        return bool(await road.xlen(COMMANDS) == 0)

    await wait_until(is_read, "the stream is empty")
    assert len(psp.sent) == 1
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE id = $1", foreign) == 1
