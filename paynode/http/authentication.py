"""Who asks: an API key as a bearer token, looked up at most once in a few seconds."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from aiohttp import web

from paynode.domain.accepting import MerchantKey
from paynode.http.context import CONTEXT
from paynode.http.problem import Problem
from paynode.runtime.grouping import Grouper

_BEARER: Final = re.compile(r"bearer +([A-Za-z0-9._~+/-]{1,200}=*)", re.ASCII | re.IGNORECASE)
# Seconds. A revoked key works at most this long; a merchant under load costs one look-up in it.
_REMEMBERED_S: Final = 5.0
# Keys remembered, wrong ones too: a flood of wrong keys must fill neither the memory nor the database's time.
_REMEMBERED_MAX: Final = 10_000
# Keys of one look-up; bounds the answer time behind it.
_ASKED_MAX: Final = 256


class Keys(Protocol):
    """Where API keys are kept."""

    async def merchants_of(self, api_keys: Sequence[str]) -> Sequence[MerchantKey | None]:
        """Whose each of the keys is, in order; None for an unknown or revoked one. Raises: Unavailable."""


class Doorman:
    """Lets in whoever shows a key; `run` looks the keys up.

    Whoever comes while a look-up is under way shares the next one: else keys that expire together in a flood would take
    every connection, and the group commit would wait behind them.
    """

    def __init__(self, keys: Keys, *, waiting_max: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._grouper: Grouper[str, MerchantKey | None] = Grouper(
            keys.merchants_of, group_size_max=_ASKED_MAX, waiting_max=waiting_max, clock=clock
        )
        # By the key's digest: a dump of this process's memory should hold as few keys as it can.
        self._remembered: dict[bytes, tuple[float, MerchantKey | None]] = {}

    def waited_s(self) -> float:
        """For how long the oldest request has been waiting for its look-up."""
        return self._grouper.waited_s()

    async def run(self) -> None:
        """Look up until cancelled."""
        await self._grouper.run()

    async def merchant(self, request: web.Request) -> MerchantKey:
        """The merchant that asks.

        Raises: Problem (401, 429); GroupFull, GroupStopped, Unavailable (nobody knows whose key it is).
        """
        api_key = _bearer(request)
        digest = hashlib.sha256(api_key.encode()).digest()
        expires_at, merchant = self._remembered.get(digest, (0.0, None))
        if expires_at <= self._clock():
            merchant = await self._grouper.submit(api_key)
            self._remember(digest, merchant)
        if merchant is None:
            raise _refusal("api_key_invalid", "the API key is unknown or revoked", ', error="invalid_token"')
        request[CONTEXT].is_of(merchant.merchant_id)
        return merchant

    def _remember(self, digest: bytes, merchant: MerchantKey | None) -> None:
        self._remembered.pop(digest, None)
        if len(self._remembered) >= _REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]  # the oldest: dicts keep the order of insertion
        self._remembered[digest] = (self._clock() + _REMEMBERED_S, merchant)


def _bearer(request: web.Request) -> str:
    headers = request.headers.getall("Authorization", [])
    token = _BEARER.fullmatch(headers[0]) if len(headers) == 1 else None
    if token is None:
        raise _refusal("api_key_missing", "exactly one header is needed: Authorization: Bearer <api key>", "")
    return token[1]


def _refusal(code: str, detail: str, challenge: str) -> Problem:
    return Problem(
        status=401, code=code, detail=detail, headers={"WWW-Authenticate": f'Bearer realm="paynode"{challenge}'}
    )
