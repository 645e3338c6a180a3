"""What is said of a worker's memory is of merchants that it has really heard of."""

from __future__ import annotations

from typing import Any

import pytest

from paynode.bench import memory
from paynode.config import Settings
from paynode.storage.postgres import Role, session


class Silent:
    """Nobody looks."""

    def doing(self, what: str) -> None: ...
    def done(self, count: int, of: int) -> None: ...


async def test_each_merchant_has_its_event_and_the_workers_memory_is_read_on_the_way(
    settings: Settings, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_PAGE": 100, "_WARM": 2, "_STEP": 200, "_SETTLE_S": 0.1}.items():
        monkeypatch.setattr(memory, name, value)
    where = settings.model_copy(update={"redis": settings.redis.model_copy(update={"url": redis_url})})
    report: Any = await memory.run(where, memory.Plan(merchants=450), Silent())
    assert [one["merchants"] for one in report["footprints"]] == [0, 200, 400, 450]
    assert all(10 < one["mb"] < 1000 for one in report["footprints"]), "of a process that has Python in it"
    assert report["bytes_per_idle_merchant"] == pytest.approx(
        (report["footprints"][-1]["mb"] - report["idle_mb"]) * 1024 * 1024 / 450, abs=0.1 * 1024 * 1024 / 450
    )
    async with session(where, Role.READER, application_name="test") as reader:
        heard = await reader.fetch("SELECT seq, count(*) AS merchants FROM ledger_heads GROUP BY seq ORDER BY seq")
    assert [tuple(row) for row in heard] == [(1, 450), (2, 100)], "and those of the warm-up twice"
