"""Who owns what: partitions by lease and epoch, singletons by lease."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from paynode.domain.batch import Lease
from paynode.domain.ownership import Taken
from paynode.storage.postgres import Pool, borrowed
from paynode.storage.presence import PgPresence
from paynode.storage.queries import load

_SQL: Final = load("leases")


class PgLeases:
    """One worker's leases on partitions, kept by the session of its presence. Every method raises Unavailable.

    The name of each database session of the worker begins with `worker_id`.
    """

    def __init__(self, presence: PgPresence, *, worker_id: str, lease_s: float) -> None:
        self._presence = presence
        self._worker_id = worker_id
        self._lease_s = lease_s

    async def take(self, count: int) -> Sequence[Taken]:
        """At most `count` partitions that nobody owns, each under a new epoch.

        What an owner that is gone may still hold of them is taken from it first.
        """
        async with self._presence.session() as session:
            await session.execute(_SQL["end_sessions"], self._worker_id)
            rows = await session.fetch(_SQL["take_leases"], self._worker_id, count, self._lease_s)
        return [
            Taken(
                lease=Lease(partition=row["partition"], epoch=row["epoch"]),
                owner_before=row["owner_before"],
                unclean_deaths=row["unclean_deaths"],
            )
            for row in rows
        ]

    async def keep(self, leases: Iterable[Lease]) -> frozenset[Lease]:
        """Renew the leases; returns those that are still ours."""
        held = list(leases)
        async with self._presence.session() as session:
            rows = await session.fetch(
                _SQL["keep_leases"],
                [lease.partition for lease in held],
                [lease.epoch for lease in held],
                self._lease_s,
            )
        kept = {row["partition"] for row in rows}
        return frozenset(lease for lease in held if lease.partition in kept)

    async def release(self, lease: Lease) -> None:
        """Give a partition back; whatever was read of it must be committed or forgotten before."""
        async with self._presence.session() as session:
            await session.execute(_SQL["release_lease"], lease.partition, lease.epoch)


async def count_partitions(pool: Pool) -> int:
    """How many partitions the database was made for. Raises: Unavailable."""
    async with borrowed(pool) as connection:
        return int(await connection.fetchval(_SQL["count_partitions"]))


class PgSingleton:
    """The lease on doing something that only one process does at a time. Raises Unavailable."""

    def __init__(self, pool: Pool, *, name: str, owner: str, lease_s: float) -> None:
        self._pool = pool
        self._name = name
        self._owner = owner
        self._lease_s = lease_s

    async def hold(self) -> bool:
        """Take or keep the lease; says whether it is ours now."""
        async with borrowed(self._pool) as connection:
            tag = await connection.execute(_SQL["hold_lease"], self._name, self._owner, self._lease_s)
        return bool(tag.endswith(" 1"))

    async def drop(self) -> None:
        """Leave it to the next one."""
        async with borrowed(self._pool) as connection:
            await connection.execute(_SQL["drop_lease"], self._name, self._owner)
