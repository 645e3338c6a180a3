"""Accounts at PayU for the contract: on the twin, one that takes sales and one that authorizes."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, ClassVar

from paynode.domain.payment import PspOrder
from paynode.psp.payu import PayuPsp
from tests.psp.account import Account, Delivery, Trait
from tests.psp.payu import documents
from tests.psp.payu.twin import Twin


def payu_at(url: str, **changes: Any) -> PayuPsp:
    """The adapter, pointed wherever a test wants it."""
    settings: dict[str, Any] = {
        "name": "payu",
        "url": url,
        "pos_id": documents.POS_ID,
        "client_id": documents.POS_ID,
        "client_secret": documents.CLIENT_SECRET,
        "second_key": documents.SECOND_KEY,
        "notify_url": "https://pay.example/v1/psp/payu/webhook",
        "page_ttl_s": 900,
        "settle_s": 60.0,
        "currencies": frozenset({"EUR", "PLN"}),
        "is_auto_receive": True,
        "is_md5_allowed": True,
        "concurrency": 4,
    }
    return PayuPsp(**settings | changes)


@asynccontextmanager
async def payu_with_a_token(url: str, **changes: Any) -> AsyncIterator[PayuPsp]:
    """It has its token already, so that its first request is what it is asked to send."""
    psp = payu_at(url, **changes)
    psp._tokens._token, psp._tokens._renew_at = documents.TOKEN["access_token"], math.inf
    async with psp:
        yield psp


class Sales(Account):
    """Everything but what goes with an authorization."""

    TRAITS: ClassVar[frozenset[Trait]] = frozenset(
        {Trait.PAGE, Trait.CANCEL, Trait.REFUND, Trait.PARTIAL_REFUND, Trait.CALLBACK, Trait.ELSEWHERE}
    )
    currency = "PLN"

    def __init__(self, twin: Twin, adapter: PayuPsp) -> None:
        self._twin = twin
        self._adapter = adapter

    @property
    def adapter(self) -> PayuPsp:
        return self._adapter

    async def customer_pays(self, page_url: str) -> None:
        self._twin.pay(page_url.rpartition("/")[2])

    async def deliveries(self, order: PspOrder) -> Sequence[Delivery]:
        return [Delivery({"OpenPayu-Signature": documents.signature(raw)}, raw) for raw in self._twin.notices]

    def elsewhere(self, url: str) -> AbstractAsyncContextManager[PayuPsp]:
        return payu_with_a_token(url)


class Authorizations(Sales):
    """A POS without auto-receive; it takes no sales, on which the other checks are built."""

    TRAITS: ClassVar[frozenset[Trait]] = frozenset({Trait.AUTHORIZE})
    NOT_SHOWN = dict.fromkeys(
        ("has_page", "can_cancel_page", "can_refund_partially"), "the account that takes sales shows it"
    )
