"""Clients that pay and remember what they were told: as fast as they are answered, or at a steady rate."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from urllib.parse import urlsplit

import aiohttp
import anyio

from tests.support.history import CANARY, Asked, History
from tests.support.installation import Installation, Merchant, Reply, token

__all__ = ["MIX", "History", "Load", "pay_many"]

# What may become of a request whose client hears nothing.
_LOST = (aiohttp.ClientError, TimeoutError)


async def pay_many(
    installation: Installation,
    merchants: Sequence[Merchant],
    history: History,
    *,
    count: int,
    clients: int,
    tokens: Sequence[str] = ("tok_approve",),
    prefix: str = "order",
) -> None:
    """Make `count` payments by `clients` clients, each as fast as it is answered; amounts all differ."""
    numbers = iter(range(count))
    begun = time.monotonic()
    async with anyio.create_task_group() as group:
        for _ in range(clients):
            group.start_soon(_client, installation, merchants, history, numbers, tokens, prefix)
    history.seconds += time.monotonic() - begun


async def _client(
    installation: Installation,
    merchants: Sequence[Merchant],
    history: History,
    numbers: Iterator[int],
    tokens: Sequence[str],
    prefix: str,
) -> None:
    for number in numbers:
        merchant, name = merchants[number % len(merchants)], tokens[number % len(tokens)]
        asked = history.ask(
            Asked(merchant_id=merchant.id, key=f"{prefix}-{number}", amount=1000 + number, token=name),
        )
        try:
            reply = await installation.pay(merchant, asked.key, amount=asked.amount, method=token(name))
        except _LOST as error:
            history.lose(asked, error)
        else:
            history.hear(asked, reply)


# Shares of a hundred. None is a page, on which the customer presses Pay.
MIX: dict[str | None, int] = {
    "tok_approve": 66,
    "tok_decline": 8,
    "tok_slow_300": 5,
    "tok_error_after": 5,
    "tok_hang_after": 5,
    "tok_hang_before": 2,
    "tok_error_before": 1,
    "tok_dup_callback": 3,
    None: 5,
}


@dataclass(slots=True, kw_only=True)
class Load:
    """An open loop: `rate_per_s` new payments a second whatever becomes of them, `in_flight_max` of them at once.

    Each goes to one of the ingresses (`urls`) in turn; one that is not there is passed over, as a load balancer would.
    Who hears nothing, or "not now", asks again with the same key for `patience_s` seconds: a payment on a page of
    which its customer never hears is never paid, and no process on a busy machine takes so long to come back. Some ask
    again although they were told, and some with another body.
    """

    installation: Installation
    merchants: Sequence[Merchant]
    history: History
    urls: Sequence[str]
    rate_per_s: float
    random: Random
    in_flight_max: int = 200
    patience_s: float = 60.0
    pause_s: float = 0.25
    prefix: str = "load"
    mix: Mapping[str | None, int] = field(default_factory=lambda: MIX)
    in_flight: int = 0
    held_back: int = 0
    pages_left: int = 0
    is_paused: bool = False
    is_over: bool = False
    given_up: Counter[str] = field(default_factory=Counter)

    async def run(self) -> None:
        """Pay until `is_over`; complete when everybody has been answered or has given up."""
        begun, number = time.monotonic(), 0
        async with anyio.create_task_group() as clients:
            while not self.is_over:
                await anyio.sleep(max(0.0, begun + number / self.rate_per_s - time.monotonic()))
                if time.monotonic() - begun - number / self.rate_per_s > 1:
                    begun = time.monotonic() - number / self.rate_per_s  # we were held up: nobody makes up for it
                number += 1
                if self.is_paused or self.in_flight >= self.in_flight_max:
                    self.held_back += not self.is_paused
                    continue
                clients.start_soon(self._pay, number)

    async def drained(self) -> None:
        """Wait until nobody is on the way."""
        while self.in_flight or self.pages_left:  # noqa: ASYNC110 - polled: the clients are many and end in any order
            await anyio.sleep(0.02)

    async def _pay(self, number: int) -> None:
        merchant = self.merchants[number % len(self.merchants)]
        [name] = self.random.choices(list(self.mix), weights=list(self.mix.values()))
        first = Asked(merchant_id=merchant.id, key=f"{self.prefix}-{number}", amount=1000 + number, token=name)
        self.in_flight += 1
        try:
            told = await self._insist(merchant, first, number)
            if told is not None and self.random.random() < 0.05:
                await self.ask(merchant, _again(first), number + 1)
            if told is not None and self.random.random() < 0.02:
                await self.ask(merchant, _twisted(first), number)
        finally:
            self.in_flight -= 1
        if told is not None and name is None:
            self.pages_left += 1
            await self._visit(told)
            self.pages_left -= 1

    async def _insist(self, merchant: Merchant, first: Asked, number: int) -> Asked | None:
        """Ask until there is an answer that is one."""
        asked, give_up_at = first, time.monotonic() + self.patience_s
        for attempt in count():
            await self.ask(merchant, asked, number + attempt)
            if asked.is_accepted:
                return asked
            if asked.is_refused:
                return None
            if time.monotonic() > give_up_at:
                break
            await anyio.sleep(self.pause_s * self.random.uniform(0.5, 1.5))
            asked = _again(first)
        self.given_up["payments"] += 1
        return None

    async def ask(self, merchant: Merchant, asked: Asked, number: int) -> None:
        """Ask once; of the ingresses the one whose turn it is, else the next."""
        self.history.ask(asked)
        for step in range(len(self.urls)):
            url = self.urls[(number + step) % len(self.urls)]
            try:
                self.history.hear(asked, await self._send(url, merchant, asked))
            except aiohttp.ClientConnectorError as error:
                asked.lose(error)  # nobody there: nothing was sent, and the next one is asked
                continue
            except _LOST as error:
                self.history.lose(asked, error)
            return
        self.history.lost += 1

    async def _send(self, url: str, merchant: Merchant, asked: Asked) -> Reply:
        method = token(asked.token) if asked.token else {"type": "hosted_page", "return_url": "http://127.0.0.1:9/"}
        return await self.installation.send(
            "POST",
            f"{url}/v1/payments",
            json={
                "order_id": asked.key,
                "amount": asked.amount,
                "currency": asked.currency,
                "method": method,
                "description": CANARY,
                "customer": {"name": CANARY, "reference": CANARY},
                "metadata": {"note": CANARY},
            },
            headers={"Authorization": f"Bearer {merchant.api_key}", "Idempotency-Key": asked.key},
            timeout=aiohttp.ClientTimeout(total=12),
        )

    async def _visit(self, asked: Asked) -> None:
        """Be the customer: wait for the page, and press Pay until it has been heard."""
        path = urlsplit(str(asked.payment["checkout_url"])).path
        give_up_at = time.monotonic() + 120
        while time.monotonic() < give_up_at:
            url = self.random.choice(self.urls)
            try:
                page = await self.installation.send("GET", url + path)
                if page.status == 303 and "/return" not in (location := page.headers["Location"]):
                    paid = await self.installation.send("POST", location + "/pay")
                    if paid.status in (303, 409):
                        return
            except _LOST:
                pass
            await anyio.sleep(self.pause_s)
        self.given_up["pages"] += 1


def _again(first: Asked) -> Asked:
    """The same request once more."""
    return Asked(merchant_id=first.merchant_id, key=first.key, amount=first.amount, token=first.token)


def _twisted(first: Asked) -> Asked:
    """The same key with another amount."""
    return Asked(
        merchant_id=first.merchant_id, key=first.key, amount=first.amount + 1, token=first.token, is_twisted=True
    )
