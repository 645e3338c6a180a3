"""A worker's presence: one session that lives as long as the worker does, by which the others see it live or die."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.domain.ownership import Sight
from paynode.storage.postgres import Role, Session, close, connect, translated
from paynode.storage.queries import load

_SQL: Final = load("presence")

# Seconds between two tries to connect while the server is away. A fifth: whoever has been cut off has the grace of the
# others (worker.orphan_grace_ms) to come back, and a server that is away refuses at once.
_RETRY_S: Final = 0.2


class PgPresence:
    """The session, made again whenever it is cut. Every method but `stay` and `aclose` raises Unavailable.

    Never a pool's and never through a pooler: the server ends it when this process dies, and nobody else does.
    """

    def __init__(self, settings: Settings, *, worker_id: str) -> None:
        self._settings = settings
        self._worker_id = worker_id
        self._lease_s = settings.worker.lease_s
        self._one_at_a_time = anyio.Lock()
        self._session: Session | None = None
        self._is_cut = anyio.Event()

    async def stay(self) -> None:
        """Until cancelled: when the session is cut, make a new one at once.

        Others look every quarter of a second, and take the partitions of whoever they do not see.
        """
        while True:
            try:
                async with self.session():
                    is_cut = self._is_cut
                await is_cut.wait()
            except Unavailable:
                await anyio.sleep(_RETRY_S)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """The session, for one caller at a time; errors translated."""
        async with self._one_at_a_time:
            session = await self._connected()
            with translated():
                try:
                    yield session
                except TimeoutError:
                    # The server has gone silent, and this session with it. (A statement that the server itself ends
                    # for its length is another error, and the session stays.)
                    session.terminate()
                    raise

    async def _connected(self) -> Session:
        if self._session is None or self._session.is_closed():
            # A look or a renewal that takes longer than a lease is of no use to anybody.
            session = await connect(
                self._settings,
                Role.COMMITTER,
                application_name=f"{self._worker_id}-presence",
                statement_timeout_ms=round(self._lease_s * 1000),
            )
            try:
                with translated():
                    await session.execute(_SQL["stamp_session"], self._worker_id)
            except BaseException:
                session.terminate()
                raise
            self._session, self._is_cut = session, anyio.Event()
            session.add_termination_listener(lambda _, is_cut=self._is_cut: is_cut.set())
        return self._session

    async def beat(self) -> None:
        """Say that this worker lives."""
        async with self.session() as session:
            await session.execute(_SQL["beat_heart"], self._worker_id, self._lease_s)

    async def look(self) -> Sight:
        """Who else lives, and what could be taken."""
        async with self.session() as session:
            row = await session.fetchrow(_SQL["look_around"], self._worker_id)
        assert row is not None
        return Sight(live=1 + row["live"], before=row["before"], vacant=row["vacant"], orphaned=row["orphaned"])

    async def leave(self) -> None:
        """Count no more: the others take what is given back from now on."""
        async with self.session() as session:
            await session.execute(_SQL["leave_company"], self._worker_id)

    async def aclose(self) -> None:
        """End the session; may be called twice. Leases that were not given back are void from then on."""
        session, self._session = self._session, None
        if session is not None:
            await close(session)
