"""The checker is checked: flaws that are put in on purpose are seen, and by the laws that are there to see them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis.asyncio as redis

from paynode import config
from paynode.embedded.servers import Running
from tests.scenarios.trials import CONTROL, TRIALS, Trial, broken_by
from tests.support import database as databases

SEED = 20_260_301
# At once: most of a trial is waiting. Each has a Redis database of its own; there are sixteen.
_AT_ONCE = 3

Verdicts = Mapping[Trial, Sequence[str] | Exception]


@pytest.fixture(scope="module")
async def verdicts(
    request: pytest.FixtureRequest,
    servers: Running,
    template: str,
    home: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Verdicts:
    """All trials that are asked for, some at a time."""
    found: dict[Trial, Sequence[str] | Exception] = {}
    numbers, limiter = count(2), anyio.CapacityLimiter(_AT_ONCE)

    async def hold(trial: Trial) -> None:
        async with limiter:
            number = next(numbers)
            redis_url = servers.redis_url.rpartition("/")[0] + f"/{2 + number % 14}"
            async with redis.Redis.from_url(redis_url, protocol=2) as client:
                await client.flushdb()
            url = await databases.clone(servers.database_url, template)
            directory = tmp_path_factory.mktemp("trial")
            settings = databases.pointed_at(config.load(), url, directory)
            shutil.copy(home / "roles.json", directory)  # the passwords; the logs are to be each trial's own
            try:
                found[trial] = await broken_by(trial, settings, redis_url, directory, SEED)
            except Exception as error:  # noqa: BLE001 - shown by the trial's own test, and stops no other
                found[trial] = error
            await databases.drop(url)

    async with anyio.create_task_group() as group:
        for item in request.session.items:
            if isinstance(item, pytest.Function) and item.path == request.path:
                trial: Any = item.callspec.params["trial"]
                group.start_soon(hold, trial)
    return found


# With the long ones: what is seen by others of these as well, what has a test of its own, what is seen nearly always.
_LONG = frozenset(
    {
        "dedupe by entry",
        "group at the end",
        "sweep of what was not published",
        "key in the log",
        "answer before commit",
        "stored error",
        "descriptors leak",
    }
)


@pytest.mark.parametrize(
    "trial",
    [pytest.param(one, id=one.bug, marks=[pytest.mark.long] if one.bug in _LONG else []) for one in TRIALS],
)
async def test_a_flaw_is_seen(verdicts: Verdicts, trial: Trial) -> None:
    seen = told(verdicts[trial])
    laws = {violation.partition(":")[0] for violation in seen}
    assert laws & trial.laws, f"{trial.bug} was not seen; what was seen: {seen}"


@pytest.mark.parametrize("trial", [CONTROL], ids=["control"])
async def test_without_a_flaw_nothing_is_seen(verdicts: Verdicts, trial: Trial) -> None:
    assert not told(verdicts[trial])


def told(verdict: Sequence[str] | Exception) -> Sequence[str]:
    if isinstance(verdict, Exception):
        raise verdict
    return verdict
