"""Old months of the ledger leave it, while payments go on.

What the months came to is summed up first, under a lock that keeps writers off the old months alone, where nobody
writes any more. Only then is the ledger itself locked, for as long as it takes to detach some tables: DETACH
CONCURRENTLY, which locks less, is not to be had beside a default partition, nor in the transaction of the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import anyio
import asyncpg
import orjson

from paynode.config import Settings
from paynode.domain.errors import Unavailable
from paynode.storage.invariants import check
from paynode.storage.postgres import Role, Session, session, translated
from paynode.storage.queries import load

_SQL: Final = load("retiring")
_NAME: Final = "paynode ledger retire"

# Milliseconds in which the ledger's lock is to be had: who writes meanwhile waits behind us, and no longer than that.
_LOCK_MS: Final = 100
# Seconds between two tries, in which everybody else goes on; and for how long in all we try.
_PAUSE_S: Final = 1.0
PATIENCE_S: Final = 300.0
# Entries that are copied while the ledger is locked, at most: some tenths of a second.
_COPIED_MAX: Final = 10_000
# Seconds: what waits in the outbox says nothing about old months.
_DUE_MAX_S: Final = 1e9


class RetirementRefused(Exception):
    """These months may not leave the ledger; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retirement:
    """What is to leave: all months before the instant. The manifest is that of their export; its hash is a sha256."""

    before: datetime
    manifest: str
    manifest_sha256: bytes
    actor: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired:
    """The tables that are detached now, the number of entries in them, and the hash of what they came to."""

    partitions: tuple[str, ...]
    entries: int
    openings_sha256: bytes


async def retire(settings: Settings, asked: Retirement, *, patience_s: float = PATIENCE_S) -> Retired:
    """Detach the months, and keep what they came to; all of it or nothing.

    Raises: RetirementRefused; Unavailable when the ledger was not to be had for `patience_s`, or the database is away.
    """
    # No statement timeout: how long the sums take depends on the size of the months. Read committed: what is read after
    # a lock was waited for must show what was written meanwhile.
    async with session(settings, Role.OWNER, application_name=_NAME, statement_timeout_ms=0) as owner:
        with translated():
            async with owner.transaction():
                leaving = await _hold(owner, asked.before)
                await _check_laws(settings)
                retired = await _carry_over(owner, asked, leaving.tables)
                await _detach(owner, leaving, patience_s)
    return retired


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leaving:
    """Tables of months; and `rest`, the name under which the default partition leaves with them, if it must."""

    before: datetime
    months: tuple[str, ...]
    rest: str | None

    @property
    def tables(self) -> tuple[str, ...]:
        return self.months if self.rest is None else (*self.months, self.rest)


async def _hold(owner: Session, before: datetime) -> _Leaving:
    """What leaves. Until the end of the transaction it is read by everybody and written by nobody."""
    await owner.execute(_SQL["hold_retirements"])
    await _check_boundary(owner, before)
    months = tuple(row["name"] for row in await owner.fetch(_SQL["list_months"], before))
    # Names of the catalogue's own, quoted by it.
    await owner.execute(f"LOCK TABLE {', '.join((*months, 'ledger_entries_default'))} IN SHARE MODE")
    rest = await owner.fetchrow(_SQL["count_rest"], before)
    assert rest is not None
    if not months and not rest["old"]:
        raise RetirementRefused(f"the ledger has nothing from before {before:%Y-%m}")
    if rest["old"] and rest["young"] > _COPIED_MAX:
        raise RetirementRefused(
            f"{rest['young']} entries of later months are in the default partition: choose one later"
        )
    return _Leaving(before=before, months=months, rest=f"ledger_entries_rest_{before:%Y_%m}" if rest["old"] else None)


async def _check_boundary(owner: Session, before: datetime) -> None:
    boundary = await owner.fetchrow(_SQL["read_boundary"], before)
    assert boundary is not None
    if not (boundary["is_month"] and boundary["is_past"]):
        raise RetirementRefused(f"{before:%Y-%m-%d} is not the first day of a month, or was not yesterday or before")
    if boundary["retired_before"] is not None and before <= boundary["retired_before"]:
        raise RetirementRefused(f"what was before {boundary['retired_before']:%Y-%m} is retired already")


async def _check_laws(settings: Settings) -> None:
    """What leaves is not looked at again: the laws must hold while it is still there."""
    async with session(settings, Role.READER, application_name=_NAME, statement_timeout_ms=0) as reader:
        findings = await check(reader, due_max_s=_DUE_MAX_S)
    if broken := [finding.law for finding in findings if finding.breaches.total]:
        raise RetirementRefused(f"laws of money are broken ({', '.join(broken)}): see `paynode doctor`")


async def _carry_over(owner: Session, asked: Retirement, tables: Sequence[str]) -> Retired:
    for statement in ("insert_openings", "insert_balances", "insert_payments"):
        await owner.execute(_SQL[statement], asked.before)
    if overlaps := await owner.fetch(_SQL["list_overlaps"], asked.before):
        raise RetirementRefused(
            f"at the end of the month before {asked.before:%Y-%m} the order of numbers is not that of times for "
            f"{', '.join(row['merchant_id'] for row in overlaps)}: choose another month"
        )
    row = await owner.fetchrow(
        _SQL["insert_retirement"], asked.before, tables, asked.manifest, asked.manifest_sha256, asked.actor
    )
    assert row is not None
    retired = Retired(partitions=tuple(tables), entries=row["entries"], openings_sha256=row["openings_sha256"])
    detail = {
        "partitions": tables,
        "entries": retired.entries,
        "manifest_sha256": asked.manifest_sha256.hex(),
        "openings_sha256": retired.openings_sha256.hex(),
    }
    subject = f"ledger before {asked.before:%Y-%m}"
    await owner.execute(_SQL["insert_audit"], asked.actor, subject, asked.note, orjson.dumps(detail).decode())
    return retired


async def _detach(owner: Session, leaving: _Leaving, patience_s: float) -> None:
    """Try again and again, each time but for a moment; between tries, what was summed up so far is kept.

    Raises: Unavailable.
    """
    deadline = anyio.current_time() + patience_s
    while not await _try_detach(owner, leaving):
        if anyio.current_time() > deadline:
            raise Unavailable(f"somebody has been reading the whole ledger for {patience_s:g} s")
        await anyio.sleep(_PAUSE_S)


async def _try_detach(owner: Session, leaving: _Leaving) -> bool:
    try:
        async with owner.transaction():  # a savepoint
            await owner.execute(_SQL["shorten_waiting"], f"{_LOCK_MS}ms")
            await owner.execute(_SQL["lock_ledger"])
            await owner.execute(_SQL["detach_months"], leaving.months)
            if leaving.rest is not None:
                await owner.execute(_SQL["renew_default"], leaving.before, leaving.rest)
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError):
        return False
    return True
