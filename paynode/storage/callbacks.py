"""The inbox: callbacks of PSPs, stored before they are answered; and inquiries that a customer's return causes."""

from __future__ import annotations

import uuid
from typing import Final

import asyncpg

from paynode.domain.accepting import Operated, Received
from paynode.domain.ids import MERCHANT, public
from paynode.domain.payment import Fact
from paynode.domain.road import Pointer, commands_stream
from paynode.storage.bodies import encode_fact
from paynode.storage.postgres import Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("callbacks")

# The name space of inquiry ids. Any fixed UUID does; it must only never change.
_INQUIRIES: Final = uuid.UUID("b7c9ddf0-6a55-5ac7-9d0c-2e0c1a1d6f11")
# Seconds in which a second inquiry about the same operation is the same inquiry.
_INQUIRY_EVERY_S: Final = 10


class PgCallbacks:
    """Writes as the ingress's role. All of it raises Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def operation(self, operation_id: str, psp: str) -> Operated | None:
        """The operation that a PSP speaks about, if it is one that this PSP was given."""
        rows = await self._fetch("find_operation", operation_id, psp)
        if not rows:
            return None
        row = rows[0]
        return Operated(operation_id=row["id"], payment_id=row["payment_id"], merchant_id=row["merchant_id"])

    async def store(self, received: Received) -> None:
        """Keep a callback that speaks of nothing we know; nothing happens when it is kept already."""
        await self._keep("store_unmatched", *_inbox_row(received))

    async def store_evidence(self, received: Received, operated: Operated, fact: Fact, stream: str) -> Pointer | None:
        """Keep a callback and the evidence it is; None when it was kept before."""
        rows = await self._keep(
            "store_matched",
            *_inbox_row(received),
            operated.payment_id,
            fact.event_id,
            stream,
            operated.merchant_id,
            operated.operation_id,
            encode_fact(fact),
        )
        merchant = public(MERCHANT, operated.merchant_id)
        return Pointer(stream=stream, ref=fact.event_id, merchant=merchant) if rows else None

    async def ask_inquiry(self, payment_id: str, *, now_s: float) -> Pointer | None:
        """Have the gateway ask what became of the payment's charge; None when it is known, or asked just now."""
        charges = await self._fetch("find_open_charge", payment_id)
        if not charges:
            return None
        operation_id, stream = charges[0]["id"], commands_stream(charges[0]["psp"])
        ref = str(uuid.uuid5(_INQUIRIES, f"{operation_id}:{int(now_s) // _INQUIRY_EVERY_S}"))
        rows = await self._fetch("ask_inquiry", ref, stream, operation_id)
        return Pointer(stream=stream, ref=ref) if rows else None

    async def _keep(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        """Insert; a callback that was kept before is answered only when it is certain that it will not be lost."""
        async with borrowed(self._pool) as connection:
            rows = await connection.fetch(_SQL[statement], *arguments)
            if not rows:
                await confirm(connection)
        return rows

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with borrowed(self._pool) as connection:
            return await connection.fetch(_SQL[statement], *arguments)


def _inbox_row(received: Received) -> tuple[object, ...]:
    return (
        received.inbox_id,
        received.psp,
        received.event_id,
        received.our_reference,
        received.raw,
        received.claim,
        received.at,
    )
