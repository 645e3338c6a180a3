"""What follows a charge, while new charges wait at a slow PSP in any number."""

from __future__ import annotations

import anyio
import pytest

from paynode.storage.postgres import Session
from tests.e2e.living import Life
from tests.faults.running import start
from tests.support.installation import Installation, token
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

# A minute and a half of charges of three seconds each: more than are worked on, and more than wait in memory.
CHARGES, HANDS, QUEUE = 60, 2, 2
GATEWAY = {
    "PAYNODE_GATEWAY__CONCURRENCY": str(2 * HANDS),
    "PAYNODE_GATEWAY__CONCURRENCY_RESERVED": str(HANDS),
    "PAYNODE_GATEWAY__QUEUE_SIZE": str(QUEUE),
    "PAYNODE_GATEWAY__CALL_DEADLINE_S": "10",
}


@pytest.mark.parametrize("is_redis_away", [False, pytest.param(True, marks=pytest.mark.long)])
async def test_a_refund_and_a_question_do_not_wait_for_the_charges_before_them(
    bare: Installation, owner: Session, to_redis: Proxy, is_redis_away: bool
) -> None:
    [merchant] = await bare.merchants(1)
    life = Life(installation=bare, merchant=merchant)
    bare.environment = {**bare.environment, **GATEWAY}
    await start(bare, "psp-sim", "serve", "worker", "scheduler", redis=to_redis)
    paid = await life.captured(1000)
    await life.faults(drop_callback=1)
    asked, page = await life.page(1000)
    assert (await bare.send("POST", page + "/pay")).status == 303, "and only the PSP knows"
    if is_redis_away:
        to_redis.is_refusing = True
        to_redis.cut_all()
    async with anyio.create_task_group() as shops:
        for number in range(CHARGES):
            shops.start_soon(check_out, life, f"checkout-{number}")
    await wait_until(lambda: are_busy(owner), "all hands are at charges")

    refund = await life.ask(paid, "refunds", {"amount": 500})
    assert (refund.status, refund.json["status"]) == (201, "succeeded"), refund.raw
    await bare.send("GET", f"/checkout/{asked}/return")
    await life.until(asked, "captured")
    left = await owner.fetchval("SELECT count(*) FROM payments WHERE status = 'processing'")
    assert left > CHARGES // 2, f"they have waited for all but {left}"
    assert [line["kind"] for line in await life.book()].count("refund") == 1
    assert await bare.broken_laws() == []


async def check_out(life: Life, key: str) -> None:
    reply = await life.installation.pay(life.merchant, key, prefer="respond-async", method=token("tok_slow_3000"))
    assert reply.status == 202, reply.raw


async def are_busy(owner: Session) -> bool:
    return bool(await owner.fetchval("SELECT count(*) = $1 FROM psp_attempts WHERE concluded_at IS NULL", HANDS))
