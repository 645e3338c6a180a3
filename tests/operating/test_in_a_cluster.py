"""The undertaker and the counts over a real cluster, whose nodes share the streams."""

from __future__ import annotations

from paynode import config
from paynode.actors.undertaker import Undertaker
from paynode.config import Settings
from paynode.domain.census import OnRoad, groups_of
from paynode.domain.road import dead_stream, events_stream
from paynode.storage.postgres import Role, Session, pool
from paynode.streams.client import commands_client
from paynode.streams.graves import RedisGraves
from paynode.streams.standing import RedisStanding
from tests.operating.letters import die, message
from tests.operating.test_undertaker import Told, made
from tests.support.redis_servers import redis_cluster


async def test_letters_are_shown_and_counted_on_every_node(settings: Settings, owner: Session) -> None:
    streams = [events_stream(partition) for partition in range(8)]
    letters = {stream: await die(owner, message(), stream=stream) for stream in streams}
    async with (
        redis_cluster() as cluster,
        commands_client(config.load({"redis": {"url": cluster.url}})) as commands,
        pool(settings, Role.GATEWAY, application_name="test", size=1) as gateway,
    ):
        undertaker: Undertaker = made(gateway, RedisGraves(commands), Told())
        for _ in range(3):
            await undertaker.run_once()
        graves = RedisGraves(commands)
        for stream, letter in letters.items():
            assert [grave.letter for grave in await graves.graves(dead_stream(stream))] == [letter]

        await commands.xgroup_create(streams[0], "merchants", id="0", mkstream=True)
        for number in range(3):
            await commands.xadd(streams[0], {"ref": str(number)})
        await commands.xreadgroup("merchants", "owner", {streams[0]: ">"}, count=2)
        found = await RedisStanding(commands).look(groups_of(8, ["sim"]))
        assert found[streams[0]] == OnRoad(entries=3, pending=2)
        assert {found[stream] for stream in streams[1:]} == {OnRoad()}
