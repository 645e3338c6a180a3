"""A client of Redis Cluster that never sends a command twice on its own.

The library's own cluster client was not taken: it sends ASKING on another connection than the command that it is for
(one of the two is then refused), fails instead of waiting when a pool is used up, and makes every connection anew
when one node fails. This one is small, because every command of ours names one key: it looks up whose slot that is,
and leaves the rest to an ordinary client for that node. A redirected command was not carried out, so that it may
follow; after anything else whoever asked decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import redis.asyncio as redis
from redis.asyncio.client import Pipeline
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import TimeoutError as TimedOut

from paynode.streams.places import Address
from paynode.streams.slots import SlotMap, key_of

# How often a command follows before it gives up: a slot moves once, and twice if we come in the middle of it.
_HOPS_MAX: Final = 5
_LOST: Final = (ClusterDownError, NotConnected, TimedOut, OSError)

Command = tuple[tuple[Any, ...], dict[str, Any]]


class ClusterClient(redis.Redis):
    """An ordinary client to whoever uses it; what it sends goes to the node that owns the key."""

    def __init__(
        self, slots: SlotMap, anywhere: redis.ConnectionPool, new_node: Callable[[Address], redis.Redis]
    ) -> None:
        super().__init__(connection_pool=anywhere)
        self._slots = slots
        self._new_node = new_node
        self._nodes: dict[Address, redis.Redis] = {}

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the connections to all nodes."""
        for node in [*self._nodes.values()]:
            await node.aclose()
        self._nodes.clear()
        await super().aclose(True)

    async def primaries(self) -> list[redis.Redis]:
        """A client for each node that owns slots."""
        return [self._node(address) for address in await self._slots.owners()]

    def _node(self, address: Address) -> redis.Redis:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = self._new_node(address)
        return node

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command to where it belongs."""
        key = key_of(args)
        if key is None:
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
        return await self.follow(await self._slots.owner(key), (args, options), is_asking=False)

    async def follow(self, address: Address, command: Command, *, is_asking: bool) -> Any:
        """Send a command to a node and from there to wherever it is sent on to."""
        for _ in range(_HOPS_MAX):
            try:
                return await _send(self._node(address), command, is_asking=is_asking)
            except AskError as error:  # a MovedError is one too
                address, is_asking = self.told(error, address), not isinstance(error, MovedError)
            except _LOST:
                self._slots.forget()
                raise
        raise NotConnected(f"sent on {_HOPS_MAX} times")

    def told(self, error: AskError, source: Address) -> Address:
        """Where a redirection leads; that of a slot that has moved is noted, that of one on its way (ASK) is not."""
        address = Address(error.host or source.host, int(error.port))
        if isinstance(error, MovedError):
            self._slots.move(error.slot_id, address)
        return address

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ClusterPipeline:
        """Several commands at once; as a transaction only where one node has all their keys."""
        return ClusterPipeline(self, transaction=transaction)

    async def execute_many(self, commands: Sequence[Command], *, transaction: bool) -> list[Any]:
        """Send each node its share in one go, all nodes at once; results and errors in the commands' order."""
        shares: dict[Address, list[int]] = defaultdict(list)
        for number, (args, _) in enumerate(commands):
            key = key_of(args)
            shares[await (self._slots.find() if key is None else self._slots.owner(key))].append(number)
        if transaction and len(shares) > 1:
            raise ValueError("a transaction over keys of several nodes")
        results: list[Any] = [None] * len(commands)

        async def send(address: Address, numbers: Sequence[int]) -> None:
            share = [commands[number] for number in numbers]
            for number, result in zip(numbers, await self._share(address, share, transaction), strict=True):
                results[number] = result

        async with anyio.create_task_group() as group:
            for address, numbers in shares.items():
                group.start_soon(send, address, numbers)
        return results

    async def _share(self, address: Address, commands: Sequence[Command], transaction: bool) -> list[Any]:
        """What one node answers. Its failure is the result of each of its commands: the other nodes do theirs."""
        try:
            results = await _send_many(self._node(address), commands, transaction=transaction)
        except _LOST as error:
            self._slots.forget()
            return [error] * len(commands)
        except RedisError as error:
            return [error] * len(commands)
        for number, result in enumerate(results):
            if isinstance(result, AskError) and not transaction:
                results[number] = await self._follow_up(address, commands[number], result)
            elif isinstance(result, _LOST):
                self._slots.forget()
        return results

    async def _follow_up(self, source: Address, command: Command, error: AskError) -> Any:
        is_asking = not isinstance(error, MovedError)
        try:
            return await self.follow(self.told(error, source), command, is_asking=is_asking)
        except (RedisError, OSError) as failure:
            return failure


class ClusterPipeline(Pipeline):
    """Collects commands; sends each node its share."""

    def __init__(self, client: ClusterClient, *, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what was collected. Raises the first error, when all that could be done has been."""
        commands: list[Any] = [*self.command_stack]
        await self.reset()  # type: ignore[no-untyped-call]
        if not commands:
            return []
        results = await self._client.execute_many(commands, transaction=self.is_transaction)
        error = next((result for result in results if isinstance(result, Exception)), None)
        if error is not None and raise_on_error:
            raise error
        return results


async def _send(node: redis.Redis, command: Command, *, is_asking: bool) -> Any:
    args, options = command
    if not is_asking:
        return await node.execute_command(*args, **options)  # type: ignore[no-untyped-call]
    # On one connection: the permission holds for the next command on it and for no other.
    _, result = await _send_many(node, [(("ASKING",), {}), command], transaction=False)
    if isinstance(result, Exception):
        raise result
    return result


async def _send_many(node: redis.Redis, commands: Sequence[Command], *, transaction: bool) -> list[Any]:
    async with node.pipeline(transaction=transaction) as pipeline:
        for args, options in commands:
            pipeline.execute_command(*args, **options)
        return list(await pipeline.execute(raise_on_error=False))
