"""Commands that cannot be read, and those over which gateways die: kept aside, and a question of money stays open."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from paynode.config import Settings
from paynode.storage.postgres import Session
from paynode.streams.client import Redis
from tests.faults.gateways import COMMANDS, Psp, gateway, issue
from tests.faults.running import start
from tests.storage import rows
from tests.support.deadly_gateway import DEADLY
from tests.support.installation import Installation, Process, token
from tests.support.waiting import wait_until

DEAD = "paynode:{psp-sim}:dead"
MEND = "UPDATE dead_letters SET message = jsonb_set(message, '{body}', $2::jsonb) WHERE id = $1"


async def test_a_command_that_cannot_be_read_is_a_dead_letter_and_works_once_when_it_is_mended_and_requeued(
    owner: Session, settings: Settings, redis_url: str, road: Redis
) -> None:
    good, bad = await issue(owner, "good"), await issue(owner, "good")
    body = await owner.fetchval("SELECT body FROM outbox WHERE id = $1", bad)
    await owner.execute("UPDATE outbox SET body = body - 'amount' WHERE id = $1", bad)
    psp = Psp()
    async with gateway(settings, redis_url, psp):
        for ref in (bad, good, bad):
            await road.xadd(COMMANDS, {"ref": ref})
        await wait_until(lambda: is_over(owner, good), "the good one has ended")
        await wait_until(lambda: are_dead(owner, 1), "the other is a dead letter")
        await wait_until(lambda: are_shown(road, 1), "and shown")
        letter = await owner.fetchrow("SELECT * FROM dead_letters")
        assert letter is not None
        assert str(letter["row_id"]) == str(letter["event_id"]) == bad
        assert (letter["stream"], letter["reason"], letter["type"]) == (COMMANDS, "body_invalid", "psp.submit")
        assert letter["merchant_id"] is not None
        assert await is_over(owner, bad), "the row itself is gone"

        await owner.execute(MEND, letter["id"], body)
        done = await owner.fetchval("SELECT requeue_dead_letter($1, 'ada', 'mended')", letter["id"])
        assert done == "done"
        for _ in range(2):  # what the relay does with a row that is requeued, and once more for good measure
            await road.xadd(COMMANDS, {"ref": bad})
        await wait_until(lambda: is_over(owner, bad), "it has ended")
    assert len(psp.sent) == 2
    assert await owner.fetchval("SELECT count(*) FROM psp_attempts WHERE outcome = 'declined'") == 2
    assert await are_dead(owner, 0)


async def test_a_pointer_that_stands_where_it_does_not_belong_buries_nobodys_evidence(
    owner: Session, settings: Settings, redis_url: str, road: Redis
) -> None:
    evidence = rows.message(stream="paynode:{p07}:events", type="psp.evidence")
    await rows.insert(owner, "outbox", evidence)
    async with gateway(settings, redis_url, Psp()):
        await road.xadd(COMMANDS, {"ref": str(evidence["id"])})
        await wait_until(lambda: is_read(road), "it was read")
    assert not await is_over(owner, str(evidence["id"]))
    assert await are_dead(owner, 0)


@pytest.mark.parametrize("tries", [0, 2, 3])
async def test_a_command_that_was_delivered_often_is_tried_until_too_many_have_died_over_it(
    owner: Session, settings: Settings, redis_url: str, road: Redis, tries: int
) -> None:
    suspect, innocent = await issue(owner, "good"), await issue(owner, "good")
    await deliver_to_the_dead(road, [suspect, innocent], times=3)
    if tries:
        await owner.execute("INSERT INTO suspects VALUES ($1, $2, $3)", COMMANDS, suspect, tries)
    psp = Psp()
    async with gateway(settings, redis_url, psp, reclaim_idle_ms=50):
        await wait_until(lambda: is_over(owner, innocent), "the innocent one has ended, often as it was delivered")
        await wait_until(lambda: is_over(owner, suspect), "and the other one is not on the road any more")
        await wait_until(lambda: is_read(road), "as its entry is not")
    assert await are_dead(owner, 1 if tries == 3 else 0)
    assert len(psp.sent) == (1 if tries == 3 else 2), "what is condemned is condemned untried"
    assert await owner.fetchval("SELECT count(*) FROM suspects WHERE entry = $1", innocent) == 0
    if tries == 3:
        letter = await owner.fetchrow("SELECT attempts, reason FROM dead_letters")
        assert letter is not None
        assert tuple(letter) == (3, "kills_its_gateway")
        await wait_until(lambda: are_shown(road, 1), "and it is shown")


@pytest.mark.parametrize("outcome", [None, "unknown"])
async def test_a_command_that_may_have_been_sent_is_not_buried_but_in_doubt(
    owner: Session, settings: Settings, redis_url: str, road: Redis, outcome: str | None
) -> None:
    kind = "psp.submit" if outcome is None else "psp.inquire"
    command = await issue(owner, "good", kind=kind)
    await owner.execute(
        """INSERT INTO psp_attempts
        (id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at, outcome, concluded_at)
        SELECT gen_random_uuid(), operation_id, payment_id, 'sim', '/', '', 'dead', now() - interval '2 s',
            now() - interval '1 s', $2::text, CASE WHEN $2::text IS NOT NULL THEN now() END
        FROM outbox WHERE id = $1""",
        command,
        outcome,
    )
    await owner.execute("INSERT INTO suspects VALUES ($1, $2, 3)", COMMANDS, command)
    await deliver_to_the_dead(road, [command], times=3)
    psp = Psp()
    async with gateway(settings, redis_url, psp, reclaim_idle_ms=50):
        await wait_until(lambda: is_over(owner, command), "the command has ended")
    assert psp.sent == [], "without a call"
    assert await are_dead(owner, 0)
    [said] = await owner.fetch("SELECT body ->> 'outcome' AS outcome FROM outbox WHERE type = 'psp.evidence'")
    assert said["outcome"] == "unknown", "and somebody will be asked"
    assert await owner.fetchval("SELECT outcome FROM psp_attempts") == "unknown"


async def test_a_question_about_what_was_promised_is_a_dead_letter_and_not_forgotten(
    owner: Session, settings: Settings, redis_url: str, road: Redis
) -> None:
    """Its end would be nobody's news: the callback may be lost, and a refund under way keeps its hold."""
    command = await issue(owner, "good", kind="psp.inquire")
    await owner.execute(
        """INSERT INTO psp_attempts
        (id, operation_id, payment_id, psp, path, request, gateway, send_by, deadline_at, outcome, concluded_at)
        SELECT gen_random_uuid(), operation_id, payment_id, 'sim', '/', '', 'dead', now() - interval '2 s',
            now() - interval '1 s', 'pending', now()
        FROM outbox WHERE id = $1""",
        command,
    )
    await owner.execute("INSERT INTO suspects VALUES ($1, $2, 3)", COMMANDS, command)
    await deliver_to_the_dead(road, [command], times=3)
    async with gateway(settings, redis_url, Psp(), reclaim_idle_ms=50):
        await wait_until(lambda: is_over(owner, command), "the command has ended")
    assert await are_dead(owner, 1)


