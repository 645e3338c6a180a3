"""Redis's errors on the error tree, and a Redis that would forget."""

from __future__ import annotations

import pytest
from redis import exceptions
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


def test_a_wrong_command_is_a_mistake_of_ours_and_passes_as_it_is() -> None:
    with pytest.raises(ResponseError), translated():
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
