"""A payment at PayU through every process of paynode: the customer's browser, the notification, the books."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser

from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.storage import merchants
from paynode.storage.postgres import Role, session
from tests.psp.payu import documents
from tests.psp.payu.simulator import press
from tests.support.installation import Installation, Merchant, installed
from tests.support.waiting import wait_until

pytestmark = pytest.mark.browser

_PRICE: Final = 2490
_SETTLED_S: Final = 60.0


def _account(name: str, url: str, second_key: str) -> dict[str, str]:
    settings = {
        "ADAPTER": "payu",
        "URL": url,
        "POS_ID": documents.POS_ID,
        "CLIENT_ID": documents.POS_ID,
        "CLIENT_SECRET": documents.CLIENT_SECRET,
        "SECOND_KEY": second_key,
        "CURRENCIES": '["PLN"]',
        "IS_AUTO_RECEIVE": "true",
        "IS_MD5_ALLOWED": "false",
        "PAGE_TTL_S": "900",
        "SETTLE_S": "60",
    }
    return {f"PAYNODE_PSP__{name.upper()}__{key}": value for key, value in settings.items()}


@pytest.fixture
async def installation(
    payu_url: str, browser: Browser, settings: Settings, redis_url: str, tmp_path: Path
) -> AsyncIterator[Installation]:
    """With two accounts at PayU: one as it should be, and one that has another key and believes no notification."""
    async with installed(settings, redis_url, tmp_path) as installation:
        accounts = _account("payu", payu_url, documents.SECOND_KEY) | _account("payu_deaf", payu_url, "another")
        # Asked again and again: what a lost notification would have said comes by the next inquiry at the latest.
        installation.environment = {**installation.environment, **accounts, "PAYNODE_GATEWAY__PENDING_INQUIRY_S": "1"}
        for verb in ("serve", "worker", "scheduler"):
            installation.start(verb)
        yield installation


async def _merchant_at(installation: Installation, psp: str) -> Merchant:
    async with session(installation.settings, Role.OWNER, application_name="test") as connection:
        [made] = await merchants.create_many(
            connection, [psp], terms=Terms(fees=FeePlan(fixed=0, basis_points=0)), psps=[psp]
        )
    return Merchant(id=made.id, api_key=made.api_key or "")


class Shop:
    """A merchant's view of one payment."""

    def __init__(self, installation: Installation, merchant: Merchant, browser: Browser) -> None:
        self._installation = installation
        self._merchant = merchant
        self._browser = browser
        self.path = ""

    async def sells(self, order_id: str, button: str) -> str:
        """From the checkout to the button on PayU's page; where the customer is sent then."""
        reply = await self._installation.pay(
            self._merchant,
            order_id,
            amount=_PRICE,
            currency="PLN",
            method={"type": "hosted_page", "return_url": "https://shop.example/thanks?basket=7"},
        )
        assert (reply.status, reply.json["status"]) == (201, "requires_action"), reply.raw
        self.path = f"/v1/payments/{reply.json['id']}"
        return await press(self._browser, reply.json["checkout_url"], button)

    async def is_told(self, **expected: object) -> None:
        """Wait until the payment reads so."""
        seen: dict[str, object] = {}

        async def is_so() -> bool:
            nonlocal seen
            seen = await self._installation.get(self._merchant, self.path)
            return expected.items() <= seen.items()

        try:
            await wait_until(is_so, f"the payment reads {expected}", _SETTLED_S)
        except AssertionError as error:
            raise AssertionError(json.dumps(seen)) from error

    async def gives_back(self, amount: int) -> None:
        reply = await self._installation.send(
            "POST",
            f"{self.path}/refunds",
            json={"amount": amount},
            headers={"Authorization": f"Bearer {self._merchant.api_key}", "Idempotency-Key": f'"refund-{amount}"'},
        )
        assert reply.status == 201, reply.raw


async def test_a_lantern_is_paid_at_payu_and_partly_given_back(installation: Installation, browser: Browser) -> None:
    shop = Shop(installation, await _merchant_at(installation, "payu"), browser)
    back = await shop.sells("order-1", "Approve Payment")
    assert back.startswith("https://shop.example/thanks?basket=7&")
    await shop.is_told(status="captured", amount_captured=_PRICE)
    await shop.gives_back(990)
    await shop.is_told(status="captured", amount_refunded=990)

    await shop.sells("order-2", "Reject Payment")
    await shop.is_told(status="expired", amount_captured=0)

    # Its notifications are refused: the PSP is asked, by the name that it gave its order, and that is enough.
    deaf = Shop(installation, await _merchant_at(installation, "payu_deaf"), browser)
    await deaf.sells("order-1", "Approve Payment")
    await deaf.is_told(status="captured", amount_captured=_PRICE)
    told = await installation.rows("SELECT psp, count(*) AS events FROM inbox GROUP BY psp")
    assert [(row["psp"], row["events"]) for row in told] == [("payu", 2)]
    assert await installation.broken_laws() == []
