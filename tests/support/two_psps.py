"""An installation with two accounts, each at a simulator of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio

from paynode import config
from paynode.config import Settings
from paynode.domain.money import FeePlan
from paynode.domain.terms import Terms
from paynode.storage import merchants
from paynode.storage.postgres import Role, session
from tests.support.case import Case
from tests.support.installation import Installation, Merchant, free_ports

ATTEMPTS = "SELECT psp, outcome, sends, reason FROM psp_attempts WHERE payment_id = $1 ORDER BY claimed_at"


@dataclass
class TwoPsps:
    """An installation with the accounts `sim` and `other`, each at a simulator of its own."""

    installation: Installation
    url: str
    settings: Settings

    async def merchant(self) -> Merchant:
        """One that is routed to `sim`, then to `other`."""
        async with session(self.installation.settings, Role.OWNER, application_name="test") as connection:
            [made] = await merchants.create_many(
                connection, ["Two"], terms=Terms(fees=FeePlan(fixed=0, basis_points=150)), psps=["sim", "other"]
            )
        return Merchant(id=made.id, api_key=made.api_key or "")

    async def books(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What each of them has charged."""
        reply = await self.installation.send("GET", self.url + "/book")
        return await self.installation.book(), [json.loads(line) for line in reply.raw.splitlines()]

    async def attempts(self, payment: str) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in await self.installation.rows(ATTEMPTS, payment)]

    def case_of(self, case: Case, books: Sequence[Any]) -> Case:
        """What the laws of every run need, with the books of both."""
        return replace(case, book=books, streams={}, redelivered=None)


@asynccontextmanager
async def standing(installation: Installation, directory: Path) -> AsyncIterator[TwoPsps]:
    """Both simulators, the ingress, the scheduler and the merchants' worker; no gateway yet."""
    [port] = free_ports(1)
    url, account = f"http://127.0.0.1:{port}", installation.settings.psp["sim"]
    told = {"adapter": "sim", "url": url, "webhook_secret": "sim_whsec_other"} | {
        name: getattr(account, name) for name in ("api_key", "idempotent_for_s", "settle_s")
    }
    installation.environment = {
        **installation.environment,
        **{f"PAYNODE_PSP__OTHER__{name.upper()}": str(value) for name, value in told.items()},
    }
    both = config.load({"psp": {"other": told}, "database": {"url": installation.settings.database.url}})
    start = partial(anyio.to_thread.run_sync)
    await start(partial(installation.start, "psp-sim"))
    await start(
        partial(
            installation.start,
            "psp-sim",
            PAYNODE_SIM__NAME="other",
            PAYNODE_SIM__PORT=str(port),
            PAYNODE_SIM__BOOK=str(directory / "other" / "book.ndjson"),
        )
    )
    for verb in ("serve", "scheduler", "worker --roles merchants"):
        await start(partial(installation.start, verb))
    yield TwoPsps(installation, url, both.model_copy(update={"data_dir": installation.settings.data_dir}))


async def start_gateway(installation: Installation, *, module: str = "paynode") -> None:
    await anyio.to_thread.run_sync(partial(installation.start, "worker --roles gateway", module=module))
