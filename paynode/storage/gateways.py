"""What each process that calls a PSP tells of itself."""

from __future__ import annotations

from typing import Final

import orjson

from paynode.domain.guarding import BreakerAction, BreakerOrder, Company, Vitals
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

    async def beat(self, vitals: Vitals) -> Company:
        """This process lives, and its guards stand like this; how many live, and what operators have said."""
        async with borrowed(self._pool) as connection:
            await connection.execute(
                _SQL["beat_gateway"],
                self._gateway,
                self._psp,
                orjson.dumps({kind: one.state for kind, one in vitals.breakers.items()}).decode(),
                orjson.dumps(vitals).decode(),
                vitals.in_flight,
                self._alive_s,
            )
            live = await connection.fetchval(_SQL["count_gateways"], self._psp)
            orders = await connection.fetch(_SQL["list_orders"], self._psp)
        return Company(
            live=live,
            orders=[
                BreakerOrder(operation=row["operation"], action=BreakerAction(row["action"]), number=row["number"])
                for row in orders
            ],
        )

    async def stop(self) -> None:
        """This process lives no more."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["stop_gateway"], self._gateway, self._psp)
