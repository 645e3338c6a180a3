"""The adapter of Stripe, pointed wherever a test wants it, and an account for the contract of adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from paynode.domain.payment import PspOrder
from paynode.psp.stripe import StripePsp
from tests.psp.account import Account, Delivery, Trait
from tests.psp.stripe.annex import API_KEY, WEBHOOK_SECRET, Annex

DAY_S = 86_400.0


def stripe_at(url: str, **changes: Any) -> StripePsp:
    """The adapter, not entered."""
    settings: dict[str, Any] = {
        "name": "stripe",
        "url": url,
        "api_key": API_KEY,
        "webhook_secret": WEBHOOK_SECRET,
        "idempotent_for_s": DAY_S - 3600,
        "settle_s": 3600.0,
        "has_search": True,
        "concurrency": 4,
    }
    return StripePsp(**settings | changes)


class StripeAccount(Account):
    """All but what Stripe cannot do, or tells of a charge alone."""

    TRAITS = frozenset(Trait) - {Trait.REPEATED_CAPTURE, Trait.REVERSAL}
    approving_token = "pm_card_visa"
    declining_token = "pm_card_chargeCustomerFail"

    def __init__(self, psp: StripePsp, stripe: Annex) -> None:
        self._psp = psp
        self._stripe = stripe

    @property
    def adapter(self) -> StripePsp:
        return self._psp

    async def customer_pays(self, page_url: str) -> None:
        await self._stripe.customer(page_url.rpartition("/")[2], self.approving_token)

    async def customer_declines(self, page_url: str) -> None:
        await self._stripe.customer(page_url.rpartition("/")[2], self.declining_token)

    @asynccontextmanager
    async def losing_answers(self) -> AsyncIterator[None]:
        self._stripe.loses_answers = True
        yield
        self._stripe.loses_answers = False

    async def deliveries(self, order: PspOrder) -> Sequence[Delivery]:
        return list(self._stripe.notices)

    def elsewhere(self, url: str) -> AbstractAsyncContextManager[StripePsp]:
        return stripe_at(url)
