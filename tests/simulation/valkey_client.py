"""One process's way to the twin of Valkey: the methods of redis-py, with all that befalls a call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from tests.simulation.processes import Lost, Process, Server, Surroundings
from tests.simulation.valkey import Valkey, Waiting, wake


class ValkeyClient:
    """One process's way to the server: `redis.asyncio.Redis`, as far as paynode uses it."""

    def __init__(self, server: Valkey, process: Process, around: Surroundings) -> None:
        self._server = server
        self._process = process
        self._around = around

    async def call(self, command: Callable[[], Any]) -> Any:
        """One round trip. Raises: what the server says; ConnectionError."""
        try:
            await self._process.reach(Server.ROAD)
            answer = command()
            await self._process.hear(Server.ROAD)
        except Lost:
            raise RedisConnectionError("lost") from None
        return answer

    async def xreadgroup(
        self, group: str, consumer: str, streams: Mapping[str, str], count: int, block: int | None
    ) -> Any:
        if set(streams.values()) == {">"} and block is not None:
            return await self._read_blocking([*streams], group, consumer, count, block)
        if set(streams.values()) == {">"}:
            return await self.call(lambda: self._server.read_any(streams, group, consumer, count))
        [(name, after)] = streams.items()
        found = await self.call(lambda: self._server.read_pending(name, group, consumer, after, count))
        return [[name.encode(), found]]  # a look into the pending list names its stream, however empty

    async def _read_blocking(
        self, names: Sequence[str], group: str, consumer: str, count: int, block_ms: int
    ) -> list[list[Any]]:
        try:
            await self._process.reach(Server.ROAD)
            found = self._server.read_any(names, group, consumer, count)
            if not found:
                found = await self._wait(
                    names, Waiting(group, consumer, count, self._around.loop.create_future()), block_ms
                )
            await self._process.hear(Server.ROAD)
        except Lost:
            raise RedisConnectionError("lost") from None
        return found

    async def _wait(self, names: Sequence[str], waiting: Waiting, block_ms: int) -> list[list[Any]]:
        timer = self._around.loop.call_later(block_ms / 1000, wake, waiting.arrived)
        self._server.begin_waiting(names, waiting)
        try:
            await waiting.arrived
        except BaseException:
            # Cancelled or killed: the server may see it only when it has given the next entry to nobody.
            waiting.is_gone = True
            if self._around.roll() < 0.5:
                self._server.end_waiting(waiting)
            raise
        finally:
            timer.cancel()
        self._server.end_waiting(waiting)
        if isinstance(waiting.answer, ResponseError):
            raise waiting.answer
        return [[waiting.answered_on.encode(), waiting.answer]] if waiting.answer else []

    def pipeline(self, transaction: bool) -> ValkeyPipeline:
        assert not transaction
        return ValkeyPipeline(self, self._server)

    async def xadd(self, name: str, fields: Mapping[Any, Any]) -> Any:
        return await self.call(lambda: self._server.xadd(name, fields))

    async def xgroup_create(self, name: str, group: str, id: str, mkstream: bool) -> Any:  # noqa: A002 - as redis-py has it
        return await self.call(lambda: self._server.xgroup_create(name, group, id, mkstream))

    async def xgroup_delconsumer(self, name: str, group: str, consumer: str) -> Any:
        return await self.call(lambda: self._server.xgroup_delconsumer(name, group, consumer))

    async def xpending(self, name: str, group: str) -> Any:
        return await self.call(lambda: self._server.xpending(name, group))

    async def xtrim(self, name: str, *, minid: str, approximate: bool) -> Any:
        return await self.call(lambda: self._server.xtrim(name, minid=minid, approximate=approximate))

    async def xinfo_groups(self, name: str) -> Any:
        return await self.call(lambda: self._server.xinfo_groups(name))

    async def xrange(
        self,
        name: str,
        min: str | bytes = "-",  # noqa: A002 - as redis-py has it
        max: str | bytes = "+",  # noqa: A002
        count: int | None = None,
    ) -> Any:
        return await self.call(lambda: self._server.xrange(name, min, max, count))

    async def eval(self, script: str, keys: int, name: str, *ids: str) -> Any:
        return await self.call(lambda: self._server.eval(script, keys, name, *ids))

    async def xautoclaim(
        self, name: str, group: str, consumer: str, min_idle_time: int, start_id: str = "0-0", count: int = 100
    ) -> Any:
        return await self.call(
            lambda: self._server.xautoclaim(name, group, consumer, min_idle_time, start_id=start_id, count=count)
        )

    async def publish(self, channel: str, message: str) -> Any:
        return await self.call(lambda: self._server.publish(message))

    async def set(self, key: str, value: object) -> Any:
        return await self.call(lambda: True)


class ValkeyPipeline:
    """Commands that are sent in one go, and not as one transaction."""

    def __init__(self, client: ValkeyClient, server: Valkey) -> None:
        self._client = client
        self._server = server
        self._commands: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    async def __aenter__(self) -> ValkeyPipeline:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._commands.clear()

    def __getattr__(self, name: str) -> Callable[..., None]:
        command = getattr(self._server, name)

        def add(*args: Any, **options: Any) -> None:
            self._commands.append((command, args, options))

        return add

    async def execute(self) -> Sequence[Any]:
        commands = self._commands
        answers: Sequence[Any] = await self._client.call(
            lambda: [command(*args, **options) for command, args, options in commands]
        )
        return answers
