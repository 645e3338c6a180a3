"""What each process that calls a PSP tells of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson

from paynode.storage.postgres import Pool, borrowed
from paynode.storage.queries import load

_SQL: Final = load("gateways")


class PgGateways:
    """One process's row for one PSP, as the gateway's role. Raises Unavailable, Conflict."""

    def __init__(self, pool: Pool, *, gateway: str, psp: str, alive_s: float) -> None:
        self._pool = pool
        self._gateway = gateway
        self._psp = psp
        self._alive_s = alive_s

    async def beat(self, breakers: Mapping[str, str], in_flight: int) -> None:
        """This process lives; its breakers by kind of operation, and its calls under way."""
        async with borrowed(self._pool) as connection:
            await connection.execute(
                _SQL["beat_gateway"],
                self._gateway,
                self._psp,
                orjson.dumps(breakers).decode(),
                in_flight,
                self._alive_s,
            )

    async def stop(self) -> None:
        """This process lives no more."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["stop_gateway"], self._gateway, self._psp)
