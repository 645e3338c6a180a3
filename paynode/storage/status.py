"""How an installation stands, as the database knows it."""

from __future__ import annotations

from typing import Final

import orjson

from paynode.domain.overview import GatewayState, PartitionState, SingletonState, Standing, WorkerState
from paynode.storage import census
from paynode.storage.postgres import Connection, Session, translated
from paynode.storage.queries import load

_SQL: Final = load("status")


async def look(connection: Session) -> Standing:
    """All of it in one snapshot, so that its figures belong together; as the reader's role. Raises: Unavailable."""
    with translated():
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            return Standing(
                at=await connection.fetchval(_SQL["read_clock"]),
                census=await census.take(connection),
                partitions=await _partitions(connection),
                workers=await _workers(connection),
                gateways=await _gateways(connection),
                singletons=[
                    SingletonState(name=row["name"], owner=row["owner"], lease_ms=row["lease_ms"])
                    for row in await connection.fetch(_SQL["list_singletons"])
                ],
                in_doubt={row["psp"]: row["operations"] for row in await connection.fetch(_SQL["count_in_doubt"])},
                dead_letters={row["reason"]: row["letters"] for row in await connection.fetch(_SQL["count_reasons"])},
            )


async def _partitions(connection: Connection) -> list[PartitionState]:
    return [
        PartitionState(
            partition=row["partition"],
            owner=row["owner"],
            epoch=row["epoch"],
            lease_ms=row["lease_ms"],
            unclean_deaths=row["unclean_deaths"],
        )
        for row in await connection.fetch(_SQL["list_partitions"])
    ]


async def _workers(connection: Connection) -> list[WorkerState]:
    return [
        WorkerState(id=row["id"], started_at=row["started_at"], silent_ms=row["silent_ms"])
        for row in await connection.fetch(_SQL["list_workers"])
    ]


async def _gateways(connection: Connection) -> list[GatewayState]:
    return [
        GatewayState(
            id=row["id"],
            psp=row["psp"],
            started_at=row["started_at"],
            silent_ms=row["silent_ms"],
            breakers=orjson.loads(row["breakers"]),
            in_flight=row["in_flight"],
        )
        for row in await connection.fetch(_SQL["list_gateways"])
    ]
