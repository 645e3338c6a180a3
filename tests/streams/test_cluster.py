"""The client of a cluster, on a real one: three primaries, and for the first of them a replica."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import AsyncIterator

import anyio
import pytest
from redis.crc import key_slot
from redis.exceptions import RedisError

from paynode import config
from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.road import MERCHANTS_GROUP, PARTITIONS_KEY, Change, Pointer, events_stream
from paynode.streams.changes import changes
from paynode.streams.client import EvictionRefused, Redis, commands_client, is_up, reader_client, refuse_eviction
from paynode.streams.entries import Member
from paynode.streams.places import UrlRefused
from paynode.streams.publisher import RedisPublisher
from tests.streams import looking
from tests.support.redis_servers import PASSWORD, Cluster, RedisServer, redis_cluster
from tests.support.waiting import wait_until

PARTITIONS = 32
STREAMS = [events_stream(partition) for partition in range(PARTITIONS)]


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """One that each test leaves whole."""
    async with redis_cluster(replicas=1) as cluster:
        yield cluster


@pytest.fixture
def settings(cluster: Cluster) -> Settings:
    return config.load({"redis": {"url": cluster.url, "command_timeout_s": 5}, "streams": {"block_ms": 200}})


@pytest.fixture
async def commands(cluster: Cluster, settings: Settings) -> AsyncIterator[Redis]:
    await cluster.until_whole()
    async with commands_client(settings) as client:
        for stream in STREAMS:
            await client.delete(stream)
        yield client


def pointers(count: int) -> list[Pointer]:
    return [Pointer(stream=stream, ref=str(number)) for number in range(count) for stream in STREAMS]


# -- where things are -----------------------------------------------------------------------------------------------


async def test_every_stream_is_on_the_node_that_owns_its_slot(cluster: Cluster, commands: Redis) -> None:
    publisher = RedisPublisher(commands)
    await publisher.publish(pointers(3))
    await publisher.mark_out(PARTITIONS)
    for stream in STREAMS:
        assert [entry[b"ref"] for entry in await looking.fields(commands, stream)] == [b"0", b"1", b"2"]
    assert await commands.get(PARTITIONS_KEY) == b"32"
    assert await is_up(commands)
    held: Counter[int] = Counter()
    for node in cluster.primaries:
        async with node.client() as client:
            held[node.port] = await client.dbsize()
    assert held.total() == PARTITIONS + 1
    assert min(held.values()) > 0, held


async def test_a_transaction_stays_on_one_node(commands: Redis) -> None:
    async with commands.pipeline(transaction=True) as pipeline:
        for _ in range(2):
            pipeline.xadd(STREAMS[0], {"ref": "x"})
        pipeline.xlen(STREAMS[0])
        assert (await pipeline.execute())[2] == 2
    async with commands.pipeline(transaction=True) as pipeline:
        for stream in STREAMS:
            pipeline.xadd(stream, {"ref": "x"})
        with pytest.raises(ValueError, match="several nodes"):
            await pipeline.execute()


async def test_one_wrong_command_of_many_is_told_and_the_others_are_done(commands: Redis) -> None:
    await commands.set(STREAMS[1], "no stream")
    with pytest.raises(Unavailable, match="WRONGTYPE"):
        await RedisPublisher(commands).publish(pointers(1))
    lengths = [await commands.xlen(stream) for stream in STREAMS if stream != STREAMS[1]]
    assert lengths == [1] * (PARTITIONS - 1)


async def test_eviction_is_refused_on_any_node(cluster: Cluster, commands: Redis) -> None:
    await refuse_eviction(commands)
    async with cluster.primaries[2].client() as node:
        await node.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(EvictionRefused, match="allkeys-lru"):
                await refuse_eviction(commands)
        finally:
            await node.config_set("maxmemory-policy", "noeviction")


async def test_a_node_is_refused_by_a_url_for_one_server(cluster: Cluster) -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:{cluster.primaries[0].port}"
    async with commands_client(config.load({"redis": {"url": url}})) as client:
        with pytest.raises(UrlRefused, match=r"redis\+cluster://"):
            await refuse_eviction(client)


async def test_one_server_is_refused_by_a_url_for_a_cluster(redis_url: str) -> None:
    url = redis_url.replace("redis://", "redis+cluster://").rpartition("/")[0]
    async with commands_client(config.load({"redis": {"url": url}})) as client:
        with pytest.raises(UrlRefused, match="no node of a cluster"):
            await refuse_eviction(client)


async def test_a_change_is_heard_at_whichever_node_one_listens(
    settings: Settings, cluster: Cluster, commands: Redis
) -> None:
    heard: Counter[str] = Counter()

    async def listen() -> None:
        async with reader_client(settings) as client:
            async for change in changes(client):
                heard[change.payment_id] += 1

    async def all_listen() -> bool:
        total = 0
        for node in cluster.nodes:
            async with node.client() as client:
                [(_, number)] = await client.pubsub_numsub("paynode:changes")
                total += number
        return total == 6

    async with anyio.create_task_group() as group:
        for _ in range(6):
            group.start_soon(listen)
        await wait_until(all_listen, "all listen")
        for number in range(5):
            await RedisPublisher(commands).announce([Change(payment_id=str(number), version=1)])
        wanted = {str(number): 6 for number in range(5)}
        await wait_until(lambda: heard == wanted, "all have heard everything")
        group.cancel_scope.cancel()


# -- where things go ------------------------------------------------------------------------------------------------


class Moving:
    """Moves one stream's slot from the node that has it to another, step by step."""

    def __init__(self, cluster: Cluster, source: RedisServer, target: RedisServer, stream: str) -> None:
        self._cluster = cluster
        self._source = source
        self._target = target
        self._stream = stream
        self._slot = key_slot(stream.encode())

    async def begin(self) -> None:
        """From now on the source sends away (ASK) whoever asks for what it has not."""
        async with self._source.client() as source, self._target.client() as target:
            source_id, target_id = [(await one.execute_command("CLUSTER MYID")).decode() for one in (source, target)]
            await target.execute_command("CLUSTER SETSLOT", self._slot, "IMPORTING", source_id)
            await source.execute_command("CLUSTER SETSLOT", self._slot, "MIGRATING", target_id)

    async def carry(self) -> None:
        """The stream with its groups and their pending lists."""
        async with self._source.client() as source:
            words = ("127.0.0.1", self._target.port, "", 0, 5000, "AUTH", PASSWORD, "KEYS", self._stream)
            assert await source.execute_command("MIGRATE", *words) == b"OK"

    async def end(self) -> None:
        """From now on the slot is the target's; the others hear of it by and by."""
        async with self._target.client() as target:
            target_id = (await target.execute_command("CLUSTER MYID")).decode()
        for node in (self._target, self._source):
            async with node.client() as client:
                await client.execute_command("CLUSTER SETSLOT", self._slot, "NODE", target_id)


