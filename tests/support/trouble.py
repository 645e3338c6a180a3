"""Load that goes on while something is broken, and outsiders who do harm to a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from urllib.parse import urlsplit, urlunsplit

import anyio
import asyncpg

from tests.support.database import of_name
from tests.support.installation import Installation, Merchant
from tests.support.load import History, pay_many

# Clients of a load, which is also how many requests may be under way when something breaks.
CLIENTS = 4


@dataclass(slots=True)
class Load:
    """What goes on until `is_enough`; keys are never used again."""

    history: History = field(default_factory=History)
    is_enough: bool = False

    @property
    def accepted(self) -> int:
        return len(self.history.accepted)


@asynccontextmanager
async def paying(
    installation: Installation, merchants: Sequence[Merchant], *, tokens: Sequence[str] = ("tok_approve",)
) -> AsyncIterator[Load]:
    """Payments in the background until the end of the block."""
    load = Load()

    async def pay() -> None:
        for number in count():
            prefix = f"round-{number}"
            await pay_many(
                installation,
                merchants,
                load.history,
                count=3 * CLIENTS,
                clients=CLIENTS,
                tokens=tokens,
                prefix=prefix,
            )
            if load.is_enough:
                return
            await anyio.sleep(0.02)  # whoever hears 503 is asked to wait, and these do so a little

    async with anyio.create_task_group() as group:
        group.start_soon(pay)
        yield load
        load.is_enough = True


@dataclass(slots=True)
class Crowd:
    """Sessions of somebody else that use up what the server has. `url` is of an ordinary log-in of theirs."""

    url: str
    owner_url: str
    sessions: list[asyncpg.Connection] = field(default_factory=list)
    refusals: int = 0

    async def fill(self, prey: str) -> None:
        """Take every connection that is to be had, those of the log-ins like `prey` too."""
        owner = await asyncpg.connect(self.owner_url)  # a superuser's connections are kept free for it
        await owner.fetch("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename LIKE $1", prey)
        await owner.close()
        while await self._is_let_in():
            pass

    async def leave(self) -> None:
        """Give all of them back."""
        for session in self.sessions:
            session.terminate()
        self.sessions.clear()

    async def _is_let_in(self) -> bool:
        try:
            self.sessions.append(await asyncpg.connect(self.url))
        except asyncpg.TooManyConnectionsError:
            self.refusals += 1
            return False
        return True


@asynccontextmanager
async def crowd(owner_url: str) -> AsyncIterator[Crowd]:
    """Somebody else, who has a database of his own on the same server; gone at the end."""
    owner = await asyncpg.connect(owner_url)
    await owner.execute("CREATE ROLE stranger LOGIN PASSWORD 'stranger'")
    await owner.close()
    parts = urlsplit(of_name(owner_url, "postgres"))
    url = urlunsplit(parts._replace(netloc=f"stranger:stranger@{parts.netloc.rpartition('@')[2]}"))
    made = Crowd(url=url, owner_url=owner_url)
    try:
        yield made
    finally:
        await made.leave()
