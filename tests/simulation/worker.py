"""A worker process: merchants' actors with their committer, and a gateway; put together as `app.worker` does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import anyio
from anyio.abc import TaskGroup
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from paynode.actors.ahead import Bounds
from paynode.actors.committer import Committer
from paynode.actors.gateway import PspActor
from paynode.actors.merchant import Around
from paynode.actors.ownership import Ownership, Pace
from paynode.actors.partition import PartitionConsumer, Surrounds
from paynode.actors.room import Room
from paynode.domain.attempts import Claim, GatewayCommand, Postponed
from paynode.domain.batch import Lease
from paynode.domain.booking import Surroundings as Rules
from paynode.domain.deciding import Policy
from paynode.domain.errors import Transient
from paynode.domain.message import Message, Unreadable
from paynode.domain.publishing import Verdict
from paynode.domain.road import GATEWAY_GROUP, commands_stream, lanes
from paynode.runtime.backoff import Backoff
from paynode.runtime.precedence import Precedence
from paynode.runtime.stopping import Stop
from paynode.streams.client import Redis
from paynode.streams.partition_feed import PartitionFeed
from paynode.streams.publisher import RedisPublisher
from tests.simulation.handles import Session, SimAttempts, SimBooks, SimOwning, SimShelf, SimSuspects
from tests.simulation.processes import Killed, Surroundings
from tests.simulation.psp import SimPsp
from tests.simulation.valkey_client import ValkeyClient
from tests.simulation.world import LEASE_S, PSP, World

SEND_WITHIN_S: Final = 0.5
CALL_DEADLINE_S: Final = 1.0
POLICY: Final = Policy(
    inquiry_ladder_ms=(500, 1_000, 2_000), not_sent_tries_max=50, not_sent_retry_ms=200, not_sent_retry_max_ms=1_000
)
BOUNDS: Final = Bounds(turn=6, share=3, mailbox=2, actors=3, attempts=3)
PACE: Final = Pace(keep_s=0.5, look_s=0.5, grace_s=0.2, give_back_s=1.0)
BLOCK_MS: Final = 2_000


class Deaf:
    """Observes nothing."""

    def __getattr__(self, name: str) -> Any:
        return _nothing


def _nothing(*_: object) -> None:
    pass


class SimOutside:
    """`Outside`: reads what the publisher of this world says; there is no other."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def read(self, entries: Sequence[Mapping[str, str]], partition: int) -> Sequence[Message | Unreadable]:
        return [self._read(fields) for fields in entries]

    def _read(self, fields: Mapping[str, str]) -> Message | Unreadable:
        event = self._world.read_event(fields)
        if event is None:
            return Unreadable(ref=None, reason="shape_invalid", detail="", fields=fields)
        return Message(ref=None, merchant_id=event.merchant_id, content=event, fields=fields)


class SimOutcomes:
    """`Outcomes`: nobody may hear of what is not committed."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def tell(self, verdicts: Sequence[Verdict]) -> None:
        for verdict in verdicts:
            if verdict.event_id not in self._world.store.tables.verdicts:
                self._world.violate(f"told before committed: the verdict upon {verdict.event_id}")


class SimFeeds:
    """Opens the real feed over the twin."""

    def __init__(self, world: World, process: str, client: ValkeyClient) -> None:
        self._reading = world.reading
        self._process = process
        self._client = cast(Redis, client)

    @asynccontextmanager
    async def open(self, partition: int) -> AsyncIterator[PartitionFeed]:
        self._reading[self._process, partition] += 1
        try:
            yield PartitionFeed(self._client, self._client, partition, count=8, block_ms=BLOCK_MS)
        finally:
            self._reading[self._process, partition] -= 1


class Worker:
    """A worker process: merchants' actors, committer and a gateway, put together as `app.worker` does."""

    def __init__(self, world: World, name: str) -> None:
        self.process = world.process(name)
        self.stop = Stop()
        self._world = world
        self._client = ValkeyClient(world.valkey, self.process, world.around)
        self._session = Session(world.store, self.process, world.around)
        self._road = RedisPublisher(cast(Redis, self._client))

    async def run(self) -> None:
        """Until it is stopped or killed."""
        try:
            with self.process.scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._consume)
                    for stream in lanes(commands_stream(PSP)):
                        gateway = Gateway(self._world, self._session, self._client, self._road, stream)
                        group.start_soon(gateway.run, self.stop)
        except* Killed:
            pass
        self.process.is_dead = True

    async def _consume(self) -> None:
        committer = self._committer()
        ownership = self._ownership(committer)
        async with anyio.create_task_group() as beside:
            beside.start_soon(committer.run)
            await ownership.run(self.stop)
            beside.cancel_scope.cancel()

    def _committer(self) -> Committer:
        world = self._world
        return Committer(
            SimBooks(self._session, LEASE_S),
            self._road,
            SimOutcomes(world),
            Deaf(),
            rules_of(world.around),
            new_id=world.around.new_id,
            batch_size=4,
            condemn_after_s=30.0,
        )

    def _ownership(self, committer: Committer) -> Ownership:
        world = self._world
        surrounds = Surrounds(
            feeds=SimFeeds(world, self.process.name, self._client),
            shelf=SimShelf(self._session),
            outside=SimOutside(world),
            outcomes=SimOutcomes(world),
            suspects=SimSuspects(self._session),
            around=rules_of(world.around),
            observer=Deaf(),
            bounds=BOUNDS,
            room=Room(entries=12, whole=8),
            precedence=Precedence(patience_s=0.05),
        )
        consumer = PartitionConsumer(surrounds, [committer], new_backoff=backoff)
        owning = SimOwning(self._session, LEASE_S, world.watch_release)
        return Ownership(owning, owning, consumer.consume, Deaf(), partitions=world.size.partitions, pace=PACE)


