"""Two PSPs: nothing is sent to the one while the other may have it, whoever dies and whatever is published again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis.asyncio as redis

from paynode import config
from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.storage import merchants
from paynode.storage.postgres import Role, session
from tests.support.deadly_gateway import DEADLY_AMOUNT
from tests.support.installation import Installation, Merchant, free_ports, installed
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
ATTEMPTS = "SELECT psp, outcome, sends, reason FROM psp_attempts WHERE payment_id = $1 ORDER BY claimed_at"


@dataclass
class TwoPsps:
    """An installation with the accounts `sim` and `other`, each at a simulator of its own."""

    installation: Installation
    url: str
    settings: Settings

    async def merchant(self) -> Merchant:
        """One that is routed to `sim`, then to `other`."""
        async with session(self.installation.settings, Role.OWNER, application_name="test") as connection:
            [made] = await merchants.create_many(
                connection, ["Two"], fees=FeePlan(fixed=0, basis_points=150), psps=["sim", "other"]
            )
        return Merchant(id=made.id, api_key=made.api_key or "")

    async def books(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What each of them has charged."""
        reply = await self.installation.send("GET", self.url + "/book")
        return await self.installation.book(), [json.loads(line) for line in reply.raw.splitlines()]

    async def attempts(self, payment: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.installation.rows(ATTEMPTS, payment)]


@pytest.fixture
async def two(settings: Settings, redis_url: str, tmp_path: Path) -> AsyncIterator[TwoPsps]:
    async with installed(settings, redis_url, tmp_path) as installation:
        [port] = free_ports(1)
        url, account = f"http://127.0.0.1:{port}", installation.settings.psp["sim"]
        told = {"adapter": "sim", "url": url, "webhook_secret": "sim_whsec_other"} | {
            name: getattr(account, name) for name in ("api_key", "idempotent_for_s", "settle_s")
        }
        installation.environment = {
            **installation.environment,
            **{f"PAYNODE_PSP__OTHER__{name.upper()}": str(value) for name, value in told.items()},
        }
        both = config.load({"psp": {"other": told}, "database": {"url": settings.database.url}})
        installation.start("psp-sim")
        installation.start(
            "psp-sim",
            PAYNODE_SIM__NAME="other",
            PAYNODE_SIM__PORT=str(port),
            PAYNODE_SIM__BOOK=str(tmp_path / "other" / "book.ndjson"),
        )
        for verb in ("serve", "scheduler", "worker --roles merchants"):
            installation.start(verb)
        yield TwoPsps(installation, url, both.model_copy(update={"data_dir": installation.settings.data_dir}))


async def start_gateway(installation: Installation, *, module: str = "paynode") -> None:
    await anyio.to_thread.run_sync(partial(installation.start, "worker --roles gateway", module=module))


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
