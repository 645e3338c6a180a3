"""A merchant's ledger by time: exact, though times are turned into numbers first and clocks disagree a little."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from itertools import product

import pytest

from paynode.config import Settings
from paynode.domain.reading import LedgerPage
from paynode.storage.postgres import BY_INDEX, Role, Session, pool
from paynode.storage.reading import PgReading
from tests.storage import rows
from tests.storage.rows import INSTANT

# Seconds after an instant, by number: the owner of the third to the fifth had a clock that was half a minute behind.
TIMES = (0, 10, -20, -15, -10, 20, 30, 3600, 3601)


@pytest.fixture
async def merchant_id(owner: Session) -> str:
    merchant_id = rows.new_id()
    for seq, after_s in enumerate(TIMES, start=1):
        entry = rows.ledger_entry(merchant_id=merchant_id, seq=seq, at=INSTANT + timedelta(seconds=after_s))
        await rows.insert(owner, "ledger_entries", entry)
        await rows.insert(owner, "ledger_entries", rows.ledger_entry(seq=seq))  # another merchant's
    return merchant_id


@pytest.fixture
async def reading(settings: Settings) -> AsyncIterator[PgReading]:
    async with pool(settings, Role.READER, application_name="test", planner=BY_INDEX) as connections:
        yield PgReading(connections)


SINCE = (None, -3600, -20, -15, 0, 10, 20, 25, 3600, 3601, 9999)
UNTIL = (None, -3600, -20, -14, 0, 11, 20, 31, 3600, 3601, 9999)


async def test_between_two_instants_all_is_found_and_nothing_else(reading: PgReading, merchant_id: str) -> None:
    for since_s, until_s in product(SINCE, UNTIL):
        page = LedgerPage(merchant_id=merchant_id, since=_instant(since_s), until=_instant(until_s), limit=20)
        assert [line.seq for line in await reading.ledger(page)] == [
            seq
            for seq, after_s in reversed(list(enumerate(TIMES, start=1)))
            if (since_s is None or after_s >= since_s) and (until_s is None or after_s < until_s)
        ], page


def _instant(after_s: int | None) -> datetime | None:
    return None if after_s is None else INSTANT + timedelta(seconds=after_s)