async def test_a_command_that_kills_every_gateway_is_a_dead_letter_and_its_neighbours_are_paid(
    bare: Installation, owner: Session, road: Redis
) -> None:
    [merchant] = await bare.merchants(1)
    await start(bare, "psp-sim", "serve", "worker --roles merchants")
    await bare.pay(merchant, "deadly", method=token(DEADLY))
    replies = [await bare.pay(merchant, f"innocent-{number}") for number in range(6)]
    died = 0
    for _ in range(8):
        gateway = await start_deadly(bare)

        async def is_it(process: Process = gateway) -> bool:
            return process.popen.poll() is not None or await are_dead(owner, 1)

        await wait_until(is_it, "it has died or buried its killer", 30)
        if gateway.popen.poll() is None:
            break
        died += 1
    assert died == 4, "taken once by chance, once as it was idle, then tried alone twice"
    await wait_until(lambda: has_left_one(owner), "the others are paid", 30)
    letter = await owner.fetchrow("SELECT id, reason, attempts, payment_id FROM dead_letters")
    assert letter is not None
    assert (letter["reason"], letter["attempts"]) == ("kills_its_gateway", 2)
    paid = await owner.fetch("SELECT id FROM payments WHERE status = 'captured'")
    assert len(paid) == len(replies)

    # The fix is deployed, and an operator lets it try again.
    await anyio.to_thread.run_sync(gateway.stop)
    await start(bare, "worker --roles gateway", "scheduler")
    assert await owner.fetchval("SELECT requeue_dead_letter($1, 'ada', 'mended')", letter["id"]) == "done"
    await wait_until(lambda: has_ended(owner, letter["payment_id"]), "it has ended like any other", 30)
    assert await owner.fetchval("SELECT count(*) FROM psp_attempts") == len(replies) + 1


async def start_deadly(bare: Installation) -> Process:
    def begin() -> Process:
        return bare.start(
            "worker --roles gateway",
            module="tests.support.deadly_gateway",
            PAYNODE_GATEWAY__RECLAIM_IDLE_MS="400",
            PAYNODE_GATEWAY__SUSPECT_DELIVERIES="3",
            PAYNODE_GATEWAY__SUSPECT_TRIES_MAX="2",
        )

    return await anyio.to_thread.run_sync(begin)


async def has_left_one(owner: Session) -> bool:
    """The deadly one's payment: nobody has said anything about it."""
    row = await owner.fetchrow(
        """SELECT (SELECT count(*) FROM payments WHERE status <> 'captured') AS open,
        (SELECT count(*) FROM outbox) AS left"""
    )
    assert row is not None
    return bool(row["open"] == 1 and row["left"] == 0)


async def has_ended(owner: Session, payment_id: object) -> bool:
    status = await owner.fetchval("SELECT status FROM payments WHERE id = $1", payment_id)
    return status not in ("created", "processing", "unknown")


async def deliver_to_the_dead(road: Redis, refs: list[str], *, times: int) -> None:
    """A process that takes them again and again, and dies each time."""
    await road.xgroup_create(COMMANDS, "gateway", id="0", mkstream=True)
    client: Any = road
    for ref in refs:
        entry = await client.xadd(COMMANDS, {"ref": ref})
        await client.xreadgroup("gateway", "dead", {COMMANDS: ">"})
        for _ in range(times - 2):  # the next one to take them makes it one more
            await client.xclaim(COMMANDS, "gateway", "dead", 0, [entry])


async def is_over(owner: Session, ref: str) -> bool:
    return bool(await owner.fetchval("SELECT NOT EXISTS (SELECT FROM outbox WHERE id = $1)", ref))


async def is_read(road: Redis) -> bool:
    return bool(await road.xlen(COMMANDS) == 0)


async def are_dead(owner: Session, count: int) -> bool:
    return bool(await owner.fetchval("SELECT count(*) FROM dead_letters WHERE status = 'dead'") == count)


async def are_shown(road: Redis, count: int) -> bool:
    return bool(await road.xlen(DEAD) == count)
