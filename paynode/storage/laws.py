"""The laws of money, looked at from a session of their own: it may take as long as the ledger is long."""

from __future__ import annotations

from collections.abc import Mapping

from paynode.config import Settings
from paynode.storage.invariants import check
from paynode.storage.postgres import Role, session


class PgLaws:
    """Looks as the reader's role, without a time-out. `due_max_s`: seconds that a message may have been due."""

    def __init__(self, settings: Settings, *, name: str, due_max_s: float) -> None:
        self._settings = settings
        self._name = name
        self._due_max_s = due_max_s

    async def look(self) -> Mapping[str, int]:
        """How often each law is broken, all in one snapshot. Raises: Unavailable."""
        async with session(
            self._settings, Role.READER, application_name=self._name, statement_timeout_ms=0
        ) as connection:
            findings = await check(connection, due_max_s=self._due_max_s)
        return {finding.law: finding.breaches.total for finding in findings}
