"""Clients that pay at once and remember what they were told."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import aiohttp
import anyio

from tests.support.installation import Installation, Merchant, Reply, token


@dataclass(slots=True)
class History:
    """What the clients saw. A time-out, a cut connection and a 5xx are "may have happened", never "failed"."""

    accepted: list[Reply] = field(default_factory=list)
    refused: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    seconds: float = 0.0


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
        try:
            reply = await installation.pay(merchant, f"{prefix}-{number}", amount=1000 + number, method=token(name))
        except (aiohttp.ClientError, TimeoutError):
            history.lost += 1
            continue
        if reply.status in (201, 202):
            history.accepted.append(reply)
        else:
            history.refused[reply.status] += 1
