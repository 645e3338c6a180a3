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
from paynode.storage.postgres import Role, Session, close, connect, translated
from paynode.storage.queries import load

_SQL: Final = load("books")

# Beginnings of SQLSTATE that speak of what was to be written: a value no column takes, a CHECK, a size beyond a limit.
_OF_THE_BATCH: Final = ("22", "23", "54")


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
            self._session = await connect(self._settings, Role.COMMITTER, application_name=self._name, is_by_key=True)
        return self._session

    async def _transact(self, session: Session, batch: Batch) -> None:
        with translated():
            await session.execute("BEGIN")
            await _write(session, batch)
            await self._renew(session, batch)
        try:
            with translated(), anyio.CancelScope(shield=True):
                await self._end(session)
        except Unavailable as error:
            raise CommitAmbiguous(str(error)) from error

    async def _end(self, session: Session) -> None:
        """COMMIT, bounded by closing the socket and never by cancelling.

        asyncpg answers a time-out or a cancellation with a cancel request, and a COMMIT cancelled under synchronous
        replication reports success for a row that is visible and not replicated.
        """
        bound_s = self._settings.database.statement_timeout_ms / 1000
        closing = asyncio.get_running_loop().call_later(bound_s, session.terminate)
        try:
            await session.execute("COMMIT", timeout=2 * bound_s)
        finally:
            closing.cancel()

    async def _renew(self, session: Session, batch: Batch) -> None:
        rows = await session.fetch(
            _SQL["renew_leases"],
            [lease.partition for lease in batch.leases],
            [lease.epoch for lease in batch.leases],
            self._settings.worker.lease_s,
            batch.id,
        )
        # By epoch too: of two leases on one partition, which an owner that was stopped may hold, one is over.
        kept = {(row["partition"], row["epoch"]) for row in rows}
        lost = frozenset(lease.partition for lease in batch.leases if (lease.partition, lease.epoch) not in kept)
        if lost:
            raise Fenced(lost)

    async def _settle(self, batch: Batch) -> None:
        """Find out whether the batch was committed: returns if it was.

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


def _refusal(error: asyncpg.PostgresError) -> Poison | Unavailable:
    """What would refuse every batch (a right, a table that is missing) is no message's fault: it waits to be mended."""
    what = f"{type(error).__name__} ({error.sqlstate})"
    is_of_the_batch = (error.sqlstate or "").startswith(_OF_THE_BATCH)
    return Poison("refused_by_database", what) if is_of_the_batch else Unavailable(what)


async def _write(session: Session, batch: Batch) -> None:
    """All rows of a batch. Each count is compared: what was decided upon must be what is there.

    But for inquiries, of which one may wait already, and for letters, which may have been written before.
    """
    await _execute(session, "claim_effects", list(batch.claims), expected=len(batch.claims))
    await _execute(session, "insert_evidence", batch_rows.evidence(batch), expected=len(batch.facts))
    await _execute(session, "update_payments", batch_rows.payments(batch), expected=len(batch.payments))
    await _execute(session, "insert_operations", batch_rows.made(batch), expected=len(batch.made))
    operations = sum(len(change.payment.operations) for change in batch.payments)
    await _execute(session, "update_operations", batch_rows.operations(batch), expected=operations)
    await _execute(session, "decide_requests", batch_rows.decided(batch), expected=len(batch.decided))
    await _write_money(session, batch)
    await _execute(session, "insert_events", batch_rows.events(batch), expected=len(batch.events))
    if batch.commands:
        await session.execute(_SQL["insert_commands"], batch_rows.commands(batch))
    if batch.answered:
        await session.execute(_SQL["forget_inquiries"], batch.answered)
    await _write_ends(session, batch)


async def _write_ends(session: Session, batch: Batch) -> None:
    """What was not booked, or not booked alone: letters, what waits behind them, and verdicts upon outside events."""
    rows = [letter for letter in batch.letters if letter.what.ref is not None]
    await _execute(session, "bury_rows", batch_rows.letters(rows), expected=len(rows))
    await _execute(session, "park_rows", list(batch.parked), expected=len(batch.parked))
    await _execute(session, "insert_verdicts", batch_rows.verdicts(batch), expected=len(batch.verdicts))
    entries = [letter for letter in batch.letters if letter.what.ref is None]
    if entries:
        await session.execute(_SQL["insert_letters"], batch_rows.letters(entries))


async def _write_money(session: Session, batch: Batch) -> None:
    if not batch.entries:
        return
    await session.copy_records_to_table(
        "ledger_entries", records=batch_rows.entries(batch), columns=batch_rows.ENTRY_COLUMNS
    )
    await session.copy_records_to_table(
        "wallet_adjustments", records=batch_rows.adjustments(batch), columns=batch_rows.ADJUSTMENT_COLUMNS
    )
    known = [change for change in batch.wallets if change.base_version]
    new = [change for change in batch.wallets if not change.base_version]
    await _execute(session, "update_wallets", batch_rows.wallets(known), expected=len(known))
    await _execute(session, "insert_wallets", batch_rows.wallets(new), expected=len(new))
    begun = [change for change in batch.heads if change.base_seq]
    first = [change for change in batch.heads if not change.base_seq]
    await _execute(session, "update_heads", batch_rows.heads(begun), expected=len(begun))
    await _execute(session, "insert_heads", batch_rows.heads(first), expected=len(first))


async def _execute(session: Session, query: str, rows: object, *, expected: int) -> None:
    """Run a statement over `expected` rows, or not at all when there are none.

    Raises: Conflict when it did not touch just as many.
    """
    if expected == 0:
        return
    tag = await session.execute(_SQL[query], rows)
    if int(tag.rsplit(" ", 1)[1]) != expected:
        raise Conflict(f"{query}: {tag}, not {expected}")
