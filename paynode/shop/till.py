"""How the shop talks to paynode: begin a payment, ask how it stands."""

from __future__ import annotations

from types import TracebackType
from typing import Annotated, Any, Literal, Self

import aiohttp
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paynode.shop.orders import Order

# Longer than paynode's own deadline of a request (10 s): whoever waits shorter asks twice for one answer.
_TIMEOUT = aiohttp.ClientTimeout(total=12)

Standing = Literal["paid", "declined", "waiting"]

_PAID = {"captured", "partially_captured"}
_CAME_TO_NOTHING = {"declined", "canceled", "expired", "failed", "voided"}


class TillAway(Exception):
    """No answer, or one that asks to come again. Whether a payment was begun is open: keep the key and retry."""


class TillRefused(Exception):
    """paynode understood and said no: asking again changes nothing."""


class Payment(BaseModel):
    """What the shop reads of paynode's payment."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
    status: str
    checkout_url: Annotated[str, Field(pattern=r"^https?://[\x21-\x7e]+$")] | None = None

    @property
    def standing(self) -> Standing:
        if self.status in _PAID:
            return "paid"
        return "declined" if self.status in _CAME_TO_NOTHING else "waiting"


class Till:
    def __init__(self, *, url: str, api_key: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {api_key}"}
        self._open_session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._open_session = aiohttp.ClientSession(
            headers=self._headers, timeout=_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._open_session is not None
        await self._open_session.close()

    async def begin(self, order: Order, *, return_url: str, description: str) -> Payment:
        """Begin the payment of an order, or find the one that its key began before.

        Raises: TillAway, TillRefused.
        """
        body = {
            "order_id": order.id,
            "amount": order.amount,
            "currency": order.currency,
            "description": description,
            "method": {"type": "hosted_page", "return_url": return_url},
        }
        return await self._ask("POST", "/v1/payments", {"Idempotency-Key": order.idempotency_key}, body)

    async def look(self, payment_id: str) -> Payment:
        """Raises: TillAway, TillRefused."""
        return await self._ask("GET", f"/v1/payments/{payment_id}", {}, None)

    async def _ask(self, method: str, path: str, headers: dict[str, str], body: dict[str, Any] | None) -> Payment:
        assert self._open_session is not None, "use it inside `async with`"
        try:
            async with self._open_session.request(
                method, self._url + path, json=body, headers=headers, allow_redirects=False
            ) as response:
                status, content = response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise TillAway(type(error).__name__) from error
        if status >= 500 or status in (409, 425, 429):
            raise TillAway(f"HTTP {status}")
        if status >= 300:
            raise TillRefused(f"HTTP {status}")
        try:
            return Payment.model_validate_json(content)
        except ValidationError as error:
            raise TillAway("the answer could not be read") from error
