"""Dead-letter streams and table agree, whatever happened to the streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from paynode.actors.undertaker import Difference, Undertaker, UndertakerRules, difference
from paynode.config import Settings
from paynode.domain.dead_letters import Grave, Resolution, Resolving
from paynode.domain.errors import Unavailable
from paynode.domain.road import dead_stream, events_stream
from paynode.storage.dead_letters import PgGraves, PgResolving
from paynode.storage.leases import PgSingleton
from paynode.storage.postgres import Pool, Role, Session, pool
from paynode.streams.client import Redis
from paynode.streams.graves import RedisGraves
from tests.operating.letters import DEAD, EVENTS, die, message, outbox, park
from tests.storage.rows import new_id

PAGE = 4
RULES = UndertakerRules(interval_s=0.05, suspect_kept_s=3600, page_size=PAGE)
COMMANDS = "paynode:{psp-sim}:commands"


class Told:
    """What the observer heard."""

    def __init__(self) -> None:
        self.mended: list[tuple[int, int]] = []
        self.stranded = 0

    def reburied(self, shown: int, removed: int) -> None:
        self.mended.append((shown, removed))

    def stranded_released(self, rows: int) -> None:
        self.stranded += rows

    def burial_failed(self, error: Exception) -> None:
        raise error


@pytest.fixture
async def gateway(settings: Settings) -> AsyncIterator[Pool]:
    async with pool(settings, Role.GATEWAY, application_name="test", size=2) as connections:
        yield connections


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def undertaker(gateway: Pool, road: Redis, told: Told) -> Undertaker:
    return made(gateway, RedisGraves(road), told)


def made(gateway: Pool, graves: RedisGraves, told: Told, owner: str = "one") -> Undertaker:
    singleton = PgSingleton(gateway, name="undertaker", owner=owner, lease_s=5)
    streams = [events_stream(partition) for partition in range(32)]
    return Undertaker(PgGraves(gateway), graves, singleton, told, RULES, streams=streams)


async def shown(road: Redis, stream: str = DEAD) -> list[dict[str, str]]:
    entries: Any = await road.xrange(stream)
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]


async def letters(road: Redis, stream: str = DEAD) -> list[str]:
    return [fields["letter"] for fields in await shown(road, stream)]


async def rounds(undertaker: Undertaker, count: int = 2) -> None:
    """What is missing is shown in the second round that misses it."""
    for _ in range(count):
        await undertaker.run_once()


async def test_a_letter_is_shown_with_what_came_and_what_is_known_of_it(
    owner: Session, road: Redis, undertaker: Undertaker
) -> None:
    failed_at = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    fields = {"event": "{}", "sig": "nobody.x", "reason": "I am innocent", "letter": new_id()}
    letter = await die(
        owner,
        None,
        entry_id="1-1",
        fields=orjson.dumps(fields).decode(),
        reason="publisher_unknown",
        error="no publisher nobody",
        attempts=2,
        first_failed_at=failed_at,
    )
    await rounds(undertaker)
    assert await shown(road) == [
        {
            "event": "{}",
            "sig": "nobody.x",
            "letter": letter,
            "reason": "publisher_unknown",
            "error": "no publisher nobody",
            "attempts": "2",
            "first_failed_at": "2026-03-01T12:00:00.250Z",
            "stream": EVENTS,
            "entry_id": "1-1",
        }
    ]


async def test_after_everything_was_forgotten_all_open_letters_are_shown_again_in_the_order_of_their_deaths(
    owner: Session, road: Redis, undertaker: Undertaker, told: Told
) -> None:
    made_here = [await die(owner, message()) for _ in range(2 * PAGE + 1)]
    command = await die(owner, None, stream=COMMANDS)
    await rounds(undertaker)
    assert await letters(road) == made_here
    assert await letters(road, dead_stream(COMMANDS)) == [command], "of a stream that it was not told of"
    await rounds(undertaker, 3)
    assert sum(shown for shown, _ in told.mended) == len(made_here) + 1, "and each once"

    await road.flushdb()
    await rounds(undertaker)
    assert await letters(road) == made_here
    assert await letters(road, dead_stream(COMMANDS)) == [command]


async def test_whoever_committed_a_letter_has_the_time_to_show_it_himself(
    owner: Session, gateway: Pool, road: Redis, undertaker: Undertaker
) -> None:
    letter = await die(owner, message())
    await undertaker.run_once()
    await RedisGraves(road).bury(await PgGraves(gateway).letters([letter]))
    await rounds(undertaker)
    assert await letters(road) == [letter]


async def test_duplicates_and_what_is_no_letter_leave_the_stream(
    owner: Session, gateway: Pool, road: Redis, undertaker: Undertaker
) -> None:
    made_here = [await die(owner, message()) for _ in range(3)]
    found = await PgGraves(gateway).letters(made_here)
    for _ in range(3):
        await RedisGraves(road).bury(found)
    for forged in ({"junk": "1"}, {"letter": "'; DROP TABLE dead_letters"}, {"letter": new_id()}, {"letter": b"\xff"}):
        fields: Any = forged
        await road.xadd(DEAD, fields)
    await undertaker.run_once()
    assert await letters(road) == made_here


@pytest.mark.parametrize("verb", Resolving)
async def test_what_was_resolved_is_not_shown_any_more(
    owner: Session, gateway: Pool, road: Redis, undertaker: Undertaker, verb: Resolving
) -> None:
    made_here = [await die(owner, message()) for _ in range(3)]
    await rounds(undertaker)
    desk = PgResolving(gateway)
    assert await desk.resolve(verb, made_here[1], actor="ada", note="x") is Resolution.DONE
    await undertaker.run_once()
    assert await letters(road) == [made_here[0], made_here[2]]
    for letter in (made_here[0], made_here[2]):
        await desk.resolve(verb, letter, actor="ada", note="x")
    await undertaker.run_once()
    assert await letters(road) == []


async def test_a_letter_that_was_committed_and_shown_since_the_table_was_read_stays(
    owner: Session, gateway: Pool, road: Redis, told: Told
) -> None:
    class Busy(RedisGraves):
        """A stream on which somebody shows a new letter just before it is read."""

        async def graves(self, stream: str) -> Sequence[Grave]:
            if stream == DEAD and not late:
                late.append(await die(owner, message()))
                await self.bury(await PgGraves(gateway).letters(late))
            return await super().graves(stream)

    late: list[str] = []
    early = await die(owner, message())
    await RedisGraves(road).bury(await PgGraves(gateway).letters([early]))
    await rounds(made(gateway, Busy(road), told), 3)
    assert await letters(road) == [early, *late]
    assert told.mended == []


async def test_a_round_with_nothing_to_mend_reads_no_stream(
    owner: Session, gateway: Pool, road: Redis, told: Told
) -> None:
    class Counted(RedisGraves):
        """Remembers what was read."""

        async def graves(self, stream: str) -> Sequence[Grave]:
            read.append(stream)
            return await super().graves(stream)

    read: list[str] = []
    undertaker = made(gateway, Counted(road), told)
    await rounds(undertaker)
    assert read == []
    await die(owner, message())
    await rounds(undertaker, 4)
    assert read == [DEAD] * 3, "missed, shown, seen to agree"


async def test_while_redis_is_away_what_needs_the_database_alone_is_done(
    owner: Session, gateway: Pool, told: Told
) -> None:
    stranded = [await park(owner, message()) for _ in range(2)]
    row = message()
    await die(owner, row)
    waiting = await park(owner, message(payment_id=row["payment_id"]))
    for entry, age in (("old", timedelta(hours=2)), ("young", timedelta(minutes=1))):
        await owner.execute(
            "INSERT INTO suspects (stream, entry, attempts, last_tried_at) VALUES ($1, $2, 1, now() - $3::interval)",
            EVENTS,
            entry,
            age,
        )
    with pytest.raises(Unavailable):
        await made(gateway, RedisGraves(Redis.from_url("redis://127.0.0.1:1")), told).run_once()
    assert sorted(await outbox(owner)) == sorted(stranded)
    assert told.stranded == 2
    assert [one["id"] for one in await owner.fetch("SELECT id::text FROM parked")] == [waiting]
    assert [one["entry"] for one in await owner.fetch("SELECT entry FROM suspects")] == ["young"]


async def test_of_two_undertakers_one_acts(owner: Session, gateway: Pool, road: Redis) -> None:
    singletons = [PgSingleton(gateway, name="undertaker", owner=name, lease_s=5) for name in ("one", "two")]
    assert [await one.hold() for one in singletons] == [True, False]
    await singletons[0].drop()
    assert await singletons[1].hold()


@pytest.mark.parametrize(
    ("graves", "letters", "expected"),
    [
        ("", "", ("", "", "")),
        ("", "ab", ("ab", "", "")),
        ("ab", "ab", ("", "", "")),
        ("ba", "ab", ("", "", "")),
        ("aab", "ab", ("", "1", "")),
        ("a-b", "ab", ("", "1", "")),
        ("ac", "ab", ("b", "", "c1")),
        ("cc", "", ("", "1", "c0")),
    ],
)
def test_the_difference_between_a_stream_and_the_table(
    graves: str, letters: str, expected: tuple[str, str, str]
) -> None:
    """`graves` are entries numbered from 0, each with its letter (- for none); expected are the missing letters, the
    superfluous entries, and the unknown letters with their entries."""
    entries = [Grave(entry_id=str(number), letter=None if one == "-" else one) for number, one in enumerate(graves)]
    missing, superfluous, unknown = expected
    assert difference(entries, set(letters)) == Difference(
        missing=frozenset(missing),
        superfluous=tuple(superfluous),
        unknown={unknown[0]: unknown[1]} if unknown else {},
    )