async def owner_of(cluster: Cluster, stream: str) -> RedisServer:
    slot = key_slot(stream.encode())
    async with cluster.primaries[0].client() as client:
        for first, last, (_, port, *_), *_ in await client.execute_command("CLUSTER SLOTS"):
            if first <= slot <= last:
                return next(node for node in cluster.nodes if node.port == port)
    raise AssertionError(f"nobody owns {stream}")


@pytest.fixture
async def moving(cluster: Cluster, commands: Redis) -> Moving:
    source = await owner_of(cluster, STREAMS[0])
    target = next(node for node in cluster.primaries if node is not source)
    return Moving(cluster, source, target, STREAMS[0])


async def test_a_stream_that_moves_is_followed_by_its_reader_and_its_writers(
    settings: Settings, commands: Redis, moving: Moving
) -> None:
    """A reader waits in a blocking read, and has entries pending, while its slot goes to another node."""
    member = Member(STREAMS[0], MERCHANTS_GROUP, "owner")
    await member.make_group(commands)
    publisher = RedisPublisher(commands)
    read: list[str] = []

    async def read_on() -> None:
        async with reader_client(settings) as reader:
            while len(read) < 6:
                for entry in await member.read(reader, after=">", count=10, block_ms=5000):
                    read.append(entry.fields["ref"])
                    await commands.xack(STREAMS[0], MERCHANTS_GROUP, entry.id)

    async with anyio.create_task_group() as group:
        group.start_soon(read_on)
        for number, step in enumerate((None, moving.begin, None, moving.carry, None, moving.end)):
            if step is not None:
                await step()
            await publisher.publish([Pointer(stream=STREAMS[0], ref=str(number))])
        await wait_until(lambda: len(read) == 6, "all were read", 30)
    assert read == [str(number) for number in range(6)]
    assert await looking.pending(commands, STREAMS[0], MERCHANTS_GROUP) == []
    assert await commands.xlen(STREAMS[0]) == 6


