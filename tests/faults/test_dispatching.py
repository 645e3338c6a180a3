"""A PSP's commands in one process: what one of them brings to a bad end is no other's business."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from paynode.config import Settings
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.faults.gateways import COMMANDS, Psp, gateway, issue
from tests.support.waiting import wait_until


@pytest.fixture
async def psp(settings: Settings, redis_url: str) -> AsyncIterator[Psp]:
    """A gateway at work, and the PSP that it calls."""
    psp = Psp()
    async with gateway(settings, redis_url, psp):
        yield psp


async def test_an_answer_that_cannot_be_stored_spoils_no_other_that_ends_with_it(
    owner: Session, road: Redis, psp: Psp
) -> None:
    refs = [await issue(owner, token) for token in ("good", "bad", "good", "good", "bad", "good")]
    async with road.pipeline() as pipeline:  # all in one reading
        for ref in refs:
            pipeline.xadd(COMMANDS, {"ref": ref})
        await pipeline.execute()

    async def is_over() -> bool:
        return bool(await owner.fetchval("SELECT count(*) = 4 FROM psp_attempts WHERE outcome = 'declined'"))

    await wait_until(is_over, "the good ones have ended")
    left = await owner.fetch("SELECT id::text AS id FROM outbox WHERE type = 'psp.submit'")
    assert {row["id"] for row in left} == {refs[1], refs[4]}, "as if their answers had been lost"
    assert await owner.fetchval("SELECT count(*) FROM psp_attempts WHERE outcome IS NULL") == 2


async def test_a_command_of_another_psp_is_not_performed_at_this_one(owner: Session, road: Redis, psp: Psp) -> None:
    foreign, own = await issue(owner, "good", psp="other"), await issue(owner, "good")
    for ref in (foreign, own):
        await road.xadd(COMMANDS, {"ref": ref})

    async def is_read() -> bool:
        return bool(await road.xlen(COMMANDS) == 0)

    await wait_until(is_read, "the stream is empty")
    assert len(psp.sent) == 1
    assert await owner.fetchval("SELECT count(*) FROM outbox WHERE id = $1", foreign) == 1