def backoff() -> Backoff:
    """Pauses after a failure."""
    return Backoff(min_ms=50, max_ms=400)


def rules_of(around: Surroundings) -> Around:
    """What surrounds a decision."""

    def rules(lease: Lease) -> Rules:
        return Rules(
            now_ms=around.now_ms(),
            new_id=around.new_id,
            between_ms=around.chance.randint,
            epoch=lease.epoch,
            policy=POLICY,
        )

    return rules


class _Claims:
    """Claims one at a time."""

    def __init__(self, attempts: SimAttempts) -> None:
        self._attempts = attempts

    async def submit(self, claim: Claim, /) -> bool:
        return (await self._attempts.claim([claim]))[0]


class Gateway:
    """The real PSP actor, with as little around it as brings it the commands of one lane."""

    def __init__(self, world: World, session: Session, client: ValkeyClient, road: RedisPublisher, stream: str) -> None:
        self._client = client
        self._server = world.valkey
        self._road = road
        self._name = session.process.name
        self._stream = stream
        self._attempts = SimAttempts(
            session, world.stream_of, send_within_s=SEND_WITHIN_S, call_deadline_s=CALL_DEADLINE_S
        )
        self._actor = PspActor(
            SimPsp(world.bank, session.process, world.around),
            self._attempts,
            _Claims(self._attempts),
            new_id=world.around.new_id,
            send_within_s=SEND_WITHIN_S,
            call_deadline_s=CALL_DEADLINE_S,
            now_ms=lambda: round(world.around.now * 1000),
        )
        self._in_hand: set[str] = set()

    async def run(self, stop: Stop) -> None:
        """Perform commands until `stop`, then finish those in hand."""
        async with anyio.create_task_group() as hands:
            while not stop.is_set:
                try:
                    await self._bring(hands)
                except ResponseError:
                    await self._make_group()
                except (Transient, RedisConnectionError):
                    await anyio.sleep(0.3)

    async def _make_group(self) -> None:
        try:
            await self._client.xgroup_create(self._stream, GATEWAY_GROUP, id="0", mkstream=True)
        except (ResponseError, RedisConnectionError):
            await anyio.sleep(0.1)

    async def _bring(self, hands: TaskGroup) -> None:
        """New commands, and those that nobody has finished for longer than any call takes."""
        answer = await self._client.xreadgroup(GATEWAY_GROUP, self._name, {self._stream: ">"}, count=4, block=1_000)
        found = list(answer[0][1]) if answer else []
        if not found:
            _, found, _ = await self._client.xautoclaim(self._stream, GATEWAY_GROUP, self._name, 2_000)
        refs = {number.decode(): fields[b"ref"].decode() for number, fields in found}
        refs = {number: ref for number, ref in refs.items() if ref not in self._in_hand}
        if not refs:
            return
        commands = await self._attempts.commands(list(refs.values()))
        gone = [number for number, ref in refs.items() if ref not in commands]
        for number, ref in refs.items():
            command = commands.get(ref)
            if isinstance(command, GatewayCommand) and ref not in self._in_hand:
                self._in_hand.add(ref)
                hands.start_soon(self._perform, number, command)
        if gone:
            await self._acknowledge(gone)

    async def _perform(self, number: str, command: GatewayCommand) -> None:
        try:
            conclusion = await self._actor.perform(command)
            assert not isinstance(conclusion, Postponed), "the guards of this PSP refuse nobody a turn"
            if conclusion is not None:
                await self._road.publish(await self._attempts.conclude([conclusion]))
                await self._acknowledge([number])
        except (Transient, RedisConnectionError):
            pass  # it stays pending, and the attempt tells what to do
        finally:
            self._in_hand.discard(command.ref)

    async def _acknowledge(self, ids: Sequence[str]) -> None:
        async with self._client.pipeline(transaction=False) as pipeline:
            pipeline.xdel(self._stream, *ids)
            pipeline.xack(self._stream, GATEWAY_GROUP, *ids)
            await pipeline.execute()
