"""Two PSPs: nothing is sent to the one while the other may have it, whoever dies and whatever is published again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
import redis.asyncio as redis

from paynode.config import Settings
from tests.support.deadly_gateway import DEADLY_AMOUNT
from tests.support.installation import installed
from tests.support.two_psps import TwoPsps, standing, start_gateway
from tests.support.verbs import paynode
from tests.support.waiting import wait_until

OTHERS_COMMANDS = "paynode:{psp-other}:commands"

# What nobody ever emits while the first PSP may have it: the same operation, for the other one.
FORGE = """
INSERT INTO outbox (id, stream, type, merchant_id, payment_id, operation_id, body, published_at)
SELECT gen_random_uuid(), $1, 'psp.submit', o.merchant_id, o.payment_id, o.id, o.request || '{"psp": "other"}', now()
FROM operations AS o WHERE o.payment_id = $2
RETURNING id::text AS id
"""


@pytest.fixture
async def two(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[TwoPsps]:
    async with installed(settings, redis_url, tmp_path) as installation, standing(installation, tmp_path) as both:
        yield both


async def test_what_one_psp_may_have_is_never_sent_to_another(two: TwoPsps, redis_url: str) -> None:
    """Killed between claim and sending, every stream forgotten, and the same operation published for the other PSP."""
    installation, merchant = two.installation, await two.merchant()
    await start_gateway(installation, module="tests.support.deadly_gateway")
    victim = installation.processes[-1]
    accepted = await installation.pay(merchant, "one", prefer="respond-async", amount=DEADLY_AMOUNT)
    await wait_until(victim.has_ended, "the gateway has died over it", 30)
    [(payment, operation)] = await installation.rows("SELECT payment_id::text, id::text FROM operations")
    assert await two.attempts(payment) == [("sim", None, 1, None)], "it died holding the claim"

    forged = [(await installation.rows(FORGE, OTHERS_COMMANDS, payment))[0]["id"] for _ in range(3)]
    await installation.flush_redis()
    async with redis.Redis.from_url(redis_url, protocol=2) as client:
        for ref in forged * 2:
            await client.xadd(OTHERS_COMMANDS, {"ref": ref})
    await start_gateway(installation)
    await start_gateway(installation)

    async def is_captured() -> bool:
        return bool((await installation.get(merchant, f"/v1/payments/{accepted.json['id']}"))["status"] == "captured")

    await wait_until(is_captured, "the stored bytes were sent again, to the same PSP", 60)
    await installation.until_settled()
    ours, others = await two.books()
    assert [(line["our_reference"], line["result"]) for line in ours] == [(operation, "approved")]
    assert others == []
    assert [(psp, outcome) for psp, outcome, *_ in await two.attempts(payment)] == [("sim", "approved")]
    assert await installation.broken_laws() == []


@pytest.mark.long
async def test_what_an_operator_trips_goes_to_the_other_psp_until_he_resets_it(two: TwoPsps) -> None:
    installation, merchant = two.installation, await two.merchant()
    await start_gateway(installation)
    assert (await paynode(two.settings, "psp", "trip", "sim", "--note", "they said so")).code == 0

    async def is_held() -> bool:
        said = await paynode(two.settings, "psp", "status", "sim", "--output", "json")
        [psp] = said.json["data"]
        return all(one["is_held"] for gateway in psp["gateways"] for one in gateway["breakers"])

    await wait_until(is_held, "the gateway has heard of it", 30)
    await start_gateway(installation)  # which has never heard of anything else
    for number in range(6):
        await installation.pay(merchant, f"tripped-{number}", prefer="respond-async")
    await installation.until_settled()
    paid = await installation.rows("SELECT DISTINCT status, psp FROM payments")
    assert [tuple(row) for row in paid] == [("captured", "other")]
    ours, others = await two.books()
    assert (len(ours), len(others)) == (0, 6)
    reasons = await installation.rows("SELECT DISTINCT psp, reason FROM psp_attempts WHERE outcome = 'not_sent'")
    assert [tuple(row) for row in reasons] == [("sim", "breaker_open")]

    assert (await paynode(two.settings, "psp", "reset")).code == 0

    async def is_called_again() -> bool:
        await installation.pay(merchant, f"reset-{anyio.current_time()}", prefer="respond-async")
        await anyio.sleep(0.5)
        ours, _ = await two.books()
        return bool(ours)

    await wait_until(is_called_again, "the first PSP is called again", 60)
    await installation.until_settled()
    assert await installation.broken_laws() == []