async def test_many_at_once_are_sent_on_and_each_arrives_once(commands: Redis, moving: Moving) -> None:
    """ASKING holds for the next command on the same connection: by another one it would permit somebody else's."""

    async def add(number: int) -> None:
        await commands.xadd(STREAMS[0], {"ref": str(number)})

    async with anyio.create_task_group() as warming:  # all connections of the pool are in use
        for number in range(40):
            warming.start_soon(has_length, commands, number)
    await moving.begin()  # and the source has nothing of the slot: it sends all of them on
    async with anyio.create_task_group() as group:
        for number in range(40):
            group.start_soon(add, number)
    await moving.end()
    assert {entry[b"ref"] for entry in await looking.fields(commands, STREAMS[0])} == {b"%d" % n for n in range(40)}
    assert await commands.xlen(STREAMS[0]) == 40


async def test_a_node_that_fails_is_replaced_and_nobody_is_restarted(
    settings: Settings, cluster: Cluster, commands: Redis
) -> None:
    publisher = RedisPublisher(commands)
    await publisher.publish(pointers(1))
    first, replica = cluster.primaries[0], cluster.replicas[0]
    async with first.client() as client:
        await client.execute_command("WAIT", 1, 5000)
    async with reader_client(settings) as reader:
        lost = [stream for stream in STREAMS if await owner_of(cluster, stream) is first]
        member = Member(lost[0], MERCHANTS_GROUP, "owner")
        await member.make_group(commands)
        assert len(await member.read(reader, after=">", count=10, block_ms=100)) == 1
        first.kill()
        with pytest.raises(Unavailable):
            await publisher.publish([Pointer(stream=lost[0], ref="1")])

        async def is_replaced() -> bool:
            try:
                await member.read(reader, after="0", count=10, block_ms=None)
                await publisher.publish(pointers(1))
            except Unavailable:
                return False
            return True

        await wait_until(is_replaced, "the replica has taken its place", 30)
    assert await owner_of_by(replica, lost[0]) == replica.port
    first.start()
    await cluster.until_whole()


async def owner_of_by(node: RedisServer, stream: str) -> int:
    slot = key_slot(stream.encode())
    async with node.client() as client:
        ranges = await client.execute_command("CLUSTER SLOTS")
    return next(int(port) for first, last, (_, port, *_), *_ in ranges if first <= slot <= last)


async def test_a_node_that_fails_takes_nothing_away_from_the_others(cluster: Cluster, commands: Redis) -> None:
    last = cluster.primaries[2]
    dead = {stream for stream in STREAMS if await owner_of(cluster, stream) is last}
    assert 0 < len(dead) < PARTITIONS
    for node in cluster.nodes:
        async with node.client() as client:
            await client.config_set("cluster-require-full-coverage", "no")
    last.kill()
    with pytest.raises(Unavailable):
        await RedisPublisher(commands).publish(pointers(2))
    living = [stream for stream in STREAMS if stream not in dead]
    assert [await commands.xlen(stream) for stream in living] == [2] * len(living)
    last.start()
    await cluster.until_whole()


async def test_a_command_whose_answer_is_late_is_not_sent_again(cluster: Cluster, commands: Redis) -> None:
    impatient = config.load({"redis": {"url": cluster.url, "command_timeout_s": 0.3}})
    node = await owner_of(cluster, STREAMS[0])
    async with commands_client(impatient) as client:
        await client.ping()
        assert await client.xlen(STREAMS[0]) == 0
        node.send(signal.SIGSTOP)
        try:
            with pytest.raises(Unavailable):
                await RedisPublisher(client).publish([Pointer(stream=STREAMS[0], ref="once")])
        finally:
            node.send(signal.SIGCONT)
    await wait_until(lambda: has_length(commands, 1), "it has arrived", 30)


async def has_length(commands: Redis, length: int) -> bool:
    try:
        return bool(await commands.xlen(STREAMS[0]) == length)
    except RedisError:
        return False
