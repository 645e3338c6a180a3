"""Gateways at work in the test's own process, on real servers, before a PSP that does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from paynode.actors.dispatch import Dispatcher, all_hands
from paynode.actors.gateway import PspActor
from paynode.actors.suspicion import Suspicion, SuspicionRules
from paynode.actors.upkeep import Upkeep
from paynode.app.parts import now_ms
from paynode.config import Settings
from paynode.domain.attempts import Claim, Turn
from paynode.domain.money import Money
from paynode.domain.payment import Method, OperationKind, PspOrder
from paynode.domain.psp import Answer, Capabilities, Outcome, PspRequest
from paynode.observability.observers import Observer
from paynode.runtime.backoff import Backoff
from paynode.runtime.grouping import Grouper
from paynode.runtime.stopping import Stop
from paynode.storage.attempts import PgAttempts
from paynode.storage.bodies import encode_order
from paynode.storage.commands import PgCommands
from paynode.storage.postgres import BY_KEY, Role, Session, pool
from paynode.streams.client import commands_client, reader_client
from paynode.streams.command_feed import CommandFeed
from paynode.streams.publisher import RedisPublisher
from tests.storage import rows

COMMANDS = "paynode:{psp-sim}:commands"
CAPABILITIES = Capabilities(
    has_page=True,
    has_token=True,
    can_authorize=True,
    can_capture_partially=True,
    can_capture_repeatedly=True,
    can_refund_partially=True,
    can_cancel_page=True,
    is_callback_binding=True,
    idempotent_for_s=60.0,
    settle_s=5.0,
)


@dataclass
class Psp:
    """Answers after `seconds`; what it says of a token "bad" can be stored by nobody."""

    seconds: float = 0.1  # so that many end together
    capabilities: Capabilities = CAPABILITIES
    # What is said to whoever wants to send.
    turns: list[Turn] = field(default_factory=list)
    retries: list[bool] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)

    def prepare(self, order: PspOrder) -> PspRequest:
        body = b'{"token":"%b"}' % (order.token or "").encode()
        return PspRequest(path="/", body=body, idempotency_key=order.operation_id)

    async def send(self, order: PspOrder, request: PspRequest, *, send_by: float, deadline: float) -> Answer:
        self.sent.append(request.idempotency_key)
        await anyio.sleep(self.seconds)
        return Answer(outcome=Outcome.DECLINED, reason="\0" if b"bad" in request.body else "no")

    async def find(self, order: PspOrder, *, deadline: float) -> Answer | None:
        return None

    @asynccontextmanager
    async def turn_to_send(self, order: PspOrder, *, is_retry: bool, is_urgent: bool) -> AsyncIterator[Turn]:
        self.retries.append(is_retry)
        yield self.turns.pop(0) if self.turns else Turn()

    @asynccontextmanager
    async def turn_to_ask(self) -> AsyncIterator[Turn]:
        yield Turn()


@asynccontextmanager
async def gateway(
    settings: Settings,
    redis_url: str,
    psp: Psp,
    *,
    name: str = "test",
    reclaim_idle_ms: int = 60_000,
    consumer_idle_s: float = 60,
) -> AsyncIterator[None]:
    """One process's gateway, as the worker composes it."""
    settings = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": redis_url})})
    stop, observer = Stop(), Observer()
    async with (
        pool(settings, Role.GATEWAY, application_name=name, planner=BY_KEY) as database,
        commands_client(settings) as commands,
        reader_client(settings) as reader,
        anyio.create_task_group() as group,
    ):
        attempts = PgAttempts(database, gateway=name, send_within_s=5, call_deadline_s=10, partitions=32)
        claims: Grouper[Claim, bool] = Grouper(attempts.claim, group_size_max=8, waiting_max=all_hands(8))
        actor = PspActor(psp, attempts, claims, new_id=rows.new_id, send_within_s=5, call_deadline_s=10, now_ms=now_ms)
        feed = CommandFeed(reader, commands, COMMANDS, consumer=name, block_ms=50)
        kept, publisher = PgCommands(database), RedisPublisher(commands)
        rules = SuspicionRules(deliveries=3, attempts_max=3)
        dispatcher = Dispatcher(
            "sim",
            feed,
            kept,
            attempts,
            actor,
            publisher,
            Suspicion(kept, publisher, observer, rules, new_id=rows.new_id, now_ms=now_ms),
            observer,
            hands=8,
            queue_size=8,
            reclaim_idle_ms=reclaim_idle_ms,
            backoff=Backoff(min_ms=1, max_ms=10),
        )
        upkeep = Upkeep(
            feed, dispatcher.in_hand, observer, reclaim_idle_ms=reclaim_idle_ms, consumer_idle_s=consumer_idle_s
        )
        group.start_soon(claims.run)
        group.start_soon(upkeep.run)
        group.start_soon(dispatcher.run, stop)
        yield
        stop.set()
        await anyio.sleep(0.2)
        group.cancel_scope.cancel()


async def issue(
    owner: Session,
    token: str,
    *,
    psp: str = "sim",
    kind: str = "psp.submit",
    operation: OperationKind = OperationKind.SALE,
) -> str:
    """A command about a fresh operation; its row."""
    order = PspOrder(
        operation_id=rows.new_id(),
        payment_id=rows.new_id(),
        merchant_id=rows.new_id(),
        psp=psp,
        money=Money(amount=1000, currency="EUR"),
        method=Method.TOKEN,
        token=token,
        kind=operation,
        charge_id=None if operation is OperationKind.SALE else rows.new_id(),
    )
    row = rows.message(
        stream=f"paynode:{{psp-{psp}}}:commands",
        type=kind,
        merchant_id=order.merchant_id,
        payment_id=order.payment_id,
        operation_id=order.operation_id,
        body=encode_order(order),
    )
    await rows.insert(owner, "outbox", row)
    return str(row["id"])
