"""Flaws of the one write path and of reading a partition."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, replace
from typing import Any

import anyio
from redis.exceptions import ResponseError

from paynode.actors.relay import Relay
from paynode.domain.batch import Batch, Lease
from paynode.domain.road import Entry, Pointer, place_of
from paynode.storage.books import PgBooks
from paynode.storage.leases import PgLeases
from paynode.storage.postgres import Role, Session, close, connect
from paynode.streams.entries import Member
from paynode.streams.partition_feed import PartitionFeed
from tests.support.bugs.patching import Method, wrap

_DELIVERIES_MAX = 3
_WRITE_WALLET = """
INSERT INTO wallets (merchant_id, currency, pending, available, reserve, held, version, maturing)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (merchant_id, currency) DO UPDATE SET
    pending = excluded.pending, available = excluded.available, reserve = excluded.reserve, held = excluded.held,
    version = excluded.version, maturing = excluded.maturing
"""


def acknowledge_before_commit() -> None:
    """The message is off the road, its row deleted, before what it leads to is committed."""

    def make(commit: Method) -> Method:
        async def careless(self: Any, batch: Batch) -> None:
            session = await _beside(self)
            await session.execute("DELETE FROM outbox WHERE id = ANY($1::uuid[])", list(batch.claims))
            await close(session)
            await commit(self, replace(batch, claims=()))

        return careless

    wrap(PgBooks, "commit", make)


def no_epoch_check() -> None:
    """Whoever believes that it owns a partition writes, and is never told otherwise."""

    def make(commit: Method) -> Method:
        async def careless(self: Any, batch: Batch) -> None:
            session = await _beside(self)
            rows = await session.fetch("SELECT partition, epoch FROM partitions")
            await close(session)
            epochs = {row["partition"]: row["epoch"] for row in rows}
            leases = tuple(replace(lease, epoch=epochs[lease.partition]) for lease in batch.leases)
            await commit(self, replace(batch, leases=leases))

        return careless

    async def keep(self: Any, leases: Iterable[Lease]) -> frozenset[Lease]:
        return frozenset(leases)

    wrap(PgBooks, "commit", make)
    wrap(PgLeases, "keep", lambda _: keep)


def dedupe_by_entry() -> None:
    """An entry is known by its id on the stream, and its row is not deleted in the effect's transaction."""

    def make(commit: Method) -> Method:
        async def careless(self: Any, batch: Batch) -> None:
            await commit(self, replace(batch, claims=()))

        return careless

    wrap(PgBooks, "commit", make)


def wallet_outside_the_transaction() -> None:
    """The wallet is written beside the ledger, and not with it."""

    def make(commit: Method) -> Method:
        async def careless(self: Any, batch: Batch) -> None:
            session = await _beside(self)
            wallets = [(one.merchant_id, *astuple(one.wallet)) for one in batch.wallets]
            await session.executemany(_WRITE_WALLET, wallets)
            await close(session)
            await anyio.sleep(0.05)
            await commit(self, replace(batch, wallets=()))

        return careless

    wrap(PgBooks, "commit", make)


def dead_letter_by_deliveries() -> None:
    """What Redis has delivered so often counts as poison, whoever's fault it was."""

    def make(read: Method) -> Method:
        async def hasty(self: Any) -> Sequence[Entry]:
            entries: Sequence[Entry] = await read(self)
            return [await judged(self, entry) for entry in entries]

        async def judged(self: Any, entry: Entry) -> Entry:
            is_pos, number = place_of(entry.id)
            member = (self._pos if is_pos else self._ordinary).member
            [known] = await self._commands.xpending_range(member.stream, member.group, number, number, 1) or [{}]
            is_condemned = known.get("times_delivered", 0) >= _DELIVERIES_MAX
            return replace(entry, fields={"poison": "delivered too often"}) if is_condemned else entry

        return hasty

    wrap(PartitionFeed, "read", make)


def group_at_the_end() -> None:
    """A group that is missing is made at `$`: what came before it is passed over."""

    def make(_: Method) -> Method:
        async def make_group(self: Any, client: Any) -> bool:
            try:
                await client.xgroup_create(self.stream, self.group, id="$", mkstream=True)
            except ResponseError:  # of two lanes one may be there still
                return False
            return True

        return make_group

    wrap(Member, "make_group", make)


def sweep_of_what_was_not_published() -> None:
    """What was published once counts as arrived: only what never was is published again."""

    async def nothing(self: Any) -> list[Pointer]:
        return []

    wrap(Relay, "_missing", lambda _: nothing)


async def _beside(books_: Any) -> Session:
    return await connect(books_._settings, Role.COMMITTER, application_name="careless")
