"""The inbox: callbacks of PSPs, stored before they are answered; and inquiries that they and customers cause."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

import asyncpg
import orjson

from paynode.domain.accepting import Heard, Operated, Received, Spoken
from paynode.domain.callbacks import Aside
from paynode.domain.errors import Poison
from paynode.domain.ids import MERCHANT, public
from paynode.domain.payment import Fact
from paynode.domain.psp import Answer, Outcome
from paynode.domain.road import Pointer, commands_stream, follow_up_lane, pos_lane
from paynode.storage.bodies import encode_fact
from paynode.storage.postgres import Pool, borrowed, confirm
from paynode.storage.queries import load

_SQL: Final = load("callbacks")

# The name space of inquiry ids. Any fixed UUID does; it must only never change.
_INQUIRIES: Final = uuid.UUID("b7c9ddf0-6a55-5ac7-9d0c-2e0c1a1d6f11")
# Seconds in which a second inquiry about the same operation is the same inquiry.
_INQUIRY_EVERY_S: Final = 10


class PgCallbacks:
    """Writes as the ingress's role; what was kept aside is taken and matched as the gateway's. All of it raises
    Unavailable."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def operations(self, spoken: Sequence[Spoken]) -> Sequence[Operated | None]:
        """For each the operation that a PSP speaks about, if this PSP has it, or was to have it before another one got
        it, and if it is of one of the kinds."""
        asked = [
            {"n": n, "id": one.operation_id, "psp": one.psp, "kinds": sorted(one.kinds)} for n, one in enumerate(spoken)
        ]
        rows = await self._fetch("find_operations", orjson.dumps(asked).decode())
        found = {row["n"]: _operated(row) for row in rows}
        return [found.get(n) for n in range(len(spoken))]

    async def store(self, received: Received) -> None:
        """Keep a callback that speaks of nothing we know; nothing happens when it is kept already."""
        await self._keep("store_unmatched", *_inbox_row(received))

    async def store_evidence(self, heard: Sequence[Heard]) -> Sequence[Pointer | None]:
        """Keep callbacks and the evidence they are, all or none; None for one that was kept before.

        Each under one id: whoever reads the evidence finds in the inbox which PSP has told it.

        Raises: Poison also, when the database refuses one of them.
        """
        try:
            told = orjson.dumps([_heard(one) for one in heard]).decode()
            async with borrowed(self._pool) as connection:
                rows = await connection.fetch(_SQL["store_matched"], told)
                if len(rows) < len(heard):
                    await confirm(connection)  # as in `_keep`
        except orjson.JSONEncodeError as error:
            raise Poison("callback_invalid", str(error)) from error
        except (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError) as error:
            raise Poison("refused_by_database", f"{type(error).__name__} ({error.sqlstate})") from error
        kept = {row["id"] for row in rows}
        return [_pointer(one) if one.fact.event_id in kept else None for one in heard]

    async def store_question(self, received: Received, operated: Operated) -> Pointer | None:
        """Keep a callback, and have the PSP asked whether it is true, under its id; None when it was kept before."""
        ref, stream = received.inbox_id, _lane(received.psp, operated)
        rows = await self._keep(
            "store_questioned", *_inbox_row(received), operated.payment_id, ref, stream, operated.operation_id
        )
        return Pointer(stream=stream, ref=ref) if rows else None

    async def take_aside(self, count: int, *, look_for_s: float, look_max_s: float) -> Sequence[Aside]:
        """Callbacks that found no operation when they came, and whose turn it is to look again."""
        return [_aside(row) for row in await self._fetch("take_aside", count, look_for_s, look_max_s)]

    async def match(self, aside: Aside, fact: Fact, stream: str) -> bool:
        """Give a callback its payment, and make it the evidence that it is; False when that was done before."""
        operated = _known(aside)
        rows = await self._fetch(
            "match_callback",
            aside.inbox_id,
            operated.payment_id,
            stream,
            operated.merchant_id,
            operated.operation_id,
            encode_fact(fact),
        )
        return bool(rows)

    async def match_by_asking(self, aside: Aside) -> bool:
        """Give a callback its payment, and have the PSP asked; False when that was done before."""
        operated = _known(aside)
        stream = _lane(aside.psp, operated)
        return bool(
            await self._fetch("match_questioned", aside.inbox_id, operated.payment_id, stream, operated.operation_id)
        )

    async def ask_inquiry(self, payment_id: str, *, now_s: float) -> Pointer | None:
        """Have the gateway ask what became of the payment's charge; None when it is known, or asked just now."""
        charges = await self._fetch("find_open_charge", payment_id)
        if not charges:
            return None
        operation_id, stream = charges[0]["id"], follow_up_lane(commands_stream(charges[0]["psp"]))
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


def _operated(row: asyncpg.Record) -> Operated:
    return Operated(
        operation_id=row["id"], payment_id=row["payment_id"], merchant_id=row["merchant_id"], is_pos=row["is_pos"]
    )


def _heard(one: Heard) -> dict[str, object]:
    received, operated = one.received, one.operated
    return {
        "id": one.fact.event_id,
        "psp": received.psp,
        "event_id": received.event_id,
        "our_reference": received.our_reference,
        "raw": received.raw.hex(),
        "claim": received.claim,
        "received_at": received.at,
        "payment_id": operated.payment_id,
        "stream": one.stream,
        "merchant_id": operated.merchant_id,
        "operation_id": operated.operation_id,
        "evidence": encode_fact(one.fact),
    }


def _pointer(one: Heard) -> Pointer:
    return Pointer(stream=one.stream, ref=one.fact.event_id, merchant=public(MERCHANT, one.operated.merchant_id))


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


def _aside(row: asyncpg.Record) -> Aside:
    operated = None
    if row["operation_id"] is not None:
        operated = Operated(
            operation_id=row["operation_id"], payment_id=row["payment_id"], merchant_id=row["merchant_id"]
        )
    return Aside(
        inbox_id=row["inbox_id"],
        psp=row["psp"],
        event_id=row["event_id"],
        claim=_claimed(row["claim"]),
        operated=operated,
    )


def _claimed(text: str) -> Answer:
    """What the ingress wrote down; an older one may have known less."""
    fields = orjson.loads(text)
    known = {name: fields[name] for name in Answer.__dataclass_fields__ if name in fields}
    return Answer(**{**known, "outcome": Outcome(fields["outcome"])})


def _lane(psp: str, operated: Operated) -> str:
    """Where a PSP is asked about an operation."""
    stream = commands_stream(psp)
    return pos_lane(stream) if operated.is_pos else follow_up_lane(stream)


def _known(aside: Aside) -> Operated:
    assert aside.operated is not None, "only what has found its operation is matched"
    return aside.operated
