"""Redis's errors on the error tree, and a Redis that would forget."""

from __future__ import annotations

from typing import Any

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser
from redis.exceptions import ResponseError

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.streams.client import EvictionRefused, GroupMissing, Redis, commands_client, refuse_eviction, translated


@pytest.mark.parametrize(
    "error",
    [
        exceptions.ConnectionError("closed"),
        exceptions.TimeoutError("slow"),
        exceptions.BusyLoadingError("LOADING"),
        exceptions.ReadOnlyError("READONLY You can't write against a read only replica."),
        ResponseError("OOM command not allowed when used memory > 'maxmemory'."),
        ResponseError("MISCONF Redis is configured to save RDB snapshots"),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_what_passes_is_unavailable(error: Exception) -> None:
    with pytest.raises(Unavailable) as seen, translated():
        raise error
    assert not isinstance(seen.value, GroupMissing)
    assert seen.value.__cause__ is error


@pytest.mark.parametrize(
    "words",
    ["NOGROUP No such key 'x' or consumer group 'y'", "UNBLOCKED the stream key no longer exists"],
)
def test_a_group_that_is_gone_is_to_be_made_again(words: str) -> None:
    with pytest.raises(GroupMissing), translated():
        raise ResponseError(words)


@pytest.mark.parametrize(
    "word", ["MOVED 1 127.0.0.1:1", "ASK 1 127.0.0.1:1", "TRYAGAIN x", "CLUSTERDOWN x", "NOREPLICAS x"]
)
def test_a_cluster_that_is_being_changed_is_unavailable(word: str) -> None:
    # As the client makes an error of what a server says: of the kinds that it knows, it takes the first word away.
    parser: Any = BaseParser
    with pytest.raises(Unavailable), translated():
        raise parser.parse_error(word)


# In a pipeline the client puts the words of the command before those of the error.
CONFUSING = {"of pipeline caused error: ('": "NOGROUP"}


async def add(commands: Redis, count: int) -> None:
    fields: Any = CONFUSING
    with translated():
        if count == 0:
            await commands.xadd("stream", fields)
        async with commands.pipeline(transaction=False) as pipeline:
            for _ in range(count):
                pipeline.xadd("stream", fields)
            await pipeline.execute()


@pytest.mark.parametrize("count", [0, 1, 2])
async def test_a_full_server_is_unavailable_to_one_command_and_to_many(commands: Redis, count: int) -> None:
    await commands.config_set("maxmemory", "1")
    try:
        with pytest.raises(Unavailable, match="OOM") as seen:
            await add(commands, count)
        assert not isinstance(seen.value, GroupMissing)
    finally:
        await commands.config_set("maxmemory", "0")


async def test_a_group_that_is_gone_is_seen_in_a_pipeline_too(commands: Redis) -> None:
    await add(commands, 1)
    pipeline: Any = commands.pipeline(transaction=False)
    pipeline.xreadgroup("group", "consumer", {"stream": ">"})
    with pytest.raises(GroupMissing), translated():
        await pipeline.execute()


def test_a_wrong_command_is_a_mistake_of_ours_and_passes_as_it_is() -> None:
    with pytest.raises(Unavailable), translated():
        raise ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")


async def test_a_redis_that_evicts_is_refused(commands: Redis) -> None:
    await refuse_eviction(commands)
    await commands.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(EvictionRefused, match="allkeys-lru"):
            await refuse_eviction(commands)
    finally:
        await commands.config_set("maxmemory-policy", "noeviction")


async def test_a_redis_that_is_not_there_is_unavailable(settings: Settings) -> None:
    redis = settings.redis.model_copy(update={"url": "redis://127.0.0.1:1/0"})
    async with commands_client(settings.model_copy(update={"redis": redis})) as client:
        with pytest.raises(Unavailable):
            await refuse_eviction(client)
