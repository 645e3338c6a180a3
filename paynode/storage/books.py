"""The one write path of money: a batch of effects in one fenced transaction."""

from __future__ import annotations

import asyncio
from typing import Final

import anyio
import asyncpg

from paynode.config import Settings
from paynode.domain.batch import Batch
from paynode.domain.errors import CommitAmbiguous, Conflict, Fenced, Poison, Unavailable
from paynode.storage import batch_rows
from paynode.storage.batch_rows import instant_of_copy
from paynode.storage.postgres import BY_KEY, Role, Session, close, connect, is_cut_off, translated
from paynode.storage.queries import load

_SQL: Final = load("books")

# Beginnings of SQLSTATE that speak of what was to be written: a value no column takes, a CHECK, a size beyond a limit.
_OF_THE_BATCH: Final = ("22", "23", "54")
# What `write_batch` raises when leases are lost.
_FENCED: Final = "PN001"

# Lines of the ledger above which they are copied: below it the round trips cost more than COPY saves.
_COPIED_ABOVE: Final = 200
# Seconds by which the server's own bound of a statement comes before ours.
_SERVER_FIRST_S: Final = 0.5


class PgBooks:
    """A committer's own database session: never a pool's, never through a pooler, made again after every failure.

    Its errors: Fenced (some lease is not ours: nothing was written), Conflict (somebody wrote first: load again),
    Unavailable (nothing was written), Poison (a CHECK or a type refused something in it). An ambiguous COMMIT never
    leaves here: it is settled first.
    """

    def __init__(self, settings: Settings, *, name: str) -> None:
        self._settings = settings
        self._name = name
        self._session: Session | None = None

    async def commit(self, batch: Batch) -> None:
        """Write a batch; when this returns, all of it is durable."""
        try:
            await self._transact(await self._connected(), batch)
        except CommitAmbiguous:
            await self.aclose()
            await self._settle(batch)
        except asyncpg.PostgresError as error:
            await self.aclose()
            raise _refusal(error) from error
        except BaseException:
            # Whatever state the session is in, the next batch gets a new one; the server rolls this one back.
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End the session; may be called twice."""
        session, self._session = self._session, None
        if session is not None:
            await close(session)

    async def _connected(self) -> Session:
        if self._session is None or self._session.is_closed():
            session = await connect(self._settings, Role.COMMITTER, application_name=self._name, planner=BY_KEY)
            try:
                with translated():
                    await session.set_type_codec(
                        "timestamptz", schema="pg_catalog", encoder=_as_it_is, decoder=_as_it_is, format="tuple"
                    )
            except BaseException:
                session.terminate()
                raise
            self._session = session
        return self._session

    async def _transact(self, session: Session, batch: Batch) -> None:
        is_large = len(batch.entries) > _COPIED_ABOVE
        document = batch_rows.document(batch, lease_s=self._settings.worker.lease_s, has_ledger=not is_large)
        if not is_large:
            await self._end(session, _SQL["write_batch"], document)
            return
        with translated():
            await session.execute("BEGIN")
            await _copy_ledger(session, batch)
            await session.execute(_SQL["write_batch"], document)
        await self._end(session, "COMMIT")

    async def _end(self, session: Session, statement: str, *arguments: object) -> None:
        """The statement with which the transaction ends, bounded by closing the socket and never by cancelling.

        asyncpg answers a time-out or a cancellation with a cancel request, and a COMMIT cancelled under synchronous
        replication reports success for a row that is visible and not replicated. The server's own bound is on the
        statement, before its COMMIT: it comes first and leaves no doubt.
        """
        bound_s = self._settings.database.statement_timeout_ms / 1000
        closing = asyncio.get_running_loop().call_later(bound_s + _SERVER_FIRST_S, session.terminate)
        try:
            with translated(), anyio.CancelScope(shield=True):
                await session.execute(statement, *arguments, timeout=2 * (bound_s + _SERVER_FIRST_S))
        except Unavailable as error:
            if is_cut_off(error):
                raise CommitAmbiguous(str(error)) from error
            raise
        finally:
            closing.cancel()

    async def _settle(self, batch: Batch) -> None:
        """Find out whether the batch was committed: returns if it was.

        A server that meets the batch only afterwards finds its claims gone or its versions passed, or is first, and
        then it is ours that finds them so: of the two only one is written.

        Raises: Conflict when it was not; Fenced when no lease is ours any more (the next owner finds the rows as
        they are); Unavailable while the server is away, and then too nothing may be concluded but by loading again.
        """
        with translated():
            rows = await (await self._connected()).fetch(
                _SQL["learn_fate"],
                [lease.partition for lease in batch.leases],
                [lease.epoch for lease in batch.leases],
                self._settings.worker.lease_s,
            )
        if any(row["last_batch"] == batch.id for row in rows):
            return
        if not rows:
            raise Fenced(frozenset(lease.partition for lease in batch.leases))
        raise Conflict("the batch whose COMMIT was cut off was not committed")


def _refusal(error: asyncpg.PostgresError) -> Fenced | Poison | Unavailable:
    """What would refuse every batch (a right, a table that is missing) is no message's fault: it waits to be mended."""
    if error.sqlstate == _FENCED:
        return Fenced(frozenset(int(partition) for partition in str(error.detail).split(",")))
    what = f"{type(error).__name__} ({error.sqlstate})"
    is_of_the_batch = (error.sqlstate or "").startswith(_OF_THE_BATCH)
    return Poison("refused_by_database", what) if is_of_the_batch else Unavailable(what)


def _as_it_is(instant: tuple[int]) -> tuple[int]:
    return instant


async def _copy_ledger(session: Session, batch: Batch) -> None:
    await session.copy_records_to_table(
        "ledger_entries", records=batch_rows.entries(batch, instant_of_copy), columns=batch_rows.ENTRY_COLUMNS
    )
    await session.copy_records_to_table(
        "wallet_adjustments",
        records=batch_rows.adjustments(batch, instant_of_copy),
        columns=batch_rows.ADJUSTMENT_COLUMNS,
    )
    if batch.verdicts:
        await session.copy_records_to_table(
            "applied_events", records=batch_rows.verdicts(batch), columns=batch_rows.VERDICT_COLUMNS
        )
