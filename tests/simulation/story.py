"""What happens in a run: customers pay, PSPs call back, publishers publish, and a storm breaks over all of it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext, suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, cast

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import ConnectionError as RedisConnectionError

from paynode.actors.relay import Relay, RelayRules
from paynode.domain.deciding import CommandKind
from paynode.domain.errors import Transient
from paynode.domain.ids import MERCHANT, public
from paynode.domain.money import Money
from paynode.domain.payment import Fact, Method, Operation, OperationKind, Payment, PspOrder, Source, Status
from paynode.domain.psp import Answer, Outcome
from paynode.domain.publishing import OutsideEvent, OutsideType, WalletMovement
from paynode.domain.road import Pointer, commands_stream
from paynode.runtime.stopping import Stop
from paynode.streams.client import Redis
from paynode.streams.publisher import RedisPublisher
from tests.simulation.handles import TERMS, Session, SimOutbox, SimSingleton
from tests.simulation.processes import Server, Weather
from tests.simulation.store import OutboxRow
from tests.simulation.valkey_client import ValkeyClient
from tests.simulation.worker import Deaf, Worker
from tests.simulation.world import LEASE_S, PSP, World

RULES: Final = RelayRules(interval_s=1.0, republish_after_s=2.0, republish_max_s=8.0, sweep_size=50)
# Seconds after the storm in which everything must have come to its end. The longest chain is a takeover, a row that is
# published again, an inquiry, and its evidence published again.
END_S: Final = 40.0
_INSTANT: Final = datetime(2026, 3, 1, tzinfo=UTC)


class _Near:
    """`Reach`: Redis is never known to be away, so that every failure is met where it happens."""

    is_away = False

    def needed(self) -> AbstractContextManager[None]:
        return nullcontext()


class Story:
    """One run from beginning to end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.workers: list[Worker] = []
        self._around = world.around
        self._busy = 0
        self._ingress = world.process("ingress")
        self._client = ValkeyClient(world.valkey, self._ingress, world.around)
        self._road = RedisPublisher(cast(Redis, self._client))

    async def run(self) -> None:
        """Tell it. When it returns, nothing was left to do, or END_S was not enough."""
        async with anyio.create_task_group() as group:
            for _ in range(2):
                self._start_worker(group)
            group.start_soon(self._relay)
            for _ in range(self.world.size.payments):
                group.start_soon(self._pay, group)
            for _ in range(self.world.size.events):
                group.start_soon(self._publish)
            await self._storm(group)
            await self._come_to_rest()
            group.cancel_scope.cancel()

    def _start_worker(self, group: TaskGroup) -> None:
        worker = Worker(self.world, f"worker-{self._around.new_id()}")
        self.workers.append(worker)
        group.start_soon(worker.run)

    async def _relay(self) -> None:
        process = self.world.process("scheduler")
        session = Session(self.world.store, process, self._around)
        road = RedisPublisher(cast(Redis, ValkeyClient(self.world.valkey, process, self._around)))
        relay = Relay(
            SimOutbox(session),
            road,
            SimSingleton(session, LEASE_S),
            Deaf(),
            RULES,
            partitions=self.world.size.partitions,
            reach=_Near(),
        )
        await relay.run(Stop())

    # -- what customers, PSPs and publishers do ----------------------------------------------------------------------

    async def _soon(self) -> None:
        """Some time within the storm."""
        await anyio.sleep(self._around.roll() * self.world.size.storm_s)

    async def _pay(self, group: TaskGroup) -> None:
        """A payment is accepted, and its command put on its stream, or not."""
        self._busy += 1
        await self._soon()
        order, command_id = self._accept()
        self._busy -= 1
        with suppress(Transient):
            await self._road.publish([Pointer(stream=commands_stream(PSP), ref=command_id)])
        if self._around.roll() < 0.4:
            group.start_soon(self._call_back, order)

    def _accept(self) -> tuple[PspOrder, str]:
        around, tables = self._around, self.world.store.tables
        money = Money(amount=around.chance.randint(100, 9999), currency="EUR")
        payment_id, operation_id, command_id = around.new_id(), around.new_id(), around.new_id()
        merchant_id = around.chance.choice(self.world.merchants)
        order = PspOrder(
            operation_id=operation_id,
            payment_id=payment_id,
            merchant_id=merchant_id,
            psp=PSP,
            money=money,
            method=Method.TOKEN,
            token="tok",
        )
        tables.orders[operation_id] = order
        tables.payments[payment_id] = Payment(
            id=payment_id,
            merchant_id=merchant_id,
            money=money,
            method=Method.TOKEN,
            terms=TERMS,
            operations=(Operation(id=operation_id, kind=OperationKind.SALE, money=money, psp=PSP),),
            status=Status.PROCESSING,
        )
        tables.outbox[command_id] = OutboxRow(
            id=command_id,
            stream=commands_stream(PSP),
            type=CommandKind.SUBMIT,
            merchant_id=merchant_id,
            payment_id=payment_id,
            operation_id=operation_id,
            body=order,
            created_at=around.now,
            available_at=around.now,
            published_at=around.now,
        )
        return order, command_id

    async def _call_back(self, order: PspOrder) -> None:
        """The PSP calls back: perhaps before its answer is known, perhaps several times, perhaps of a second charge."""
        self._busy += 1
        await self._soon()
        answer = self.world.bank.known.get(order.operation_id)
        if answer is not None:
            await self._tell(order, answer)
        if answer is not None and answer.outcome is Outcome.APPROVED and self._around.roll() < 0.3:
            self._around.counts["charged twice"] += 1
            await self._tell(order, self.world.bank.book_once_more(order))
        self._busy -= 1

    async def _tell(self, order: PspOrder, answer: Answer) -> None:
        for _ in range(self._around.chance.randint(1, 2)):
            fact = Fact(
                event_id=self._around.new_id(),
                payment_id=order.payment_id,
                operation_id=order.operation_id,
                outcome=answer.outcome,
                source=Source.CALLBACK,
                reference=answer.reference,
                amount=answer.amount,
                currency=answer.currency,
                psp=PSP,
            )
            row = self.world.store.insert_evidence(fact, order, self.world.stream_of)
            with suppress(Transient):
                await self._road.publish([Pointer(stream=row.stream, ref=row.id)])

    async def _publish(self) -> None:
        """A publisher keeps its event until it hears what became of it, and says it again until then."""
        self._busy += 1
        await self._soon()
        event = self._event()
        fields = {"event": event.content, "sig": "s"}
        while event.id not in self.world.store.tables.verdicts:
            with suppress(RedisConnectionError):
                for _ in range(2 if self._around.roll() < 0.2 else 1):
                    self.world.said[event.id] += 1
                    await self._client.xadd(self.world.stream_of(event.merchant_id), fields)
            await anyio.sleep(2.0)
        self._busy -= 1

    def _event(self) -> OutsideEvent:
        around = self._around
        merchant_id = around.chance.choice(self.world.merchants)
        kind = OutsideType.WALLET_CREDIT if around.roll() < 0.7 else OutsideType.WALLET_DEBIT
        event_id = around.new_id()
        content = f'{{"id":"{event_id}","subject":"{public(MERCHANT, merchant_id)}"}}'
        event = OutsideEvent(
            id=event_id,
            publisher="loyalty",
            source="loyalty",
            type=kind,
            at=_INSTANT,
            merchant_id=merchant_id,
            data=WalletMovement(
                money=Money(amount=around.chance.randint(1, 500), currency="EUR"), reason="", reference="r"
            ),
            content=content,
            content_sha256=sha256(content.encode()).digest(),
        )
        self.world.events[content] = event
        return event

    # -- what goes wrong ----------------------------------------------------------------------------------------------

    async def _storm(self, group: TaskGroup) -> None:
        around, weather = self._around, self._around.weather
        rough, weather.is_calm = around.roll(), False
        weather.slow = 0.3 * around.roll()
        weather.ambiguous = 0.3 * around.roll() if rough < 0.6 else 0.0
        weather.lost_there = 0.06 * around.roll() if rough > 0.3 else 0.0
        weather.lost_back = 0.06 * around.roll() if rough > 0.3 else 0.0
        until = self.world.size.storm_s
        for _ in range(around.chance.randint(1, 4)):
            await anyio.sleep(around.roll() * until / 2)
            self._strike(group)
        await anyio.sleep(max(0.0, until - around.now))
        around.weather = Weather()
        for process in self.world.processes.values():
            process.clear_up()

    def _strike(self, group: TaskGroup) -> None:
        around = self._around
        worker = around.chance.choice(self.workers[-2:])
        what = around.chance.choice(("kill", "kill", "stop", "stop", "cut", "cut road", "drain", "flush", "away"))
        around.counts[what] += 1
        match what:
            case "kill":
                worker.process.kill()
                self._start_worker(group)
            case "drain":
                worker.stop.set()
                self._start_worker(group)
            case "stop":
                worker.process.stop((0.3 + around.roll()) * 2 * LEASE_S)
            case "cut":
                worker.process.cut(Server.STORE, (0.3 + around.roll()) * 2 * LEASE_S)
            case "cut road":
                worker.process.cut(Server.ROAD, around.roll() * LEASE_S)
            case "flush":
                self.world.valkey.flush()
            case _:
                server, seconds = around.chance.choice((Server.STORE, Server.ROAD)), around.roll()
                for process in self.world.processes.values():
                    process.cut(server, seconds)

    async def _come_to_rest(self) -> None:
        """Wait until nothing is left to do. That it comes to this is a law too."""
        until = self._around.now + END_S
        while self._busy or self.world.store.tables.outbox or not self.world.valkey.is_quiet():
            if self._around.now > until:
                left = [f"{row.type} {row.id}" for row in self.world.store.tables.outbox.values()]
                self.world.violate(f"L10: not at rest after {END_S} s; {self._busy} busy, outbox {left}")
                return
            await anyio.sleep(0.25)


async def tell(world: World) -> None:
    """Tell one from beginning to end."""
    await Story(world).run()
