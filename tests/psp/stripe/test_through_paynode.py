"""A Stripe account in a whole paynode: its processes, its books, Stripe's events over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.storage import merchants
from paynode.storage.postgres import Role, session
from tests.psp.stripe.annex import API_KEY, WEBHOOK_SECRET, Annex
from tests.support.installation import Installation, Merchant, installed, token
from tests.support.waiting import wait_until

_SETTLED_S: Final = 60.0


@pytest.fixture
async def installation(
    stripe: Annex, settings: Settings, redis_url: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    async with installed(settings, redis_url, tmp_path) as installation:
        told = {
            "ADAPTER": "stripe",
            "URL": stripe.url,
            "API_KEY": API_KEY,
            "WEBHOOK_SECRET": WEBHOOK_SECRET,
            "HAS_SEARCH": "true",
            "IDEMPOTENT_FOR_S": "82800",
            "SETTLE_S": "3600",
        }
        account = {f"PAYNODE_PSP__STRIPE__{name}": value for name, value in told.items()}
        installation.environment = {**installation.environment, **account}
        for verb in ("serve", "worker", "scheduler"):
            await anyio.to_thread.run_sync(installation.start, verb)
        stripe.hook_url = f"{installation.settings.http.base_url}/v1/psp/stripe/webhook"
        yield installation
        await anyio.to_thread.run_sync(installation.end)  # beside the loop: Stripe lives in it


class Shop:
    """A merchant who is routed to Stripe."""

    def __init__(self, installation: Installation, merchant: Merchant) -> None:
        self._installation = installation
        self._merchant = merchant

    async def pays(self, key: str, **body: Any) -> str:
        """Begin a payment; its path."""
        reply = await self._installation.pay(self._merchant, key, **{"method": token("pm_card_visa")} | body)
        assert reply.status in (201, 202), reply.raw
        return f"/v1/payments/{reply.json['id']}"

    async def asks(self, path: str, what: str, **body: object) -> None:
        headers = {"Authorization": f"Bearer {self._merchant.api_key}", "Idempotency-Key": f'"{path[-8:]}-{what}"'}
        reply = await self._installation.send("POST", f"{path}/{what}", json=body or None, headers=headers)
        assert reply.status in (200, 201, 202), reply.raw

    async def is_told(self, path: str, **expected: object) -> None:
        seen: dict[str, object] = {}

        async def is_so() -> bool:
            nonlocal seen
            seen = await self._installation.get(self._merchant, path)
            return expected.items() <= seen.items()

        try:
            await wait_until(is_so, f"the payment reads {expected}", _SETTLED_S)
        except AssertionError as error:
            raise AssertionError(json.dumps(seen)) from error


async def test_a_life_at_stripe(installation: Installation, stripe: Annex) -> None:
    async with session(installation.settings, Role.OWNER, application_name="test") as connection:
        [made] = await merchants.create_many(
            connection, ["Stripe"], terms=Terms(fees=FeePlan(fixed=0, basis_points=0)), psps=["stripe"]
        )
    shop = Shop(installation, Merchant(id=made.id, api_key=made.api_key or ""))
    page = {"type": "hosted_page", "return_url": "https://shop.example/back"}

    sale = await shop.pays("sale")
    await shop.is_told(sale, status="captured", amount_captured=1000)
    await shop.asks(sale, "refunds", amount=400)
    await shop.is_told(sale, refund_status="partial", amount_refunded=400)

    declined = await shop.pays("declined", method=token("pm_card_chargeCustomerFail"))
    await shop.is_told(declined, status="declined", amount_captured=0)

    held = await shop.pays("held", capture="manual")
    await shop.is_told(held, status="authorized", amount_authorized=1000)
    await shop.asks(held, "capture", amount=700, final=True)
    await shop.is_told(held, amount_captured=700)

    let_go = await shop.pays("let-go", capture="manual")
    await shop.is_told(let_go, status="authorized")
    await shop.asks(let_go, "void")
    await shop.is_told(let_go, status="voided", amount_captured=0)

    paid = await shop.pays("paid", method=page)
    await shop.is_told(paid, status="requires_action")
    await stripe.customer(stripe.open_pages[0], "pm_card_visa")
    await shop.is_told(paid, status="captured", amount_captured=1000)

    canceled = await shop.pays("canceled", method=page)
    await shop.is_told(canceled, status="requires_action")
    await shop.asks(canceled, "cancel")
    await shop.is_told(canceled, status="canceled", amount_captured=0)
    assert stripe.open_pages == []

    stripe.loses_answers = True
    lost = await shop.pays("lost")
    await shop.is_told(lost, status="captured", amount_captured=1000)
    stripe.loses_answers = False

    await installation.until_settled()
    assert sorted((await stripe.charged()).values()) == [700, 1000, 1000, 1000], "and nobody was charged twice"
    await wait_until(lambda: len(stripe.answers) == len(stripe.notices), "every event is answered", _SETTLED_S)
    assert set(stripe.answers) == {200}
    assert await installation.broken_laws() == []
