"""A PSP's commands in one process: what one of them brings to a bad end is no other's business."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import pytest

from paynode.config import Settings
from paynode.domain.attempts import Turn
from paynode.domain.payment import OperationKind
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


async def test_what_is_told_to_wait_leaves_the_stream_and_comes_again_in_its_time(
    owner: Session, road: Redis, psp: Psp
) -> None:
    """No evidence, no attempt, no delivery that is counted: the command is as if it had been made for later."""
    psp.turns = [Turn(pause_s=3600.0)]
    ref = await issue(owner, "good")
    await road.xadd(COMMANDS, {"ref": ref})

    async def is_postponed() -> bool:
        row = await owner.fetchrow(
            "SELECT published_at IS NULL AND available_at > now() + interval '59 minutes' AS is_later FROM outbox"
        )
        assert row is not None
        return bool(row["is_later"]) and await road.xlen(COMMANDS) == 0

    await wait_until(is_postponed, "it is due in an hour, and nobody has it in hand")
    assert psp.sent == []
    assert await owner.fetchval("SELECT count(*) FROM psp_attempts") == 0
    await road.xadd(COMMANDS, {"ref": ref})  # as the relay does when the hour is over
    await wait_until(lambda: is_concluded(owner), "it was sent")
    assert psp.retries == [False, False], "it was never tried"


async def is_concluded(owner: Session) -> bool:
    return bool(await owner.fetchval("SELECT count(*) = 0 FROM outbox WHERE type LIKE 'psp.submit'"))


async def test_a_second_try_at_the_same_psp_is_known_as_one(owner: Session, road: Redis, psp: Psp) -> None:
    """What was tried elsewhere is new here: the payments of a PSP that is down are first tries of the next one."""
    elsewhere, again = await issue(owner, "elsewhere"), await issue(owner, "again")
    await owner.execute(NOT_SENT, "other", elsewhere)
    await owner.execute(NOT_SENT, "sim", again)
    for ref in (elsewhere, again):
        await road.xadd(COMMANDS, {"ref": ref})
        await wait_until(partial(is_gone, owner, ref), "it was sent")
    assert psp.retries == [False, True]


NOT_SENT = """
INSERT INTO psp_attempts
    (id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at, outcome, concluded_at)
SELECT gen_random_uuid(), operation_id, payment_id, $1, '/', '', 'test', now() - interval '2 s',
    now() - interval '1 s', 'not_sent', now()
FROM outbox WHERE id = $2
"""


async def is_gone(owner: Session, ref: str) -> bool:
    return bool(await owner.fetchval("SELECT count(*) = 0 FROM outbox WHERE id = $1", ref))


async def test_what_an_older_version_has_put_on_the_lane_of_new_charges_is_performed_there(
    owner: Session, road: Redis, psp: Psp
) -> None:
    refund = await issue(owner, "good", operation=OperationKind.REFUND)
    inquiry = await issue(owner, "good", kind="psp.inquire")
    for ref in (refund, inquiry):
        await road.xadd(COMMANDS, {"ref": ref})
        await wait_until(partial(is_gone, owner, ref), "it was performed")
    assert len(psp.sent) == 1
